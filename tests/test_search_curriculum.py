"""Curriculum: the weights' formula, when and from what they are taken, and that they are used."""

import math

import numpy as np
import pytest
import torch
from searching import task
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.training.augment import random_crop
from search.engine.composition import compose
from search.engine.method import Method
from search.searching import Conducted, Search
from search.wrappers.curriculum import Curriculum, sample_weights

QUICK = {
    "spos.population": 2,
    "spos.generations": 1,
    "fairnas.population": 2,
    "fairnas.generations": 1,
}


def short(method: str, images: int, space: str = "nasbench201", **arguments) -> Conducted:
    given = arguments.pop("options", {})
    parts = method.split("+")
    options = {k: v for k, v in QUICK.items() if k.split(".")[0] in parts} | given
    return Search(
        task(), space, method, images=images, channels=2, cells=1, options=options, **arguments
    ).conduct()


def curriculum(search: Conducted) -> Curriculum:
    return next(w for w in search.composed.wrappers if isinstance(w, Curriculum))


# -- the formula ---------------------------------------------------------------------------------


def test_weights_follow_the_root_of_the_losses_and_sum_to_their_number():
    losses = torch.tensor([0.0, 0.04, 1.0, 4.0, 0.25])
    v = sample_weights(losses)
    sigma = np.sqrt([0.0, 0.04, 1.0, 4.0, 0.25])
    np.testing.assert_allclose(v, 5 * sigma / sigma.sum(), rtol=1e-6)
    assert float(v.double().sum()) == pytest.approx(5, abs=1e-6)


@pytest.mark.parametrize("loss", [0.0, 1e-7, 0.1, 0.7, 12.3])
def test_equal_losses_weigh_exactly_one(loss):
    assert torch.equal(sample_weights(torch.full((1237,), loss)), torch.ones(1237))


# -- when ----------------------------------------------------------------------------------------


def test_the_first_epoch_is_that_of_the_method_alone():
    # 40 images are one mini-batch, so an epoch is one step.
    alone, wrapped = short("spos", 40).run, short("spos+curriculum", 40).run
    for left, right in zip(alone.network.parameters(), wrapped.network.parameters(), strict=True):
        assert torch.equal(left, right)


def test_weights_are_taken_once_an_epoch(monkeypatch):
    taken = []
    ask = Curriculum._ask_subnets

    def counted(self, run, side, seed):
        taken.append((run.steps, len(side)))
        return ask(self, run, side, seed)

    monkeypatch.setattr(Curriculum, "_ask_subnets", counted)
    short("spos+curriculum", 6 * 40)
    assert taken == [(step, 40) for step in range(1, 7)]
    taken.clear()
    short("darts+curriculum", 6 * 20)  # half of the images; an alpha step costs as many again
    assert taken == [(1, 20), (2, 20), (3, 20)]


def test_an_epoch_of_several_steps_and_a_remainder():
    found = short("spos+curriculum", 1)
    run, wrapper = found.run, curriculum(found)
    run.batch_limit = 16  # of 40 images, 8 are left out of an epoch
    run.cursors["weights"], wrapper.refreshed, wrapper.v = 1, 0, None
    wrapper.after_step(run)
    assert wrapper.v is None
    run.cursors["weights"] = 2
    wrapper.after_step(run)
    assert wrapper.v is not None
    assert wrapper.refreshed == 2


# -- from what -----------------------------------------------------------------------------------


def test_sigma_is_the_root_of_the_mean_loss_of_the_subnets_on_augmented_images():
    found = short("spos+curriculum", 1)
    run, wrapper = found.run, curriculum(found)
    subnets = [(3, 1, 2, 1, 4, 1), (2, 2, 2, 2, 2, 2), (1, 1, 1, 1, 1, 3)]
    run.current.subnets = lambda run, count: subnets[:count]
    wrapper.subnets = 3
    before = {name: value.clone() for name, value in run.network.named_parameters()}
    run.rng, wrapper.refreshed = np.random.default_rng(5), 0
    wrapper.after_step(run)

    side = torch.from_numpy(run.sides["weights"])
    own = np.random.default_rng(int(np.random.default_rng(5).integers(2**62)))
    x = random_crop(run.train_x[side], own)
    run.network.train()
    with torch.no_grad():
        losses = torch.stack(
            [
                F.cross_entropy(run.forward(x, subnet), run.train_y[side], reduction="none")
                for subnet in subnets
            ]
        )
    torch.testing.assert_close(wrapper.losses[side], losses.mean(0))
    torch.testing.assert_close(wrapper.v[side], sample_weights(losses.mean(0)))
    assert float(wrapper.v.sum()) == pytest.approx(40, abs=1e-4)
    assert all(torch.equal(before[n], p) for n, p in run.network.named_parameters())
    assert run.images == 40  # passes without a gradient are not training


def test_differentiable_methods_send_their_most_probable_subnets():
    run = short("darts+curriculum", 40).run
    with torch.no_grad():
        run.method.alphas.alpha.zero_()
        run.method.alphas.alpha[:, 3] = 5.0
        run.method.alphas.alpha[:, 2] = 4.0
    subnets = run.current.subnets(run, 5)
    assert subnets[0] == (3,) * 6
    assert len(set(subnets)) == 5


def test_a_subnet_without_a_loss_leaves_the_weights_as_they_were(monkeypatch):
    found = short("spos+curriculum", 80)
    run, wrapper = found.run, curriculum(found)
    before = wrapper.v.clone()
    monkeypatch.setattr(run, "forward", lambda x, _: torch.full((len(x), 3), math.nan))
    wrapper.refreshed = 0
    wrapper.after_step(run)
    assert torch.equal(wrapper.v, before)


def test_only_the_half_that_trains_weights_is_weighed():
    found = short("darts+curriculum", 200)
    run, wrapper = found.run, curriculum(found)
    assert float(wrapper.v[run.sides["weights"]].sum()) == pytest.approx(20, abs=1e-4)
    assert (wrapper.v[run.sides["architecture"]] == 1).all()
    assert run.weighters["architecture"].weights(torch.arange(3)) is None


# -- that they are used --------------------------------------------------------------------------


def test_a_step_descends_the_weighted_mean():
    found = short("spos+curriculum", 80)
    run, wrapper = found.run, curriculum(found)
    batch, path = run.batch(), (3, 1, 2, 1, 4, 1)
    with torch.no_grad():
        logits = run.forward(batch.x, path)
        each = F.cross_entropy(logits, batch.y, reduction="none")
        loss = run.loss(logits, batch, "weights")
    torch.testing.assert_close(loss, (wrapper.v[batch.index] * each).mean())
    assert (wrapper.v[batch.index] - 1).abs().max() > 0.01
    torch.testing.assert_close(run.loss(logits, batch, "architecture"), each.mean())


def test_a_largest_weight():
    found = short("spos+curriculum", 80, options={"curriculum.most": "1.05"})
    assert curriculum(found).v.max() == pytest.approx(1.05)
    with pytest.raises(InputError, match=r"most=0\.5"):
        compose("spos+curriculum", {"curriculum.most": 0.5})
    with pytest.raises(InputError, match="subnets=0"):
        compose("spos+curriculum", {"curriculum.subnets": 0})


# -- free ----------------------------------------------------------------------------------------


def test_free_weights_come_from_the_losses_of_training_and_cost_no_pass(monkeypatch):
    monkeypatch.setattr(Curriculum, "_ask_subnets", None)
    found = short("fairnas+curriculum", 5 * 40 * 2, options={"curriculum.free": "true"})
    wrapper = curriculum(found)
    assert found.run.images == 400
    assert float(wrapper.v.sum()) == pytest.approx(40, abs=1e-4)
    torch.testing.assert_close(wrapper.v, sample_weights(wrapper.losses))


def test_remembered_losses_fade_with_k_visits_and_ignore_what_is_no_number():
    found = short("spos+curriculum", 1, options={"curriculum.free": "true"})
    wrapper = curriculum(found)
    wrapper.losses.fill_(math.nan)
    index = torch.tensor([7, 2])
    wrapper.observe(index, torch.tensor([1.0, math.inf]))
    wrapper.observe(index, torch.tensor([3.0, 4.0]))
    wrapper.observe(index, torch.tensor([math.nan, 4.0]))
    assert wrapper.losses[7] == pytest.approx(1 + 2 / 5)
    assert wrapper.losses[2] == 4
    assert int(wrapper.losses.isnan().sum()) == 38


def test_a_sample_that_was_not_seen_yet_counts_as_the_mean():
    found = short("spos+curriculum", 1, options={"curriculum.free": "true"})
    run, wrapper = found.run, curriculum(found)
    wrapper.losses.fill_(4.0)
    wrapper.losses[3] = math.nan
    run.cursors["weights"], wrapper.refreshed = 1, 0
    wrapper.after_step(run)
    assert torch.equal(wrapper.v, torch.ones(40))


# -- in company ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("free", [False, True])
def test_a_resumed_run_goes_on_to_the_last_bit(tmp_path, free):
    method, options = "darts+curriculum", {"curriculum.free": free}
    asked = iter(range(2))
    short(
        method,
        160,
        options=options,
        checkpoint=tmp_path / "run",
        should_stop=lambda: next(asked, None) is None,
    )
    resumed = short(method, 160, options=options, checkpoint=tmp_path / "run")
    whole = short(method, 160, options=options)
    assert resumed.run.steps == whole.run.steps == 4
    assert torch.equal(curriculum(resumed).v, curriculum(whole).v)
    left, right = whole.run.network.state_dict(), resumed.run.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_search_that_is_cancelled_while_subnets_are_asked_leaves_off_and_goes_on_exactly(
    tmp_path,
):
    def cancelled(after: int, **arguments):
        asked = iter(range(after))
        return short(
            "spos+curriculum", 160, should_stop=lambda: next(asked, None) is None, **arguments
        )

    place = tmp_path / "run"
    stopped = cancelled(1, checkpoint=place)  # at the first step, between the subnets
    assert stopped.run.steps == 1
    assert curriculum(stopped).v is None
    assert curriculum(stopped).asking is not None
    resumed, whole = short("spos+curriculum", 160, checkpoint=place), short("spos+curriculum", 160)
    assert torch.equal(curriculum(resumed).v, curriculum(whole).v)
    assert resumed.ranking == whole.ranking
    left, right = whole.run.network.state_dict(), resumed.run.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_it_works_in_the_space_of_darts():
    found = short("spos+curriculum", 80, space="darts")
    assert float(curriculum(found).v.sum()) == pytest.approx(40, abs=1e-4)


def test_a_method_that_trains_no_shared_weights_is_refused():
    class Untrained(Method):
        shared_training = False
        begin = step = score = derive = None

    assert "no shared weights" in Curriculum().refuse(Untrained())
    assert Curriculum().refuse(compose("darts").method) is None
