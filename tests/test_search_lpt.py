"""LPT: what the tester selects, how it learns, and that alphas descend the selected loss."""

import copy

import numpy as np
import pytest
import torch
from searching import task
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.training.device import seeded
from search.engine.composition import compose
from search.searching import Conducted, Search
from search.wrappers import lpt as source
from search.wrappers.lpt import Images, Lpt


def short(method: str, images: int, space: str = "nasbench201", **arguments) -> Conducted:
    return Search(task(), space, method, images=images, channels=2, cells=1, **arguments).conduct()


def lpt(search: Conducted) -> Lpt:
    return next(w for w in search.composed.wrappers if isinstance(w, Lpt))


def make(gamma: float = 1.0, lam: float = 1.0, **rates) -> source.Tester:
    with seeded(0):
        return source.Tester(
            3, rates.get("rate", 0.05), rates.get("selector_rate", 0.01), gamma, lam
        )


def images(count: int, seed: int, classes: int = 3) -> Images:
    """Return images whose brightness tells their class."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (count,), generator=generator)
    return torch.randn(count, 3, 8, 8, generator=generator) + y[:, None, None, None], y


# -- the tester ----------------------------------------------------------------------------------


def test_at_first_every_image_is_as_likely_as_any_other():
    selected = make().selection(images(20, 0)[0])
    assert torch.equal(selected, torch.full((20,), 0.5))


def test_encoder_and_head_descend_their_loss_on_training_and_selected_images():
    one = make(gamma=0.7)
    with torch.no_grad():
        one.selector.weight.normal_(generator=torch.Generator().manual_seed(1))
    plain = copy.deepcopy(one)
    train, bank, valid = images(16, 1), images(12, 2), images(16, 3)
    loss = F.cross_entropy(plain.head(plain.encoder(train[0])), train[1])
    each = F.cross_entropy(plain.head(plain.encoder(bank[0])), bank[1], reduction="none")
    loss = loss + 0.7 * (plain.selection(bank[0]).detach() * each).mean()
    learnt = [*plain.encoder.parameters(), *plain.head.parameters()]
    slopes = torch.autograd.grad(loss, learnt)
    one.teach(train, bank, torch.rand(12), valid)
    for weight, slope, found in zip(
        learnt, slopes, [*one.encoder.parameters(), *one.head.parameters()], strict=True
    ):
        torch.testing.assert_close(found, weight - 0.05 * slope)


def test_the_selector_ascends_the_objective_through_the_unrolled_step():
    one = make(gamma=2.0, lam=3.0, rate=0.5).double()
    with torch.no_grad():
        one.selector.weight.normal_(generator=torch.Generator().manual_seed(1))
    train, bank, valid = ((x.double(), y) for x, y in (images(8, s) for s in (1, 2, 3)))
    learner = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def objective(moved: float, entry: int) -> float:
        """Compute the third stage by a plain step of a copy, without a graph through it."""
        trial = copy.deepcopy(one)
        with torch.no_grad():
            trial.selector.weight[0, entry] += moved
        loss = F.cross_entropy(trial.head(trial.encoder(train[0])), train[1])
        each = F.cross_entropy(trial.head(trial.encoder(bank[0])), bank[1], reduction="none")
        loss = loss + 2.0 * (trial.selection(bank[0]).detach() * each).mean()
        learnt = [*trial.encoder.parameters(), *trial.head.parameters()]
        with torch.no_grad():
            for weight, slope in zip(learnt, torch.autograd.grad(loss, learnt), strict=True):
                weight.sub_(0.5 * slope)
            f = trial.selection(bank[0])
            own = F.cross_entropy(trial.head(trial.encoder(valid[0])), valid[1])
            return float((f * learner).sum() / f.sum() - 3.0 * own)

    entries = (0, 13, 40)
    expected = [(objective(1e-5, k) - objective(-1e-5, k)) / 2e-5 for k in entries]
    one.teach(train, bank, learner, valid)
    found = [-float(one.selector.weight.grad[0, k]) for k in entries]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert max(map(abs, expected)) > 1e-4


def hard_is_selected(lam: float) -> float:
    """Let a tester learn beside a learner that fails on wrongly labelled images, and on these only.

    Returns:
        By how much the hard images are likelier to be selected than the easy ones.
    """
    one = make(gamma=5.0, lam=lam, rate=0.2, selector_rate=0.02)
    x, y = images(40, 5)
    hard = torch.arange(40) % 2 == 0
    y = torch.where(hard, (y + 1) % 3, y)
    x[hard, 0] += 4.0  # so that the selector can tell them apart
    learner = torch.where(hard, 3.0, 0.1)
    valid, train = images(40, 6), images(40, 7)
    valid[0][:, 0] += 4.0
    for _ in range(40):
        one.teach(train, (x, y), learner, valid)
    f = one.selection(x).detach()
    assert ((f >= 0) & (f <= 1)).all()
    return float(f[hard].mean() - f[~hard].mean())


def test_the_selector_moves_towards_what_is_hard_unless_that_teaches_nothing():
    assert hard_is_selected(lam=0.0) > 0.1
    assert hard_is_selected(lam=1000.0) < 0.02


# -- the wrapper ---------------------------------------------------------------------------------


def test_weights_are_selections_over_their_mean_and_go_to_the_alphas_only():
    found = short("darts+lpt", 80)
    run, wrapper = found.run, lpt(found)
    with torch.no_grad():
        wrapper.tester.selector.weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    batch = run.batch("architecture")
    weights = wrapper.weights(batch.index)
    f = wrapper.tester.selection(run.train_x[batch.index])
    assert float(weights.mean()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(weights, f / f.mean())
    assert weights.std() > 0.01
    with torch.no_grad():
        logits = run.forward(batch.x, run.method.mixture(run))
        each = F.cross_entropy(logits, batch.y, reduction="none")
        torch.testing.assert_close(run.loss(logits, batch, "architecture"), (weights * each).mean())
        torch.testing.assert_close(run.loss(logits, batch, "weights"), each.mean())


def test_the_first_step_of_the_alphas_is_that_of_the_method_alone():
    alone, wrapped = short("darts", 40).run, short("darts+lpt", 40).run
    assert torch.equal(alone.method.alphas.alpha, wrapped.method.alphas.alpha)


def test_the_tester_learns_from_the_losses_of_the_alphas_on_images_of_its_own(monkeypatch):
    taught = []
    monkeypatch.setattr(source.Tester, "teach", lambda self, *given: taught.append(given))
    found = short("darts+lpt", 160)
    run = found.run
    assert len(taught) == run.steps == 4
    rows = {
        tuple(x.flatten().tolist()): k
        for k, x in enumerate(run.train_x[torch.arange(len(run.train_x))])
    }

    def numbers(x) -> set[int]:
        return {rows[tuple(image.flatten().tolist())] for image in x}

    for train, bank, losses, valid in taught:
        assert numbers(bank[0]) <= set(run.sides["architecture"].tolist())
        assert numbers(train[0]) <= set(run.sides["weights"][::2].tolist())
        assert numbers(valid[0]) <= set(run.sides["weights"][1::2].tolist())
        assert losses.shape == bank[1].shape
    assert run.images == 160  # the tester's passes are no part of the budget


def test_it_does_not_learn_between_steps_of_the_alphas(monkeypatch):
    taught = []
    monkeypatch.setattr(source.Tester, "teach", lambda self, *given: taught.append(given))
    run = short("proxylessnas+lpt", 12 * 40).run
    assert 0 < len(taught) < run.steps / 3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["darts", "darts2", "pdarts", "proxylessnas"])
def test_bilevel_methods_search_with_it_in_the_space_of_darts(method):
    found = short(f"{method}+lpt", 6 * 40, space="darts")
    assert found.run.subspace.contains(found.ranking[0][0])
    assert all(torch.isfinite(p).all() for p in lpt(found).tester.parameters())


@pytest.mark.parametrize("method", ["spos", "fairnas", "dropnas", "mdenas"])
def test_others_are_refused_with_the_reason(method):
    with pytest.raises(InputError, match="'lpt': its architecture does not learn from images"):
        compose(f"{method}+lpt")


def test_wrong_options_are_refused():
    with pytest.raises(InputError, match="lam=-1"):
        compose("darts+lpt", {"lpt.lam": -1})


@pytest.mark.slow
def test_a_resumed_run_goes_on_to_the_last_bit(tmp_path):
    asked = iter(range(2))
    short(
        "darts+lpt", 200, checkpoint=tmp_path / "run", should_stop=lambda: next(asked, None) is None
    )
    resumed, whole = short("darts+lpt", 200, checkpoint=tmp_path / "run"), short("darts+lpt", 200)
    assert resumed.run.steps == whole.run.steps == 5
    left, right = lpt(whole).tensors(), lpt(resumed).tensors()
    assert left.keys() == right.keys()
    assert {name for name in left if name.startswith("adam.")}
    assert all(torch.equal(left[name], right[name]) for name in left)
    assert torch.equal(whole.run.method.alphas.alpha, resumed.run.method.alphas.alpha)
