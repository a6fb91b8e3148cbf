"""Plans with a search: what it finds is stored, then measured, and it is never searched again."""

from __future__ import annotations

from collections import Counter

import pytest
from building import Here, jobs_by_state, make_data, make_plan, rows, use
from labelling import Quick

from database.build import build
from database.workers import local
from search.labellers.search import SearchLabeller

SEARCH = {"name": "random", "architectures": 3, "images": 300, "channels": 4, "cells": 1}
ONE = {"count": 1, "only": ["second"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def labellers(monkeypatch):
    use(monkeypatch, quick=Quick())
    monkeypatch.setattr(local, "LocalWorkers", Here)


@pytest.fixture
def searched(monkeypatch):
    """Count the searches."""
    seeds = []

    def measure(labeller, data, space, architectures, seed, device="cpu"):
        seeds.append(seed)
        yield from real(labeller, data, space, architectures, seed, device)

    real = SearchLabeller.measure
    monkeypatch.setattr(SearchLabeller, "measure", measure)
    return seeds


def found(path, protocol):
    """Return the architectures with a row under a protocol."""
    return {row["architecture"] for row in rows(path) if row["protocol"] == protocol}


@pytest.mark.parametrize("name", ["random", "dropnas"])
def test_what_a_search_finds_is_stored_and_measured(data, tmp_path, searched, name):
    path, seen = tmp_path / "store.sqlite", []
    plan = make_plan(SEARCH | {"name": name, "protocols": ["quick"]}, tasks=ONE, seed=5)
    summary = build(plan, path, data, progress=lambda *step: seen.append(step[:2]))
    assert (summary.jobs, summary.failures) == (1 + 3, [])
    assert seen == [(0, 1), (1, 4), (2, 4), (3, 4), (4, 4)]
    counts = Counter(row["protocol"] for row in rows(path))
    label = SearchLabeller(name, 300, 3, 4, 1).name
    assert counts[f"{label}-score"] == counts["quick"] == 3
    assert found(path, f"{label}-score") == found(path, "quick") >= found(path, label)
    assert {row["seed"] for row in rows(path)} == {5}
    again = build(plan, path, data)
    assert (again.jobs, again.evaluations, searched) == (0, 0, [5])


def test_a_build_that_ends_after_the_search_does_not_search_again(data, tmp_path, searched):
    path, done = tmp_path / "store.sqlite", []
    plan = make_plan(SEARCH | {"protocols": ["quick"]}, tasks=ONE)
    first = build(
        plan,
        path,
        data,
        progress=lambda *step: done.append(step),
        should_stop=lambda: len(done) > 1,
    )
    assert (first.jobs, first.stopped) == (1, True)
    assert jobs_by_state(path) == {"done": 1, "open": 3}
    assert build(plan, path, data).jobs == 3
    assert searched == [0]


def test_a_search_without_protocols_measures_nothing_else(data, tmp_path, searched):
    path = tmp_path / "store.sqlite"
    assert build(make_plan(SEARCH, tasks=ONE), path, data).jobs == 1
    assert {row["protocol"].partition("@")[0] for row in rows(path)} == {"random"}
    later = make_plan(SEARCH | {"protocols": ["quick"]}, tasks=ONE)  # another build
    assert build(later, path, data).jobs == 3
    assert searched == [0]


def test_the_same_seed_finds_the_same(data, tmp_path):
    search = SEARCH | {"name": "dropnas", "protocols": ["quick"], "images": 100}
    plan = make_plan(search, tasks=ONE)
    results = []
    for name in ("one", "two"):
        build(plan, tmp_path / name, data)
        results.append(rows(tmp_path / name, ("created", "seconds")))
    assert results[0] == results[1]
    other = make_plan(search, tasks=ONE, seed=1)
    build(other, tmp_path / "other", data)
    values = [sorted(row["value"] for row in rows(tmp_path / name)) for name in ("one", "other")]
    assert values[0] != values[1]
