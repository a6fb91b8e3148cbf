"""The run: its batches, the step on shared weights, its budget, and the limits of its subspace."""

import itertools
import math

import numpy as np
import pytest
import torch
from searching import task
from torch.nn import functional as F

from metad2a.datasets import load_dataset
from metad2a.errors import BudgetError, InputError
from metad2a.spaces import SPACES, WeightSharing
from metad2a.spaces.supernets.gates import Gates
from metad2a.training.augment import random_crop
from metad2a.training.device import plan
from search.data import search_task
from search.engine.budget import Budget
from search.engine.forms import Form
from search.engine.method import SampleWeighter, Training
from search.engine.run import Run
from search.methods.fairnas import fair_paths
from search.subspace.subspace import Subspace

SPACE = SPACES.get("nasbench201")
OPERATIONS = len(SPACE.operations)


def fresh(space=SPACE, data=None, seed=0, budget=None, **training) -> Run:
    data = data or task()
    run = Run(
        space,
        data,
        Subspace(space, data.classes),
        budget or Budget(images=10**6),
        plan("cpu"),
        {"channels": 4, "cells": 1},
        seed,
        lambda: False,
    )
    run.begin_phase(Training(**{"batch": 16, **training}))
    return run


def gates(*paths):
    return [Gates.path(path, OPERATIONS) for path in paths]


# -- batches ---------------------------------------------------------------------------------------


def test_an_epoch_sees_every_image_once_and_batches_repeat_with_the_seed():
    run, again = fresh(), fresh()
    batches = [run.batch() for _ in range(5)]
    assert [len(b.y) for b in batches] == [16] * 5
    epoch = torch.cat([b.index for b in batches[:2]])
    assert len(epoch.unique()) == 32
    assert torch.equal(run.train_y[batches[0].index], batches[0].y)
    assert all(torch.equal(a.x, again.batch().x) for a in batches)
    assert not torch.equal(fresh(seed=1).batch().index, batches[0].index)


def test_the_sides_of_a_bilevel_search_are_disjoint_halves():
    run = fresh()
    run.split_sides()
    halves = [set(side.tolist()) for side in run.sides.values()]
    assert [len(half) for half in halves] == [20, 20]
    assert not halves[0] & halves[1]
    run.split_sides()  # a wrapper and its method may both ask
    assert [set(side.tolist()) for side in run.sides.values()] == halves
    with pytest.raises(InputError, match="needs 4 or more; there are 3"):
        fresh(data=task(count=3)).split_sides()


def test_cropped_images_are_parts_of_the_padded_ones():
    images = torch.arange(1.0, 1 + 6 * 3 * 256).reshape(6, 3, 16, 16)
    crops = random_crop(images, np.random.default_rng(0))
    assert crops.is_contiguous(memory_format=torch.channels_last)
    padded, places = F.pad(images, (2, 2, 2, 2)), set()
    for image, crop in zip(padded, crops, strict=True):
        found = [
            (t, s)
            for t in range(5)
            for s in range(5)
            if torch.equal(image[:, t : t + 16, s : s + 16], crop)
        ]
        assert len(found) == 1
        places.update(found)
    assert len(places) > 1


# -- the step --------------------------------------------------------------------------------------


def test_one_step_descends_the_sum_of_the_gradients_of_its_paths():
    run = fresh(nesterov=True, weight_decay=5e-4)
    paths = fair_paths(run.subspace.mask, run.rng)
    network = SPACE.supernet(3, channels=4, cells=1)
    network.load_state_dict(run.network.state_dict())
    network = plan("cpu").place(network).train()
    batch = run.batch()
    for path in paths:
        with plan("cpu").autocast():
            logits = network(batch.x, path)
        F.cross_entropy(logits.float(), batch.y).backward()
    run.train_weights(batch, gates(*paths))
    after = dict(run.network.named_parameters())
    for name, weight in network.named_parameters():
        expected = weight.detach()
        if weight.grad is not None:
            # Nesterov's first step
            expected = expected - 0.025 * 1.9 * (weight.grad + 5e-4 * expected)
        torch.testing.assert_close(after[name].detach(), expected)
    assert run.images == 5 * 16


def test_untouched_weights_are_bit_identical_after_a_step_with_momentum_and_decay():
    run = fresh(weight_decay=0.1)
    run.train_weights(run.batch(), gates((3,) * 6))
    run.train_weights(run.batch(), gates((2,) * 6))
    before = {n: p.detach().clone() for n, p in run.network.named_parameters()}
    run.train_weights(run.batch(), gates((3, 2, 3, 2, 3, 2)))
    used = {
        id(p)
        for slot, op in enumerate((3, 2, 3, 2, 3, 2))
        for edge in run.supernet.edges(slot)
        for m in edge.operation(op)
        for p in m.parameters()
    }
    mixed = {
        id(p) for slot in range(6) for edge in run.supernet.edges(slot) for p in edge.parameters()
    }
    for name, parameter in run.network.named_parameters():
        if id(parameter) in mixed - used:
            assert torch.equal(parameter, before[name])
    changed = [
        not torch.equal(p, before[n])
        for n, p in run.network.named_parameters()
        if id(p) in used and p.dim() == 4
    ]
    assert all(changed)


def uncut_paths(rng):
    """Draw fair paths of which one holds every ``none``.

    Behind a cut the branches compute nothing, while the routed form normalises zeros, which makes
    rounding errors large.
    """
    mask = np.ones((SPACE.slots, OPERATIONS), dtype=bool)
    mask[:, 0] = False
    return gates((0,) * 6, *fair_paths(mask, rng))


def test_the_static_forms_take_the_same_step_as_the_branches(monkeypatch):
    """Routed fair paths and masked mixtures, in float32 so that only rounding differs."""
    weights = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    active = weights.numpy() > 0.15
    choices = {
        "routed": uncut_paths(np.random.default_rng(0)),
        "masked": [Gates.mixture(weights * torch.from_numpy(active), active)],
    }
    for name, chosen in choices.items():
        states = []
        for static in (False, True):
            run = fresh(weight_decay=0.1)
            run.place = plan("cpu").__class__(torch.device("cpu"), torch.float32)
            _ = run.network
            run.form = Form(run.network, run.place, static=static, compiled=False)
            for _ in range(2):
                run.train_weights(run.batch(), chosen)
            states.append(dict(run.network.named_parameters()))
        for key, value in states[0].items():
            torch.testing.assert_close(
                states[1][key],
                value,
                atol=2e-5,
                rtol=1e-4,
                msg=lambda m, k=key, n=name: f"{n} {k}: {m}",
            )


@pytest.mark.slow
# Dynamo hides it, but not from a filter that makes errors of warnings.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("form", ["routed", "masked"])
def test_compiled_cells_take_the_same_steps_and_share_graphs(form, monkeypatch):
    """By dynamo's eager backend: what it captures is what is compiled."""
    from torch._dynamo.testing import CompileCounter

    compiler, graphs = torch.compile, CompileCounter()
    monkeypatch.setattr(torch, "compile", lambda f, **_: compiler(f, backend=graphs, dynamic=False))
    weights = torch.rand(6, 5, generator=torch.Generator().manual_seed(0)).softmax(1)
    choices = {
        "routed": uncut_paths(np.random.default_rng(0)),
        "masked": [Gates.mixture(weights)],
    }[form]
    states = []
    for compiled in (False, True):
        run = fresh(weight_decay=0.1)
        run.macro = {"channels": 4, "cells": 2}
        run.place = plan("cpu").__class__(torch.device("cpu"), torch.float32)
        _ = run.network
        run.form = Form(run.network, run.place, static=True, compiled=compiled)
        for _ in range(3):
            run.train_weights(run.batch(), choices)
        states.append(dict(run.network.named_parameters()))
        run.forward(run.batch().x, (3,) * 6)  # a path, which is not to be compiled
    assert graphs.frame_count == 3  # six cells of three widths
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=2e-5, rtol=1e-4)


def test_where_shapes_are_captured_a_batch_keeps_its_size(monkeypatch):
    monkeypatch.setattr("search.engine.run.static_on", lambda device: True)
    run = fresh(budget=Budget(seconds=100), batch=32)
    sizes = [run.batch_size()]
    for seconds in (50.0, 0.1, 0.1):
        run.fit_batch(seconds)
        sizes.append(run.batch_size())
    assert sizes == [32] * 4


def test_sample_weights_weigh_the_loss():
    class Doubled(SampleWeighter):
        def weights(self, index):
            return torch.full((len(index),), 2.0)

    run = fresh()
    batch = run.batch()
    logits = run.forward(batch.x, (3,) * 6)
    plain = run.loss(logits, batch, "weights")
    run.weighters["weights"] = Doubled()
    torch.testing.assert_close(run.loss(logits, batch, "weights"), 2 * plain)
    torch.testing.assert_close(run.loss(logits, batch, "architecture"), plain)


def test_labels_are_smoothed_for_weights_and_not_for_alphas():
    run = fresh(label_smoothing=0.1)
    batch = run.batch()
    logits = run.forward(batch.x, (3,) * 6)
    smooth = F.cross_entropy(logits, batch.y, label_smoothing=0.1)
    torch.testing.assert_close(run.loss(logits, batch, "weights"), smooth)
    torch.testing.assert_close(
        run.loss(logits, batch, "architecture"), F.cross_entropy(logits, batch.y)
    )


def test_training_learns():
    run = fresh(lr=0.05)
    losses = [run.train_weights(run.batch(), gates((3, 1, 3, 1, 1, 3))) for _ in range(30)]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run = fresh()
    run.train_weights(run.batch(), gates((3,) * 6))
    assert torch.equal(torch.rand(1), expected)


# -- budget ----------------------------------------------------------------------------------------


def test_a_budget_is_of_time_or_of_images():
    images = Budget(images=100)
    assert [images.fraction(n, 5, 5) for n in (0, 50, 300)] == [0, 0.5, 1]
    assert not images.over()
    assert Budget(seconds=1e-9).over()
    assert Budget(seconds=100, spent=50).fraction(0, 0, 0) == pytest.approx(0.5, abs=0.01)
    assert Budget(seconds=100, spent=40).fraction(0, 50, 5) == pytest.approx(0.9, abs=0.01)
    for wrong in ({}, {"seconds": 1, "images": 1}, {"images": 0}, {"seconds": float("inf")}):
        with pytest.raises(InputError, match="budget"):
            Budget(**wrong)


# -- subspace --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [space.name for space in SPACES if isinstance(space, WeightSharing)]
)
def test_whatever_a_subspace_gives_obeys_mask_and_limits(name):
    space, rng = SPACES.get(name), np.random.default_rng(0)
    least = space.smallest(10)
    subspace = Subspace(
        space, 10, max_params=round(1.2 * least.params), max_macs=round(1.3 * least.macs)
    )
    dropped = [
        pair
        for pair in rng.permutation(np.argwhere(subspace.mask))[:6]
        if subspace.drop(*map(int, pair))
    ]
    first, second = subspace.sample(rng), subspace.sample(rng)
    given = [
        first,
        second,
        subspace.mutate(first, rng),
        subspace.cross(first, second, rng),
        *(subspace.sample(rng) for _ in range(10)),
        *(subspace.best(rng.normal(size=subspace.mask.shape))[0] for _ in range(5)),
    ]
    for one in given:
        assert subspace.contains(one)
        cost = space.cost(one, 10)
        assert cost.params <= 1.2 * least.params + 1
        assert cost.macs <= 1.3 * least.macs + 1
        assert not any(one[slot] == op for slot, op in dropped)
    assert len(set(given)) > 1


def test_the_tightest_limit_leaves_the_smallest_networks():
    least = SPACE.smallest(10)
    subspace = Subspace(SPACE, 10, least.params, least.macs)
    assert not subspace.mask[:, [2, 3]].any()
    assert SPACE.cost(subspace.best(np.eye(5)[[3] * 6])[0], 10) == least
    with pytest.raises(BudgetError, match="smallest network"):
        Subspace(SPACE, 10, least.params - 1)


def test_the_best_under_a_limit_is_near_the_best_there_is():
    rng = np.random.default_rng(0)
    cells = np.array(list(itertools.product(range(5), repeat=6)))
    joined = cells[SPACE.connected(cells)]
    subspace = Subspace(SPACE, 10, max_params=500_000)
    fitting = joined[subspace.fits(joined)]
    for _ in range(10):
        scores = rng.normal(size=(6, 5))
        every = scores[np.arange(6), fitting].sum(1)
        found, value = subspace.best(scores)
        assert value == pytest.approx(scores[np.arange(6), found].sum())
        assert (every > value).mean() < 0.005
        assert Subspace(SPACE, 10).best(scores)[1] == pytest.approx(
            scores[np.arange(6), joined].sum(1).max()
        )


@pytest.mark.parametrize("limits", [{}, {"max_params": 500_000}, {"max_macs": 60_000_000}])
def test_members_come_in_the_order_of_their_scores(limits):
    rng = np.random.default_rng(0)
    cells = np.array(list(itertools.product(range(5), repeat=6)))
    joined = cells[SPACE.connected(cells)]
    subspace = Subspace(SPACE, 10, **limits)
    members = joined[subspace.fits(joined) & subspace.mask[np.arange(6), joined].all(1)]
    for _ in range(3):
        scores = rng.normal(size=(6, 5))
        found = list(itertools.islice(subspace.in_order(scores), 40))
        order = np.argsort(-scores[np.arange(6), members].sum(1))[:40]
        assert [one for one, _ in found] == [tuple(row) for row in members[order].tolist()]
        assert [value for _, value in found] == pytest.approx(
            subspace.score(scores, [one for one, _ in found])
        )


def test_members_of_darts_come_in_order_each_once():
    space, rng = SPACES.get("darts"), np.random.default_rng(0)
    subspace = Subspace(space, 10)
    subspace.mask[:, 1:] = False
    for node in space.nodes:
        subspace.mask[list(node[:3]), rng.integers(1, 8)] = True
    subspace.mask[2, 1:4] = True
    scores = rng.normal(size=subspace.mask.shape)
    found = list(subspace.in_order(scores))
    # Three pairs of edges a node, but for the first of a cell, which has two edges.
    count = math.prod(
        sum(
            int(subspace.mask[a, 1:].sum() * subspace.mask[b, 1:].sum())
            for a, b in itertools.combinations(node, 2)
        )
        for node in space.nodes
    )
    assert len(found) == len({one for one, _ in found}) == count
    values = [value for _, value in found]
    assert values == sorted(values, reverse=True)
    assert all(subspace.contains(one) for one, _ in found)
    assert found[0][0] == subspace.best(scores)[0]


def test_a_search_in_order_gives_up_where_members_are_rare(monkeypatch):
    monkeypatch.setattr("search.subspace.subspace._LOOKED_AT", 50)
    least = SPACE.smallest(10)
    subspace = Subspace(SPACE, 10, max_params=round(1.5 * least.params))  # room for one 1x1
    scores = subspace._table[..., 0].astype(float)  # the costliest is the best
    assert subspace.contains((2, 1, 1, 1, 1, 1)) and not subspace.contains((2, 2, 1, 1, 1, 1))
    assert list(subspace.in_order(scores)) == []


def test_the_last_operation_of_a_slot_is_never_dropped():
    subspace = Subspace(SPACE, 10)
    for slot, operation in itertools.product(range(6), range(1, 5)):
        subspace.drop(slot, operation)
    assert (subspace.mask[:, 1:].sum(1) == 1).all()
    assert subspace.contains(subspace.sample(np.random.default_rng(0)))


# -- fair paths and data ---------------------------------------------------------------------------


def test_fair_paths_use_each_operation_of_each_slot_exactly_once():
    rng = np.random.default_rng(0)
    draws = [fair_paths(np.ones((6, 5), dtype=bool), rng) for _ in range(50)]
    assert all((np.sort(np.array(d), axis=0) == np.arange(5)[:, None]).all() for d in draws)
    assert len({tuple(d) for d in draws}) == 50
    mask = np.ones((6, 5), dtype=bool)
    mask[2, [0, 4]] = False
    paths = np.array(fair_paths(mask, rng))
    assert set(np.bincount(paths[:, 2], minlength=5).tolist()) == {0, 1, 2}


def test_a_fifth_of_each_class_is_held_out_and_a_cap_keeps_classes_balanced():
    with load_dataset("sklearn:digits") as dataset:
        data = search_task(dataset, 32, seed=0)
        small = search_task(dataset, 32, seed=0, most=100)
        test = int((dataset.split == 1).sum())
    assert data.train_x.shape[1:] == (3, 8, 8)
    sides = [data.train_y, data.test_y, data.report_y]
    assert sum(map(len, sides)) == 1797 - test
    each = np.bincount(torch.cat(sides))
    for held in (data.test_y, data.report_y):
        np.testing.assert_allclose(np.bincount(held) / each, 0.1, atol=0.01)
    counts = [np.bincount(side).tolist() for side in (small.train_y, small.test_y, small.report_y)]
    assert counts == [[8] * 10, [1] * 10, [1] * 10]


def test_no_image_is_on_two_sides_and_small_classes_choose_by_all_that_is_held_out():
    pixels = np.arange(60 * 64, dtype=np.int64).reshape(60, 8, 8) % 251
    images, labels = np.stack([pixels] * 3, -1).astype(np.uint8), np.arange(60) % 5

    def seen(count):
        data = search_task(load_dataset(images[:count], labels[:count]), 32, seed=0)
        sides = [data.train_x, data.test_x] + ([] if data.report_x is None else [data.report_x])
        return data, [{bytes(x.numpy().tobytes()) for x in side} for side in sides]

    data, sides = seen(60)
    assert [len(side) for side in sides] == [45, 10, 5]
    assert len(set.union(*sides)) == 60
    assert data.reported()[1] is data.report_y
    data, sides = seen(25)  # five of each class
    assert [len(side) for side in sides] == [20, 5]
    assert data.reported()[1] is data.test_y


def test_batches_grow_and_shrink_with_the_time_that_steps_take():
    run = fresh(batch=32)
    run.fit_batch(1e9)
    assert run.batch_size() == 32  # a budget of images changes nothing
    run = fresh(budget=Budget(seconds=100), batch=32)
    sizes = []
    for seconds in (1.0, 1.0, 1.0, 2.0, 5.0, 5.0, 5.0, 5.0, 1.0):
        sizes.append(len(run.batch().y))
        run.fit_batch(seconds)
    assert sizes == [8, 16, 32, 32, 32, 16, 8, 4, 4]
    assert run.batch_size() == 8
