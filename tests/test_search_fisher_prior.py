"""The Fisher prior: which tasks are near, what they leave of the space, limits, resuming."""

import numpy as np
import pytest
from searching import task

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.training.device import plan
from search.engine.budget import Budget
from search.engine.composition import compose
from search.engine.loop import Engine
from search.engine.run import Run
from search.searching import Conducted, Search
from search.subspace.subspace import Subspace
from search.wrappers.fisher import FisherPrior, PastTask

NB201, DARTS = SPACES.get("nasbench201"), SPACES.get("darts")
FAR = PastTask("far", task(seed=1), ((4, 4, 4, 4, 4, 4),))
NEAR = PastTask("near", task(seed=2), ((3, 1, 2, 1, 1, 3),))
NEXT = PastTask("next", task(seed=3), ((3, 2, 2, 1, 0, 3),))
DISTANCES = {"far": 0.9, "near": 0.1, "next": 0.2}
QUICK = {"spos.population": 2, "spos.generations": 1}


@pytest.fixture(autouse=True)
def measured(monkeypatch) -> list:
    """Replace the measurement by a table; returns what was asked of it."""
    asked = []
    known = {id(past.data): past.name for past in (FAR, NEAR, NEXT)}

    def distance(source, target, seeds, device, own, on_step):
        asked.append((known[id(source)], tuple(seeds), device))
        return DISTANCES[known[id(source)]]

    monkeypatch.setattr("search.wrappers.fisher.task_distance", distance)
    return asked


def short(tasks, space: str = "nasbench201", **arguments) -> Conducted:
    options = QUICK | {"fisher.tasks": tasks} | arguments.pop("options", {})
    return Search(
        task(), space, "spos+fisher", images=80, channels=2, cells=1, options=options, **arguments
    ).conduct()


def allowed(search: Conducted) -> list[set[int]]:
    return [set(np.flatnonzero(row).tolist()) for row in search.run.subspace.mask]


def test_slots_keep_what_the_best_of_the_nearest_tasks_have(measured):
    found = short([FAR, NEAR, NEXT], options={"fisher.nearest": 2, "fisher.seeds": 3}, seed=7)
    assert allowed(found) == [{3}, {1, 2}, {2}, {1}, {0, 1}, {3}]
    assert found.run.subspace.contains(found.ranking[0][0])
    assert measured == [(name, (7, 8, 9), "cpu") for name in ("far", "near", "next")]
    (note,) = [h["note"] for h in found.run.history if "note" in h]
    assert note == (
        "Fisher distances of past tasks: near 0.100, next 0.200, far 0.900; the best "
        "architectures of near, next leave 8 of 30 operations"
    )


def test_an_edge_of_darts_that_none_of_them_uses_is_left_as_it_is():
    best = DARTS.sample(np.random.default_rng(0))
    found = short([PastTask("near", NEAR.data, (best,))], space="darts")
    for slot, kept in enumerate(allowed(found)):
        assert kept - {0} == ({best[slot]} if best[slot] else set(range(1, 8)))


def test_limits_that_the_best_exceed_leave_something_feasible():
    limit = NB201.smallest(3).params + 1000
    assert NB201.cost(NEAR.best[0], 3).params > limit
    found = short([NEAR], max_params=limit)
    assert NB201.cost(found.ranking[0][0], 3).params <= limit


def test_past_tasks_are_asked_for_with_the_remedy():
    with pytest.raises(InputError, match=r"give some, options=\{'fisher\.tasks'"):
        short([])


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([NEAR, NEAR], "'near'; give each a name"),
        ([PastTask("p", NEAR.data, ())], "no best architecture"),
        ([PastTask("p", NEAR.data, ((0,) * 6,))], "is no architecture of 'nasbench201'"),
        ([PastTask("p", NEAR.data, ((3, 3),))], "is no architecture of 'nasbench201'"),
        ([PastTask("p", NEAR.data, ((9,) * 6,))], "is no architecture of 'nasbench201'"),
    ],
)
def test_tasks_that_cannot_be_used_are_refused(tasks, message):
    with pytest.raises(InputError, match=message):
        short(tasks)


def test_options_out_of_range_are_refused():
    with pytest.raises(InputError, match="nearest=0"):
        compose("spos+fisher", {"fisher.nearest": 0})


def test_time_is_kept_for_the_search(measured, monkeypatch):
    monkeypatch.setattr("search.wrappers.fisher._MOST", 0.0)
    found = Search(
        task(),
        "nasbench201",
        "spos+fisher",
        minutes=0.001,
        channels=2,
        cells=1,
        options=QUICK | {"fisher.tasks": [NEAR]},
    ).conduct()
    assert measured == []
    assert found.run.subspace.mask.all()
    notes = [h["note"] for h in found.run.history if "note" in h]
    assert notes[0] == "no time to measure the distance from every past task"


def test_a_task_is_known_by_its_content():
    assert repr(NEAR) == repr(PastTask("near", task(seed=2), NEAR.best))
    assert repr(NEAR) != repr(PastTask("near", task(seed=1), NEAR.best))


# -- resuming ------------------------------------------------------------------------------------


def engine(path, stop=lambda: False) -> Engine:
    composed = compose(
        "spos+fisher", QUICK | {"fisher.tasks": [FAR, NEAR, NEXT], "fisher.nearest": 1}
    )
    run = Run(
        NB201,
        task(),
        Subspace(NB201, 3),
        Budget(images=160),
        plan("cpu"),
        {"channels": 2, "cells": 1},
        0,
        stop,
    )
    return Engine(run, composed, {}, path)


def test_it_is_in_force_before_the_first_step(tmp_path):
    begun = engine(tmp_path / "run").run
    assert begun.steps == 0
    assert begun.subspace.mask.sum() == 6
    assert begun.subspace.contains(NEAR.best[0])


def test_a_resumed_run_measures_nothing_again(tmp_path, measured):
    asked = iter([False] * 5)
    first = engine(tmp_path / "run", lambda: next(asked, True))
    assert not first.train()
    assert first.run.steps == 2
    assert len(measured) == 3
    second = engine(tmp_path / "run")
    assert len(measured) == 3
    assert (second.run.subspace.mask == first.run.subspace.mask).all()
    assert second.run.history == first.run.history
    assert second.train()


def test_one_that_was_cancelled_while_measuring_goes_on_there(tmp_path, measured):
    asked = iter([False] * 2)
    first = engine(tmp_path / "run", lambda: next(asked, True))
    assert not first.train()
    assert [name for name, *_ in measured] == ["far", "near"]
    assert first.run.subspace.mask.all()
    second = engine(tmp_path / "run")
    assert [name for name, *_ in measured] == ["far", "near", "next"]
    assert second.run.subspace.mask.sum() == 6
    assert second.train()


def test_one_that_is_cancelled_within_a_distance_does_not_wait_for_it(tmp_path, monkeypatch):
    steps = []

    def distance(source, target, seeds, device, own, on_step):
        for step in range(1000):
            steps.append(own)
            on_step(step)
        return 0.5

    monkeypatch.setattr("search.wrappers.fisher.task_distance", distance)
    asked = iter([False] * 5)
    first = engine(tmp_path / "run", lambda: next(asked, True))
    assert len(steps) == 5
    assert first.run.subspace.mask.all()
    engine(tmp_path / "run")
    assert all(own is steps[5] for own in steps[5:])  # the target's networks serve all tasks


def test_every_method_may_be_narrowed():
    prior = FisherPrior([NEAR])
    assert all(prior.refuse(compose(name).method) is None for name in ("spos", "random", "darts"))
