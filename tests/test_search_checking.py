"""``check`` and ``refine``: measurements beside predictions, limits, weights that are kept."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from metad2a import load_dataset, suggest
from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search import check, refine, search
from search.checking import STEPS, recipe
from search.data import search_task
from search.delivery import delivered_accuracy

SPACE = SPACES.get("nasbench201")
SMALL = {"images": 640, "channels": 4, "cells": 1}


@pytest.fixture(scope="module")
def suggested():
    return suggest("sklearn:digits", k=3, max_params=400_000)


@pytest.fixture(scope="module")
def checked(suggested):
    """Trained by the shortest protocol, cut to steps that a test has the time for."""
    patch = pytest.MonkeyPatch()
    patch.setitem(STEPS, "standalone-v1", 20)
    try:
        return check(suggested, minutes=2, protocol="standalone-v1")
    finally:
        patch.undo()


def test_check_ranks_the_candidates_by_what_they_reached(suggested, checked):
    assert {c.architecture for c in checked} == {c.architecture for c in suggested}
    accuracies = [c.measured.accuracy for c in checked]
    assert accuracies == sorted(accuracies, reverse=True)
    assert [c.rank for c in checked] == [1, 2, 3]
    assert all(10 < value <= 100 for value in accuracies)
    for candidate in checked:
        assert candidate.measured.protocol == "standalone-v1, on held-out images"
        assert len(candidate.measured.curve) == 4
        assert candidate.measured.seconds > 0
    predicted = {c.architecture: c.accuracy for c in suggested}
    assert all(c.accuracy == predicted[c.architecture] for c in checked)
    text = str(checked)
    assert "measured" in text
    assert f"{accuracies[0]:.1f} %" in text
    assert checked.to_dict()["candidates"][0]["measured"]["accuracy"] == accuracies[0]


def test_the_trained_network_keeps_its_accuracy_through_a_file(checked):
    with load_dataset("sklearn:digits") as dataset:
        data = search_task(dataset, 32, seed=0)
    network = checked[0].build()
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    again = checked[0].build()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert delivered_accuracy(checked[0].build(), data) * 100 == checked[0].measured.accuracy
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert 100 * delivered_accuracy(again, data) == pytest.approx(
        checked[0].measured.accuracy, abs=1e-6
    )
    untrained = checked[0].build(channels=4, cells=1)
    assert untrained(torch.zeros(2, 3, 8, 8)).shape == (2, 10)


def test_a_check_without_time_leaves_what_it_cannot_train(suggested):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 3

    found = check(suggested, protocol="standalone-v1", should_stop=stop)
    assert [c.measured for c in found] == [None] * 3
    assert [c.architecture for c in found] == [c.architecture for c in suggested]


def test_check_takes_the_longest_protocol_that_fits(suggested, monkeypatch):
    from search import checking

    taken = []

    def pretend(*arguments):
        taken.append(arguments[4].steps)
        return train(*arguments[:4], recipe_of(arguments[4]), *arguments[5:])

    def recipe_of(given):
        import dataclasses

        return dataclasses.replace(given, steps=4)

    train = checking.train
    monkeypatch.setattr(checking, "train", pretend)
    check(suggested, minutes=10_000)
    assert taken == [4, *[STEPS["standalone-25000-v1"]] * 3]


def test_protocols_are_frozen():
    assert recipe(SPACE, "standalone-v1") == recipe(SPACE, "standalone-v1").__class__()
    assert STEPS["standalone-v1"] == 200
    with pytest.raises(InputError, match="Unknown protocol 'x'"):
        recipe(SPACE, "x")


@pytest.mark.parametrize("method", ["darts", "spos", "random"])
def test_refine_puts_measurements_beside_predictions(suggested, method):
    options = {"spos.population": 4, "spos.generations": 1} if method == "spos" else {}
    if method == "random":
        options = {"random.trainings": 2}
    found = refine(suggested, method=method, options=options, **SMALL)
    assert {c.architecture for c in suggested} <= {c.architecture for c in found}
    assert len(found) <= len(suggested) + 1
    assert [c.rank for c in found] == list(range(1, len(found) + 1))
    assert all(c.params <= 400_000 for c in found)
    assert found[0].measured is not None
    assert 0 <= found[0].measured.accuracy <= 100
    assert all(math.isfinite(c.accuracy) for c in found)
    assert f"the winner of {method}" in found[0].reason
    if method == "darts":  # starts in the space of the suggestions' operations
        used = [
            set(ops) for ops in zip(*(SPACE.parse(c.architecture) for c in suggested), strict=True)
        ]
        winner = SPACE.parse(found[0].architecture)
        assert all(op in ops | {0} for op, ops in zip(winner, used, strict=True))


def test_refine_goes_on_from_a_checkpoint(suggested, tmp_path):
    asked = iter(range(2))
    refine(
        suggested,
        method="darts",
        checkpoint=tmp_path / "run",
        should_stop=lambda: next(asked, None) is None,
        **SMALL,
    )
    resumed = refine(suggested, method="darts", checkpoint=tmp_path / "run", **SMALL)
    whole = refine(suggested, method="darts", **SMALL)
    assert [(c.architecture, c.measured.accuracy) for c in resumed] == [
        (c.architecture, c.measured.accuracy) for c in whole
    ]


def test_a_kept_network_of_a_search_has_the_accuracy_that_is_told():
    with load_dataset("sklearn:digits") as dataset:
        data = search_task(dataset, 32, seed=0)
    result = search("sklearn:digits", method="random", options={"random.trainings": 2}, **SMALL)
    assert result.network is not None
    assert delivered_accuracy(result.build(), data) == result.accuracy
    assert np.isfinite(result.accuracy)


def test_refine_leaves_out_what_is_slower_than_a_limit(suggested, monkeypatch):
    times = iter([9.0, 1.0, 2.0, 3.0])  # of the winner, which is new or not, and of the others
    monkeypatch.setattr("metad2a.latency.measure", lambda *network: next(times))
    limited = suggested.revised(suggested, 0.0)
    limited.limits = replace(suggested.limits, max_latency_ms=2.5)
    everything = refine(suggested, method="random", **SMALL)
    found = refine(limited, method="random", **SMALL)
    kept = [c.architecture for c in everything][1:3]
    assert [c.architecture for c in found] == kept
    assert [c.latency_ms for c in found] == [1.0, 2.0]
    assert [c.rank for c in found] == [1, 2]
