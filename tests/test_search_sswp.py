"""SSWP-NAS: its objectives, phases, freezing, and the network that is kept."""

import copy
import math

import numpy as np
import pytest
import torch
from searching import task
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.spaces.supernets.gates import Gates
from metad2a.training.device import DevicePlan, plan
from search.engine.budget import Budget
from search.engine.composition import compose
from search.engine.run import Run
from search.labellers.standalone import accuracy
from search.methods.sswp import rate
from search.searching import Search
from search.subspace.subspace import Subspace

NASBENCH, DARTS = SPACES.get("nasbench201"), SPACES.get("darts")
SMALL = {"channels": 2, "cells": 1}
EXACT = DevicePlan(torch.device("cpu"), torch.float32)


def begun(space=NASBENCH, **options):
    """Return a run and the method, before its first step."""
    data = task()
    run = Run(
        space,
        data,
        Subspace(space, data.classes),
        Budget(images=10**6),
        plan("cpu"),
        dict(SMALL),
        0,
        lambda: False,
    )
    method = compose("sswp", {f"sswp.{name}": value for name, value in options.items()}).method
    run.begin_phase(method.training)
    method.begin(run)
    return run, method


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def changed(before, module):
    return {
        name for name, value in module.named_parameters() if not torch.equal(before[name], value)
    }


# -- objectives ------------------------------------------------------------------------------------


def test_byol_foretells_the_other_view_by_a_target_that_follows_slowly():
    run, method = begun(loss="byol")
    objective, target = method.objective, method.objective.target
    seen = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    gates = Gates.path((3,) * 6, 5)
    loss = objective.of_views(run, seen, gates)
    assert 0 <= loss.item() <= 8
    loss.backward()
    assert all(p.grad is None for p in target.parameters())
    slow, fast = copies(target["supernet"]), copies(run.network)
    assert all(torch.equal(slow[name], fast[name]) for name, _ in run.network.named_parameters())
    with torch.no_grad():
        for p in run.network.parameters():
            p.add_(1.0)
    objective.descend(run)
    for name, value in target["supernet"].named_parameters():
        torch.testing.assert_close(value, slow[name] + 0.01)
    run.network.zero_grad()
    objective.loss(run, "weights", gates).backward()  # of both views' directions
    assert any(p.grad.abs().sum() > 0 for p in objective.parameters())


def test_the_supervised_objective_is_the_cross_entropy_of_the_path():
    run, method = begun(loss="supervised")
    twin, _ = begun(loss="supervised")
    loss = method.objective.loss(run, "architecture", Gates.path((3,) * 6, 5))
    batch = twin.batch("architecture")
    expected = F.cross_entropy(twin.forward(batch.x, (3,) * 6), batch.y)
    torch.testing.assert_close(loss, expected)
    assert run.images == len(batch.y) == 20


# -- steps -----------------------------------------------------------------------------------------


def test_a_weight_step_moves_one_path_and_the_head_and_nothing_else():
    run, method = begun()
    run.rng = np.random.default_rng(1)
    method.step(run)  # with momentum from here on
    network, head, alpha = (
        copies(run.network),
        copies(method.objective.head.network),
        (method.alphas.alpha.clone()),
    )
    rng = np.random.default_rng(2)
    run.rng, run.steps = np.random.default_rng(2), 5
    path = method.draw_path(run, dropout=False).argmax(1)
    run.rng = rng
    method.step(run)
    moved = changed(network, run.network)
    chosen = {f".edges.{slot}.copies.{op}." for slot, op in enumerate(path.tolist())}
    on_edges = {name for name in moved if ".edges." in name}
    assert on_edges
    assert all(any(part in name for part in chosen) for name in on_edges)
    assert "stem.0.weight" in moved
    assert "classifier.weight" not in moved
    assert changed(head, method.objective.head.network) == set(head)
    assert torch.equal(alpha, method.alphas.alpha)  # warm-up
    assert run.images == 2 * 2 * 20  # two views of half of the images, twice


@pytest.mark.parametrize("loss", ["infonce", "byol"])
def test_an_alpha_step_sees_held_out_images_and_moves_alphas_only(loss, monkeypatch):
    run, method = begun(loss=loss)
    sides, batch = [], run.batch
    monkeypatch.setattr(run, "batch", lambda side, **kw: sides.append(side) or batch(side, **kw))
    before = [copies(m) for m in (run.network, method.objective.head.network)]
    alpha = method.alphas.alpha.detach().clone()
    method._train_alphas(run)
    assert sides == ["architecture"]
    assert not changed(before[0], run.network)
    assert not changed(before[1], method.objective.head.network)
    assert all(p.requires_grad for p in run.network.parameters())
    moved = (method.alphas.alpha != alpha).numpy()
    assert moved.sum(1).tolist() == [2] * 6  # a pair in each slot
    assert not moved[:, 0].any()  # none is not drawn
    torch.testing.assert_close(
        method.alphas.alpha.softmax(1)[~torch.from_numpy(moved)],
        alpha.softmax(1)[~torch.from_numpy(moved)],
    )


def test_alphas_start_after_the_warm_up_and_move_at_every_fifth_step(monkeypatch):
    run, method = begun()
    told = []
    monkeypatch.setattr(method, "_train_weights", lambda run, dropout: told.append(dropout) or 0.0)
    monkeypatch.setattr(method, "_train_alphas", lambda run: told.append("alphas"))
    for run.steps in range(20):
        run.fraction = 0.7 * (run.steps + 0.5) / 20  # the pretraining is 0.7 of the whole
        method.step(run)
    assert told[:4] == [False] * 4
    assert [i for i, what in enumerate(told) if what == "alphas"] == [6, 12, 18]
    assert all(told[4:])


def test_a_dropped_skip_gives_way_to_operations_with_parameters():
    run, method = begun()
    skip, pool = 1, 4
    counts = {}
    for dropout in (False, True):
        drawn = sum(method.draw_path(run, dropout).astype(int) for _ in range(1500))
        counts[dropout] = drawn.sum(0) / drawn.sum()
    assert counts[False][0] == counts[True][0] == 0
    np.testing.assert_allclose(counts[False][1:], 0.25, atol=0.02)
    assert counts[True][skip] == pytest.approx(0.8 * counts[False][skip], abs=0.02)
    # A pool that was drawn beside a skip, in a sixth of the draws, is given up as well.
    assert counts[True][pool] == pytest.approx(0.25 - 0.2 / 12, abs=0.02)


# -- progressive pruning ---------------------------------------------------------------------------


@pytest.mark.parametrize("space", [NASBENCH, DARTS], ids=["nasbench201", "darts"])
def test_slots_are_frozen_in_order_and_evenly_in_time(space, monkeypatch):
    run, method = begun(space, finetune=0.5)
    monkeypatch.setattr(method, "_train_weights", lambda run, dropout: 0.0)
    monkeypatch.setattr(method, "_train_alphas", lambda run: None)
    frozen = []
    for done in np.linspace(0, 0.999, 400):
        run.fraction = done / 2
        method.step(run)
        frozen.append((done, len(method.pruning.frozen)))
    for done, count in frozen:
        expected = 0 if done < 0.6 else math.floor(space.slots * (done - 0.6) / 0.4 + 1e-9) + 1
        assert count == expected
    best = method._logs()
    best[:, 0] = -np.inf
    assert method.pruning.frozen == best.argmax(1).tolist()
    assert method.pruning.complete


def test_a_frozen_slot_runs_its_operation_and_no_alpha_of_it_moves():
    run, method = begun()
    with torch.no_grad():
        method.alphas.alpha[0, 1] = 3.0  # a skip
    method.pruning.freeze(method._logs(), run.subspace)
    for _ in range(50):
        assert method.draw_path(run, dropout=True)[0].tolist() == [False, True, *[False] * 3]
    alpha = method.alphas.alpha.detach().clone()
    method._train_alphas(run)
    assert torch.equal(method.alphas.alpha[0], alpha[0])
    assert not torch.equal(method.alphas.alpha[1], alpha[1])


def test_what_is_forbidden_never_runs():
    run, method = begun()
    run.subspace.mask[:, 3] = False
    run.subspace.mask[2] = [True, False, False, False, False]  # nothing but none is left there
    for _ in range(30):
        path = method.draw_path(run, dropout=True)
        assert (path.sum(1) == 1).all()
        assert not (path & ~run.subspace.mask).any()
    assert run.subspace.contains(method.derive(run)[0][0])


# -- the network that is kept ----------------------------------------------------------------------


def test_the_finetune_starts_from_the_weights_of_the_supernet_and_sees_all_images():
    run, method = begun(finetune=0.5)
    method.step(run)
    shared = copy.deepcopy(run.network)
    run.fraction = 0.5
    architecture, kept = method._extract(run)
    for key, value in kept.network.state_dict().items():
        part, _, place = key.partition(".edges.")
        if key.startswith(("stem.0", "classifier")):
            assert torch.equal(value, shared.state_dict()[key])
        if place.endswith(".1.weight"):
            slot = list(kept.network.get_submodule(f"{part}.edges")).index(place.split(".")[0])
            used = [i for i, op in enumerate(architecture) if op][slot]
            parent = shared.get_submodule(f"{part}.edges.{used}").operation(architecture[used])[0]
            assert torch.equal(value, parent[1].weight)
    before, supernet = copies(kept.network), copies(run.network)
    seen = set()
    for run.fraction in (0.5, 0.75):
        method.step(run)
        seen |= set(run.sides["weights"].tolist())
    assert seen == set(range(40))
    assert changed(before, kept.network) == {name for name, _ in kept.network.named_parameters()}
    assert not changed(supernet, run.network)
    assert method.winner == architecture == method.derive(run)[0][0]


def test_the_rate_of_the_finetune_rises_and_falls():
    rates = [rate(done) for done in np.linspace(0, 1, 601)]
    assert rates[0] == pytest.approx(0.02)
    assert max(rates) == pytest.approx(0.2, rel=0.01)
    assert np.argmax(rates) <= 20
    assert rates[-1] == 0
    assert (np.diff(rates[20:]) < 0).all()


def test_the_saved_weights_give_the_reported_accuracy_again(tmp_path):
    data = task()
    found = Search(data, "nasbench201", "sswp", images=700, **SMALL).conduct()
    run, winner = found.run, found.ranking[0][0]
    method = found.composed.method
    torch.save(method.network(run, winner).state_dict(), tmp_path / "weights.pt")
    again = NASBENCH.build(winner, 3, **SMALL)
    again.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    x, y = data.normalised("test")
    reported = method.accuracy(run, winner)
    assert accuracy(again, x, y, EXACT) == pytest.approx(reported, abs=1e-6)
    assert found.result().protocol.startswith("kept weights")
    with torch.no_grad():
        assert torch.equal(again.eval()(x), method.network(run, winner)(x))
    other = (3, 3, 1, 0, 4, 2)
    assert other != winner
    assert method.network(run, other)(x[:2]).shape == (2, 3)  # not finetuned


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "steps"), [("infonce", 9), ("byol", 3), ("supervised", 10)])
def test_a_stopped_search_goes_on_to_the_last_bit(loss, steps, tmp_path):
    def searched(**more):
        # Alphas move, slots freeze, and the kept network trains.
        return Search(
            task(), "nasbench201", "sswp", images=440, options={"sswp.loss": loss}, **SMALL, **more
        ).conduct()

    asked = iter(range(steps))
    path = tmp_path / "run"
    stopped = searched(checkpoint=path, should_stop=lambda: next(asked, None) is None)
    assert stopped.run.steps == steps
    resumed, whole = searched(checkpoint=path), searched()
    assert resumed.run.steps == whole.run.steps > steps
    assert resumed.ranking == whole.ranking
    for left, right in zip(
        resumed.composed.method.tensors().items(),
        whole.composed.method.tensors().items(),
        strict=True,
    ):
        assert left[0] == right[0]
        assert torch.equal(left[1], right[1]), left[0]
    assert resumed.result().accuracy == whole.result().accuracy
    assert resumed.result().notes == whole.result().notes


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match=r"Unknown loss 'infonec'.*infonce"):
        compose("sswp", {"sswp.loss": "infonec"})
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(InputError, match="0 or more and below 1"):
            compose("sswp", {"sswp.finetune": wrong})
