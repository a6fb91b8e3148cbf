"""Evaluators: re-calibrated accuracy, angle, untrained score, rank sum; and the labeller."""

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import rankdata
from searching import images_of, task
from torch import nn

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.labellers import supernet as labeller
from search.labellers.base import LABELLERS
from search.scores.angle import Angle, angle_table
from search.scores.base import EVALUATORS, Context, Evaluator, RankSum, average_ranks, evaluator
from search.scores.rebn import ReBNAccuracy
from search.searching import Search

SPACE = SPACES.get("nasbench201")
SKIP_ONLY = (0, 0, 0, 1, 0, 0)
DEAD = (3, 3, 3, 0, 0, 0)
FULL = (3, 2, 3, 4, 3, 3)


@pytest.fixture(scope="module")
def context() -> Context:
    return trained("nasbench201", cells=1, steps=8)


@pytest.fixture(scope="module")
def darts_context() -> Context:
    return trained("darts", cells=2, steps=1)  # a normal and a reduction cell


def trained(space: str, cells: int, steps: int) -> Context:
    """Return a context with a supernet after some fair steps."""
    data = task(side=8, count=60)
    images = steps * len(SPACES.get(space).operations) * 60
    found = Search(
        data,
        space,
        "fairnas",
        images=images,
        channels=4,
        cells=cells,
        options={"fairnas.population": 1, "fairnas.generations": 1},
    ).conduct()
    return Context(found.run.space, data, found.run.shared())


@pytest.mark.parametrize("name", [*EVALUATORS.names(), "angle+rebn"])
def test_every_evaluator_scores_in_order_without_nan_and_repeatably(context, name):
    cells = [FULL, DEAD, SKIP_ONLY, (2, 3, 1, 3, 1, 2)]
    scores = evaluator(name, context).score(cells)
    assert scores.dtype == np.float64
    assert scores.shape == (4,)
    assert not np.isnan(scores).any()
    np.testing.assert_array_equal(evaluator(name, context).score(cells), scores)
    assert evaluator(name, context).score([]).shape == (0,)


@pytest.mark.parametrize("name", ["angle", "rebn"])
def test_shared_weights_are_asked_for_when_missing(context, name):
    with pytest.raises(InputError, match="has no supernet"):
        evaluator(name, dataclasses.replace(context, supernet=None))


def test_an_unknown_evaluator_is_named_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'angle'"):
        evaluator("angel", Context(SPACE, task()))


# -- angle ---------------------------------------------------------------------------------------


def concatenated_angle(space, initial, current, architecture, *, whole=True) -> float:
    """The published definition: one long vector of all parts, in float64."""

    def copy_weights(network, slot) -> list[torch.Tensor]:
        op = architecture[slot]
        by = {(s, o): by for s, o, by in network.clones}.get((slot, op))
        if by is None:
            return network.slot_weights(slot, op)
        own = [edge.operation(op)[architecture[by]] for edge in network.edges(slot)]
        return [m.weight for one in own for m in one.modules() if isinstance(m, nn.Conv2d)]

    def vector(network) -> torch.Tensor:
        parts = list(network.fixed_weights()) if whole else []
        for path in space.paths():
            if all(architecture[slot] != 0 for slot in path):
                parts += [w for slot in path for w in copy_weights(network, slot)]
        return torch.cat([part.detach().double().flatten() for part in parts])

    before, after = vector(initial), vector(current)
    return math.acos(float(before @ after / (before.norm() * after.norm())))


def assert_angles_are_those_of_concatenation(context: Context, cells: list, **whole) -> None:
    pair = context.supernet.initial, context.supernet.network
    expected = [concatenated_angle(context.space, *pair, cell, **whole) for cell in cells]
    assert min(expected) > 0
    np.testing.assert_allclose(Angle(context, **whole).score(cells), expected, rtol=0, atol=1e-9)


def some_cells(space, count: int) -> list:
    rng = np.random.default_rng(0)
    cells = [space.sample(rng) for _ in range(count)]
    return [cell for cell in cells if space.is_connected(cell)]


def test_the_angle_table_equals_concatenation(context):
    cells = [FULL, SKIP_ONLY, *some_cells(SPACE, 60)]
    assert_angles_are_those_of_concatenation(context, cells)


def test_it_does_in_both_cells_of_the_space_of_darts(darts_context):
    cells = some_cells(darts_context.space, 20)
    assert_angles_are_those_of_concatenation(darts_context, cells)
    assert_angles_are_those_of_concatenation(darts_context, cells, whole=False)


def test_without_the_shared_parts_skips_alone_have_no_angle(context):
    cells = [cell for cell in some_cells(SPACE, 60) if set(cell) & {2, 3}]
    cells = [
        c
        for c in cells
        if any(all(c[s] for s in p) and {c[s] for s in p} & {2, 3} for p in SPACE.paths())
    ]
    assert len(cells) > 20
    assert_angles_are_those_of_concatenation(context, cells, whole=False)
    assert Angle(context, whole=False).score([SKIP_ONLY, DEAD]).tolist() == [0, -np.inf]


def test_of_a_clone_an_architecture_has_the_copy_that_it_runs(context):
    shared = copy.deepcopy(context.supernet)
    for network in (shared.initial, shared.network):
        network.clone(2, 3, 0)
        network.clone(5, 2, 2)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for edge in [*shared.network.edges(2), *shared.network.edges(5)]:
            for parameter in edge.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    cloned = dataclasses.replace(context, supernet=shared)
    cells = [(lead, 3, 3, 3, 1, 2) for lead in range(5)] + some_cells(SPACE, 60)
    assert_angles_are_those_of_concatenation(cloned, cells)
    assert len(set(Angle(cloned).score(cells[:5]).tolist())) == 5


def test_none_kills_its_paths(context):
    angle = Angle(context)
    # With edges 3 and 5 cut, only 0 -> 1 -> 3 lives: slots 1 and 2 do not matter.
    alive = angle.score([(3, op, other, 0, 2, 0) for op in range(5) for other in range(5)])
    assert len(set(alive.tolist())) == 1
    assert angle.score([DEAD, (0,) * 6]).tolist() == [-np.inf, -np.inf]


def test_all_cells_are_scored_at_once_and_exactly_the_dead_have_no_angle(context):
    cells = list(SPACE.enumerate())
    scores = Angle(context).score(cells)
    assert scores.shape == (15_625,)
    assert [SPACE.is_connected(c) for c in cells] == np.isfinite(scores).tolist()


def test_a_pool_is_a_constant_of_one_ninth_and_a_skip_is_empty(context):
    _, table = angle_table(SPACE, context.supernet.initial, context.supernet.network)
    channels = 4 + 8 + 16
    np.testing.assert_allclose(table[:, 4], channels * 9 / 81)
    assert (table[:, :2] == 0).all()
    assert (table[:, 2:4] > 0).all()


def test_untrained_weights_have_no_angle(context):
    untrained = dataclasses.replace(context.supernet, network=context.supernet.initial)
    angle = Angle(dataclasses.replace(context, supernet=untrained)).score([FULL])
    assert abs(angle[0]) < 1e-6


# -- re-calibrated accuracy ----------------------------------------------------------------------


def test_recalibration_equals_one_pass_over_the_whole_batch(context):
    judge = ReBNAccuracy(context)
    (images,) = judge.calibration  # 60 images are one batch
    assert len(images) == 60
    judge.calibrate(FULL)
    reference = copy.deepcopy(context.supernet.network).train()
    for norm in reference.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # keep exactly the statistics of this pass
    with torch.no_grad(), context.supernet.plan.autocast():
        reference(images, FULL)
    assert torch.equal(judge.network.stem[1].running_mean, reference.stem[1].running_mean)
    for found, expected in zip(judge.network.modules(), reference.modules(), strict=True):
        if isinstance(found, nn.BatchNorm2d) and found.num_batches_tracked > 0:
            torch.testing.assert_close(found.running_mean, expected.running_mean)
            torch.testing.assert_close(found.running_var, expected.running_var)


def test_several_batches_are_averaged_exactly(context, monkeypatch):
    whole = ReBNAccuracy(context)
    monkeypatch.setattr("search.scores.rebn.BATCH", 15)
    parts = ReBNAccuracy(context)
    assert [len(b) for b in parts.calibration] == [15] * 4
    for judge in (whole, parts):
        judge.calibrate(FULL)
    # The stem sees the images themselves, so the mean over equal parts is the mean over all.
    torch.testing.assert_close(
        parts.network.stem[1].running_mean, whole.network.stem[1].running_mean
    )


def test_nothing_leaks_from_child_to_child_or_into_the_supernet(context):
    before = copy.deepcopy(context.supernet.network.state_dict())
    judge, fresh = ReBNAccuracy(context), ReBNAccuracy(context)
    cells = [(2, 3, 1, 3, 1, 2), FULL]
    together = judge.score(cells)
    assert [fresh.score([cell])[0] for cell in reversed(cells)] == together[::-1].tolist()
    judge.score([SKIP_ONLY])
    judge.calibrate(FULL)
    fresh.calibrate(FULL)
    for name, value in judge.network.state_dict().items():
        assert torch.equal(value, fresh.network.state_dict()[name])
    after = context.supernet.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert context.supernet.network.training


def test_accuracy_is_a_fraction_of_the_test_images_and_beats_chance(context):
    scores = ReBNAccuracy(context).score([FULL, SKIP_ONLY])
    np.testing.assert_allclose(scores * 60, np.round(scores * 60))
    assert scores.max() > 1 / 3


# -- rank sum ------------------------------------------------------------------------------------


class Fixed(Evaluator):
    def __init__(self, scores):
        self.scores = scores
        self.asked = 0

    def score(self, architectures):
        self.asked += len(architectures)
        return np.array([self.scores[a] for a in architectures], dtype=np.float64)


def test_ties_share_their_average_rank():
    values = np.array([3.0, -np.inf, 3.0, 7.0, -np.inf, 3.0, 0.0])
    np.testing.assert_array_equal(average_ranks(values), rankdata(values))


def test_rank_sum_adds_ranks_and_asks_once_for_each_architecture():
    a, b, c = (0,), (1,), (2,)
    first, second = Fixed({a: 0.1, b: 0.2, c: 0.2}), Fixed({a: 900.0, b: 1.0, c: -5.0})
    total = RankSum([first, second])
    assert total.score([a, b, c]).tolist() == [1 + 3, 2.5 + 2, 2.5 + 1]
    assert total.score([c, a]).tolist() == [2 + 1, 1 + 2]
    assert (first.asked, second.asked) == (3, 3)


# -- the labeller --------------------------------------------------------------------------------


def test_the_labeller_measures_each_architecture_under_both_protocols(monkeypatch):
    monkeypatch.setattr(labeller, "STEPS", 2)
    found = list(LABELLERS.get("supernet").measure(images_of(task()), SPACE, [FULL, DEAD], seed=4))
    assert [(m.protocol, m.architecture) for m in found] == [
        ("supernet-fair-v1", FULL),
        ("angle-v1", FULL),
        ("supernet-fair-v1", DEAD),
    ]
    assert all(m.seed == 4 and m.seconds > 0 for m in found)
    assert 0 <= found[0].value <= 1
    assert 0 < found[1].value < math.pi
    again = list(LABELLERS.get("supernet").measure(images_of(task()), SPACE, [FULL], seed=4))
    assert [m.value for m in again] == [m.value for m in found[:2]]
    assert {p.name: p.kind for p in LABELLERS.get("supernet").protocols} == {
        "supernet-fair-v1": "accuracy",
        "angle-v1": "score",
    }
    assert list(LABELLERS.get("supernet").measure(images_of(task()), SPACE, [], seed=4)) == []


def test_the_method_trains_as_the_labels_protocol_says():
    from search.engine.method import METHODS

    training = METHODS.get("fairnas").training
    assert (training.batch, training.lr, training.lr_final) == (64, 0.025, 0.001)
    assert (training.momentum, training.nesterov, training.weight_decay) == (0.9, True, 5e-4)
    assert (training.clip, training.label_smoothing) == (None, 0.0)
    for said in ("batch 64", "0.025 to 0.001", "weight decay 5e-4", "nesterov 0.9"):
        assert said in labeller.ACCURACY.description
