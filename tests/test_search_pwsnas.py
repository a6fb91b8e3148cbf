"""PWSNAS: what is dropped, when and never; clones, their degree and their parameters."""

import math

import numpy as np
import pytest
import torch
from searching import task

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.engine.composition import compose
from search.engine.method import Method
from search.scores.base import Evaluator
from search.searching import Conducted, Search
from search.subspace.cloning import clone_most_shared, parameters_in_use, sharing
from search.subspace.shrinking import Shrinking, children, drop_first, operator_scores
from search.subspace.subspace import Subspace
from search.wrappers.pwsnas import Pwsnas

NB201, DARTS = SPACES.get("nasbench201"), SPACES.get("darts")
QUICK = {
    "spos.population": 2,
    "spos.generations": 1,
    "fairnas.population": 2,
    "fairnas.generations": 1,
}


def short(method: str, images: int, space: str = "nasbench201", **arguments) -> Conducted:
    parts = method.split("+")
    options = {k: v for k, v in QUICK.items() if k.split(".")[0] in parts}
    return Search(
        task(),
        space,
        method,
        images=images,
        channels=2,
        cells=1,
        options=options | arguments.pop("options", {}),
        **arguments,
    ).conduct()


def events(search: Conducted) -> list[dict]:
    return [h for h in search.run.history if h.get("note", "").startswith("shrinking")]


@pytest.fixture(autouse=True)
def few_children(monkeypatch):
    monkeypatch.setattr("search.subspace.shrinking._CHILDREN", 50)


# -- scores --------------------------------------------------------------------------------------


class Cheapness(Evaluator):
    """The fewer the indices sum to, the better."""

    def score(self, architectures):
        return np.array([-float(sum(a)) for a in architectures])


def test_a_score_is_the_mean_over_the_members_that_have_the_operation():
    members = np.array([[0, 1], [0, 2], [2, 2]])
    means = operator_scores(members, Cheapness(), 3)
    np.testing.assert_array_equal(means, [[-1.5, -np.inf, -4.0], [-np.inf, -1.0, -3.0]])


def test_all_members_are_enumerated_where_they_can_be():
    subspace = Subspace(NB201, 10, max_params=500_000)
    subspace.drop(0, 3)
    members = children(subspace, np.random.default_rng(0))
    expected = [cell for cell in NB201.enumerate() if subspace.contains(cell)]
    assert [tuple(cell) for cell in members.tolist()] == expected
    assert 1000 < len(expected) < 15_625


def test_a_thousand_distinct_ones_are_drawn_where_not(monkeypatch):
    monkeypatch.setattr("search.subspace.shrinking._CHILDREN", 1000)
    subspace = Subspace(DARTS, 10)
    members = children(subspace, np.random.default_rng(0))
    assert members.shape == (1000, 28)
    assert len(np.unique(members, axis=0)) == 1000
    assert DARTS.connected(members).all()


# -- dropping ------------------------------------------------------------------------------------


def test_the_last_operation_of_a_slot_and_the_last_feasible_architecture_stay():
    subspace = Subspace(NB201, 10)
    order = [(slot, op) for slot in range(6) for op in range(5)]
    dropped = drop_first(subspace, order, 30)
    assert len(dropped) == 24
    assert (subspace.mask.sum(1) == 1).all()
    assert subspace.contains(subspace.sample(np.random.default_rng(0)))
    least = NB201.smallest(10).params
    tight = Subspace(NB201, 10, max_params=least + 10)
    drop_first(tight, [(slot, op) for slot in range(6) for op in (0, 1, 4)], 30)
    assert NB201.cost(tight.sample(np.random.default_rng(0)), 10).params <= least + 10


def test_nasbench201_loses_20_of_30_at_once_before_the_method_begins():
    found = short("spos+pwsnas", 400)  # ten steps
    (event,) = events(found)
    assert event["step"] == 5
    assert event["note"].count(" rad)") == 20
    assert found.run.subspace.mask.sum() == 10
    assert found.run.subspace.mask.any(1).all()


def test_operations_of_the_smallest_angle_are_dropped(monkeypatch):
    # With these scores the operations of index 4, 3, ... go first.
    monkeypatch.setattr("search.subspace.shrinking.Angle", lambda *_, **__: Cheapness())
    mask = short("spos+pwsnas", 400).run.subspace.mask
    assert not mask[:, 3:].any()
    # Of none and skip_connect 8 are to go besides nor_conv_1x1, none before a skip is alone.
    assert mask.sum() == 10


def test_around_fairnas_each_slot_loses_the_same():
    found = short("fairnas+pwsnas", 400 * 5)
    assert len(events(found)) == 3
    assert [e["note"].count(" rad)") for e in events(found)] == [6, 6, 6]
    assert found.run.subspace.mask.sum(1).tolist() == [2] * 6


@pytest.mark.slow
def test_each_edge_of_darts_loses_one_at_a_time_until_two_are_left():
    found = short("spos+pwsnas", 2 * 12 * 40, space="darts")
    shrinkings = events(found)
    assert [e["note"].count(" rad)") for e in shrinkings] == [28] * 5
    assert [e["note"][:14] for e in shrinkings] == [f"shrinking {k} of 5"[:14] for k in range(1, 6)]
    # The first after 150 of 230 epochs, then every 20, the last at the end of the phase.
    steps = [e["step"] for e in shrinkings]
    due = [(150 + 20 * k) / 230 for k in range(4)]
    assert steps == [*(math.ceil(12 * f) for f in due), 12]
    mask = found.run.subspace.mask
    assert mask[:, 0].all()
    assert (mask[:, 1:].sum(1) == 2).all()


def test_the_number_of_events_and_the_share_are_options():
    found = short("spos+pwsnas", 800, options={"pwsnas.events": 4, "pwsnas.drop": 0.5})
    assert len(events(found)) == 4
    assert [e["note"].count(" rad)") for e in events(found)] == [3, 4, 4, 4]
    assert found.run.subspace.mask.sum() == 15
    for wrong in ({"pwsnas.drop": 1.0}, {"pwsnas.drop": 0.0}, {"pwsnas.events": -1}):
        with pytest.raises(InputError, match="drop="):
            compose("spos+pwsnas", wrong)


# -- clones --------------------------------------------------------------------------------------


def narrowed() -> Conducted:
    """Return a run after one step whose slots keep both convolutions and the skip connection."""
    found = short("spos", 40)
    found.run.subspace.mask[:, [0, 4]] = False
    return found


def test_the_degree_of_sharing_counts_the_architectures_that_use_an_operation():
    mask = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0]], dtype=bool)
    assert sharing(mask) == [2, 6, 3]
    run = narrowed().run
    members = children(run.subspace, run.rng)
    assert sharing(run.subspace.mask) == [int((members[:, slot] == 3).sum()) for slot in range(6)]


def test_clones_spend_what_is_left_and_no_more_on_what_is_shared_most():
    run = narrowed().run
    run.subspace.mask[4, 2] = False  # so slot 4's others are shared most
    used = parameters_in_use(run)
    size = {op: run.supernet.operation_params(4, op) for op in (2, 3)}
    assert size[3] > size[2] > 0
    assert clone_most_shared(run, used) == []
    # Slots 2, 4 and 5 follow another one; a clone needs two more copies.
    budget = used + 2 * size[3] + 2 * size[2]
    clones = clone_most_shared(run, budget)
    assert clones == [(4, 3, 0), (2, 2, 0)]
    assert parameters_in_use(run) == budget
    assert clone_most_shared(run, budget) == []


def test_each_copy_serves_a_part_of_the_architectures():
    run = narrowed().run
    members = children(run.subspace, run.rng)
    ((slot, op, by), *_) = clone_most_shared(run, 10**9)
    degree = sharing(run.subspace.mask)[slot]
    copies = np.bincount(members[members[:, slot] == op][:, by], minlength=5)
    assert copies.tolist() == [0] + [degree // 3] * 3 + [0]


def test_every_clone_of_a_large_budget_is_of_an_operation_with_weights_and_a_choice_before_it():
    run = narrowed().run
    run.subspace.mask[0] = [False, True, False, False, False]  # leads to slots 2 and 4
    clones = clone_most_shared(run, 10**9)
    assert {(slot, by) for slot, _, by in clones} == {(5, 2)}
    assert {op for _, op, _ in clones} == {2, 3}


def test_clones_begin_alike_keep_their_momentum_and_learn_apart():
    run = narrowed().run
    clone_most_shared(run, 10**9)
    edge = run.supernet.edges(2)[0]
    first, second = edge.operation(3)[1:3]
    assert torch.equal(first[1].weight, second[1].weight)
    before = second[1].weight.clone()
    from metad2a.spaces.supernets.gates import Gates

    run.train_weights(run.batch(), [Gates.path((1, 1, 3, 1, 1, 1), 5)])
    assert not torch.equal(first[1].weight, before)
    assert torch.equal(second[1].weight, before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spos", "fairnas"])
def test_the_parameters_in_use_never_exceed_those_at_the_start(monkeypatch, method):
    seen = []
    shrink = Shrinking._shrink

    def watched(self, run):
        shrink(self, run)
        seen.append((parameters_in_use(run), self.budget))

    monkeypatch.setattr(Shrinking, "_shrink", watched)
    found = short(f"{method}+pwsnas", 10 * 40 * 8, space="darts")
    assert len(seen) == 5
    assert all(used <= budget for used, budget in seen)
    whole = sum(found.run.supernet.operation_params(s, o) for s in range(28) for o in range(8))
    assert seen[0][1] == whole
    assert found.run.supernet.clones
    assert "cloned" in events(found)[-1]["note"]


# -- hosts ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_method_goes_on_with_the_weights_or_begins_anew_where_faithful(monkeypatch):
    ends = []
    finish = Shrinking.finish

    def watched(self, run):
        before = run.network.classifier.weight.detach().clone()
        finish(self, run)
        after = run.network.classifier.weight
        ends.append(
            (
                torch.equal(before, after),
                torch.equal(after, run.initial.classifier.weight),
                list(run.supernet.clones),
            )
        )

    monkeypatch.setattr(Shrinking, "finish", watched)
    short("spos+pwsnas", 2 * 6 * 40, space="darts")
    short("spos+pwsnas", 2 * 6 * 40, space="darts", faithful=True)
    (kept, untrained, _), (left, renewed, clones) = ends
    assert (kept, untrained) == (True, False)
    assert (left, renewed) == (False, True)
    assert clones


def test_around_a_bilevel_method_weights_never_see_the_images_of_the_alphas():
    found = short("darts+pwsnas", 6 * 40)
    sides = found.run.sides
    assert len(sides["weights"]) == len(sides["architecture"]) == 20
    asked = iter([False])
    shrunk = short("darts+pwsnas", 40, should_stop=lambda: next(asked, True))
    assert shrunk.run.phase == 1  # cancelled in the first phase, judged in the last
    assert shrunk.run.sides["weights"].tolist() == sides["weights"].tolist()


@pytest.mark.slow
def test_a_method_that_takes_new_weights_is_noted():
    found = short("pdarts+pwsnas", 2 * 12 * 40, space="darts")
    notes = [h["note"] for h in found.run.history if "note" in h]
    assert sum("the method began with new weights" in note for note in notes) == 1
    assert not found.run.supernet.clones
    assert (found.run.subspace.mask[:, 1:].sum(1) <= 2).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method", ["spos", "fairnas", "proxylessnas", "darts", "darts2", "pdarts", "dropnas"]
)
def test_every_host_searches_the_narrowed_space(method):
    found = short(f"{method}+pwsnas", 16 * 40)
    assert len(events(found)) in (1, 3)
    best = found.ranking[0][0]
    assert found.run.subspace.contains(best)
    assert found.run.subspace.mask.sum() <= 12


def test_a_method_without_shared_training_is_refused():
    class Untrained(Method):
        shared_training = False
        begin = step = score = derive = None

    assert "no shared weights" in Pwsnas().refuse(Untrained())


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 7])
def test_a_resumed_run_goes_on_to_the_last_bit(tmp_path, steps):
    # Stopped between two events, and in the method.
    arguments = {"space": "darts", "images": 2 * 6 * 40}
    asked = iter(range(steps))
    first = short(
        "spos+pwsnas",
        checkpoint=tmp_path / "run",
        **arguments,
        should_stop=lambda: next(asked, None) is None,
    )
    assert len(events(first)) == (1 if steps == 5 else 5)
    resumed = short("spos+pwsnas", checkpoint=tmp_path / "run", **arguments)
    whole = short("spos+pwsnas", **arguments)
    assert resumed.run.steps == whole.run.steps
    assert resumed.run.supernet.clones == whole.run.supernet.clones
    assert (resumed.run.subspace.mask == whole.run.subspace.mask).all()
    assert events(resumed) == events(whole)
    left, right = whole.run.network.state_dict(), resumed.run.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)
