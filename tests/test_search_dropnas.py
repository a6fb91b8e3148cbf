"""DropNAS: the groups, the draw, and what a step leaves alone."""

import numpy as np
import pytest
import torch
from searching import task

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.engine.run import Run
from search.gradient.group_dropout import draw_kept, groups
from search.methods import dropnas
from search.searching import Conducted, Search

DARTS, BENCH = SPACES.get("darts"), SPACES.get("nasbench201")


def started(space: str = "nasbench201", **arguments) -> Conducted:
    """Return a search that has not taken a step."""
    return Search(
        task(),
        space,
        "dropnas",
        images=1000,
        channels=2,
        cells=1,
        should_stop=lambda: True,
        **arguments,
    ).conduct()


def advance(found: Conducted) -> None:
    found.run.steps += 1
    found.run.advance(found.composed.method)


@pytest.fixture
def kept(monkeypatch) -> list[np.ndarray]:
    """Collect what each step keeps."""
    drawn = []

    def spy(*arguments, **options):
        drawn.append(draw_kept(*arguments, **options))
        return drawn[-1]

    monkeypatch.setattr(dropnas, "draw_kept", spy)
    return drawn


# -- the draw --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "parametrised"),
    [
        (DARTS, "sep_conv_3x3 sep_conv_5x5 dil_conv_3x3 dil_conv_5x5"),
        (BENCH, "nor_conv_1x1 nor_conv_3x3"),
    ],
)
def test_the_groups_part_operations_by_their_parameters(space, parametrised):
    found, rest = groups(space.operations)
    assert [o for o, p in zip(space.operations, found, strict=True) if p] == parametrised.split()
    np.testing.assert_array_equal(rest, ~found)


def test_every_edge_keeps_one_of_each_group_and_nothing_that_is_forbidden():
    mask = np.random.default_rng(1).random((500, 8)) < 0.5
    both = groups(DARTS.operations)
    found = draw_kept(mask, both, 0.6, np.random.default_rng(0))
    assert not found[~mask].any()
    for group in both:
        np.testing.assert_array_equal((found & group).any(1), (mask & group).any(1))
    np.testing.assert_array_equal(draw_kept(mask, both, 0.0, np.random.default_rng(0)), mask)


@pytest.mark.parametrize(("rate", "size"), [(3e-5, 0), (0.3, 0), (0.3, 4)])
def test_as_many_are_kept_as_the_drop_path_rate_says(rate, size):
    """Of n, each dropped with p and never all, n (1 - p) / (1 - p^n) are kept on average."""
    draws = 20_000
    mask = np.ones((draws, 5), dtype=bool)
    mask[:, 0] = False  # leaves two of each group
    both = groups(BENCH.operations)
    found = draw_kept(mask, both, rate, np.random.default_rng(0), size)
    p = rate ** (1 / (size or 2))
    wanted = 2 * (1 - p) / (1 - p**2)
    for group in both:
        count = (found & group).sum(1)
        assert count.mean() == pytest.approx(wanted, abs=4 * count.std() / draws**0.5 + 1e-4)


def test_the_published_probability_is_that_of_groups_of_four():
    mask = np.ones((20_000, 8), dtype=bool)
    found = draw_kept(mask, groups(DARTS.operations), 3e-5, np.random.default_rng(0))
    assert 1 - found.mean() == pytest.approx(0.0740, abs=3e-3)


@pytest.mark.parametrize("rate", [-0.1, 0.95, 1.0, float("nan")])
def test_a_rate_out_of_range_is_refused(rate):
    with pytest.raises(InputError, match=r"rate=.*use 0 to 0\.9"):
        dropnas.DropNas(rate=rate)


# -- steps -----------------------------------------------------------------------------------------


def test_a_step_leaves_dropped_alphas_and_weights_to_the_last_bit(kept):
    found = started(options={"dropnas.rate": 0.5})
    run, alphas = found.run, found.composed.method.alphas
    for _ in range(3):  # momentum builds up
        advance(found)
    alpha = alphas.alpha.detach().clone()
    owned = {
        (slot, op): [
            p
            for edge in run.supernet.edges(slot)
            for one in edge.operation(op)
            for p in one.parameters()
        ]
        for slot in range(6)
        for op in (2, 3)
    }
    before = {key: [p.detach().clone() for p in own] for key, own in owned.items()}
    advance(found)
    dropped = torch.from_numpy(~kept[-1])
    assert dropped.any()
    assert torch.equal(alphas.alpha[dropped], alpha[dropped])
    assert (alphas.alpha != alpha)[~dropped].all()
    torch.testing.assert_close(
        alphas.alpha.softmax(1)[dropped], alpha.softmax(1)[dropped], rtol=0, atol=1e-6
    )
    for key, own in owned.items():
        if dropped[key]:
            assert all(torch.equal(p, old) for p, old in zip(own, before[key], strict=True))
    assert sum(not torch.equal(own[0], before[key][0]) for key, own in owned.items()) > 1


def test_edges_that_keep_everything_are_not_adjusted():
    found = started(options={"dropnas.rate": 0.0})
    alphas = found.composed.method.alphas
    twin = dropnas.ArchitectureParameters(np.ones((6, 5), bool), np.random.default_rng(0))
    twin.load({name: tensor.clone() for name, tensor in alphas.tensors().items()})
    advance(found)
    twin.update(alphas.alpha.grad, np.ones((6, 5), bool))
    assert torch.equal(alphas.alpha, twin.alpha)


def test_one_batch_serves_both_levels():
    found = started()
    advance(found)
    assert found.run.images == 40  # one pass of the whole side
    assert found.run.cursors == {"weights": 1, "architecture": 0}
    assert len(found.run.sides["weights"]) == 40


def test_the_published_step_moves_what_is_dropped(kept, monkeypatch):
    found = started(faithful=True, options={"dropnas.rate": 0.3})
    run, method = found.run, found.composed.method
    assert run.training.weight_decay == method.alphas.weight_decay == 0
    for _ in range(3):
        advance(found)
    steps, alpha = [], method.alphas.alpha.detach().clone()
    moving = method.alphas.tensors()["moments"][0] != 0
    step = run.optimiser.step

    def spy():
        steps.append([(p.detach().clone(), p.grad.clone()) for p in run.network.parameters()])
        step()

    monkeypatch.setattr(run.optimiser, "step", spy)
    advance(found)
    dropped = torch.from_numpy(~kept[-1])
    assert dropped.any()
    # Adam's first moment goes on.
    assert (dropped & moving).any()
    assert (method.alphas.alpha != alpha)[dropped & moving].all()
    # The kept ones as a whole are as likely as before all the same.
    mass = [(values.softmax(1) * dropped).sum(1) for values in (alpha, method.alphas.alpha)]
    torch.testing.assert_close(mass[0], mass[1], rtol=0, atol=1e-6)
    # The second step is along 2 * lambda * w where the first gradient starts with no zero.
    assert len(steps) == 2
    touched = 0
    for (_, gradient), (weight, decay) in zip(*steps, strict=True):
        counts = gradient.flatten()[0] != 0
        touched += int(counts)
        torch.testing.assert_close(decay, 6e-4 * weight if counts else torch.zeros_like(weight))
    assert 0 < touched < len(steps[0])


def test_settings_are_those_of_the_paper():
    training = dropnas.DropNas().training
    assert (training.batch, training.lr, training.lr_final) == (96, 0.0375, 0.0015)
    assert (training.momentum, training.weight_decay, training.clip) == (0.9, 3e-4, 3.0)


def test_raw_alphas_name_the_winner():
    """Of node 3's edges the raw alphas prefer two that have a weak softmax."""
    found = started("darts")
    run, method = found.run, found.composed.method
    alpha = torch.full((28, 8), -9.0)
    alpha[2, 4] = -1.0  # nearly all of its edge's softmax
    alpha[3:5] = 1.0  # an eighth each
    alpha[3:5, 6] = 1.1
    with torch.no_grad():
        method.alphas.alpha.copy_(alpha)
    np.testing.assert_allclose(method.slot_scores(run), alpha.numpy())
    winner = method.derive(run)[0][0]
    assert winner[2:5] == (0, 6, 6)
    logs = np.log(method.alphas.probabilities(run.subspace.mask).detach().numpy())
    assert run.subspace.best(logs)[0][2] == 4


def test_a_loss_that_is_no_number_moves_nothing(monkeypatch):
    found = started()
    advance(found)
    before = [
        t.clone() for t in (*found.run.network.parameters(), found.composed.method.alphas.alpha)
    ]
    backward = Run.backward
    monkeypatch.setattr(Run, "backward", lambda *arguments: backward(*arguments) * float("nan"))
    advance(found)
    after = (*found.run.network.parameters(), found.composed.method.alphas.alpha)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
