"""``check`` and ``refine``: measurements beside predictions, limits, and what is trained at the end."""

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from metad2a import load_dataset, predict, suggest
from metad2a.errors import BudgetError, InputError
from metad2a.spaces import SPACES
from metad2a.spaces.counting import count
from metad2a.training import plan
from metad2a.training.sides import split
from search import check, refine, refining, search
from search import suggested as trainings
from search.data import search_task

SPACE = SPACES.get("nasbench201")
SMALL = {"images": 320, "channels": 4, "cells": 1}


@pytest.fixture(scope="module")
def digits():
    """A hundred and twenty digits."""
    images, labels = load_digits(return_X_y=True)
    return load_dataset((images.reshape(-1, 8, 8) * 15).astype(np.uint8)[:120], labels[:120])


@pytest.fixture(scope="module")
def suggested(digits):
    return suggest(digits, k=3, max_params=160_000, space="nasbench201")


@pytest.fixture(scope="module", autouse=True)
def short():
    """Make trainings end after four epochs of two steps, long before their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "EPOCHS", (0.5, 4.0))
        yield


@pytest.fixture(scope="module")
def checked(suggested):
    told = []
    return check(suggested, 30, progress=told.append), told


def predicted(of):
    return {c.architecture: (c.accuracy, c.interval) for c in of}


def test_check_trains_the_first_and_says_what_it_reached(suggested, checked):
    found, told = checked
    assert [c.architecture for c in found] == [c.architecture for c in suggested]
    assert [c.rank for c in found] == [1, 2, 3]
    assert predicted(found) == predicted(suggested)
    assert [c.measured is None for c in found] == [False, True, True]
    first, trained = found[0], found[0].trained
    assert first.measured.accuracy == trained.accuracy
    assert first.measured.protocol == "scratch-v1, 4.0 epochs, on 24 test images"
    assert first.measured.curve == tuple(value for _, value in trained.curve)
    assert first.measured.seconds > 0
    assert (trained.predicted, trained.interval) == (first.accuracy, first.interval)
    assert "predicted under the protocol standalone-v1" in trained.reason
    assert trained.report is found.report
    assert f"{first.measured.accuracy:.1f} %" in str(found)
    assert found.note == suggested.note
    assert found.to_dict()["candidates"][0]["measured"]["accuracy"] == trained.accuracy
    assert [one.fraction for one in told] == sorted(one.fraction for one in told)
    assert {"training: training", "training: judging"} <= {one.stage for one in told}
    losses = [one for one in told if not math.isnan(one.loss)]
    assert losses and losses[-1].images > 0


def test_the_network_that_is_shown_is_the_one_trained_measured_and_saved(checked, tmp_path):
    first = checked[0][0]
    cost = SPACE.cost(SPACE.parse(first.architecture), 10)
    assert (first.params, first.macs) == (cost.params, cost.macs)
    module = first.trained.module
    assert (first.trained.network.params, first.trained.network.macs) == (cost.params, cost.macs)
    assert count(module, first.resolution) == cost
    built = first.build()
    assert sum(p.numel() for p in built.parameters()) == cost.params
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean, deviation = (
            torch.tensor(v).view(1, 3, 1, 1) for v in (first.trained.mean, first.trained.deviation)
        )
        assert torch.equal(built(images), module((images - mean) / deviation))
        next(built.parameters()).zero_()  # it is a copy
        assert first.build()(images).std() > 0
    by_candidate = first.save(tmp_path / "a")
    by_training = first.trained.save(tmp_path / "b", onnx=False)
    assert set(by_candidate.files) == {*by_training.files, "model.onnx"}
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "ab"]
    assert weights[0] == weights[1]
    told = json.loads((tmp_path / "a" / "architecture.json").read_text(encoding="utf-8"))
    assert (told["params"], told["macs"]) == (cost.params, cost.macs)
    assert told["accuracy"] == first.measured.accuracy
    assert told["predicted"] == first.accuracy


def test_a_saved_check_predicts_what_was_measured(digits, checked, tmp_path):
    first = checked[0][0]
    first.save(tmp_path / "best", onnx=False)
    test = split(digits, 0).test
    found = predict(tmp_path / "best", [digits.image(int(index)) for index in test])
    right = [
        one.label == digits.classes[digits.labels[i]] for one, i in zip(found, test, strict=True)
    ]
    assert 100 * np.mean(right) == pytest.approx(first.measured.accuracy)


def test_an_untrained_candidate_does_not_pretend(checked, tmp_path):
    second = checked[0][1]
    saved = second.save(tmp_path / "second")
    assert {"model.safetensors", "model.onnx", "confusion.svg"}.isdisjoint(saved.files)
    told = json.loads((tmp_path / "second" / "architecture.json").read_text(encoding="utf-8"))
    assert (told["params"], told["macs"]) == (second.params, second.macs)
    assert told["accuracy"] is None
    assert sum(p.numel() for p in second.build().parameters()) == second.params
    wide = checked[0][0].build(channels=4, cells=1)
    assert sum(p.numel() for p in wide.parameters()) < second.params


def test_what_was_trained_goes_to_another_process(checked):
    again = pickle.loads(pickle.dumps(list(checked[0])))
    assert again[0].measured == checked[0][0].measured
    left, right = (one[0].trained.module.state_dict() for one in (again, checked[0]))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def template(checked):
    """A training to copy."""
    trained = checked[0][0].trained

    def of(result, candidate, chosen_by):
        network = replace(trained.network, architecture=candidate.architecture)
        return replace(trained, network=network, chosen_by=chosen_by)

    return of


@pytest.fixture
def pretend(template, monkeypatch):
    """Let trainings take no time and end with given accuracies on the choice side."""

    def put(values, module):
        seen, left = [], iter(values)

        def trained_one(result, candidate, seconds, *rest):
            seen.append((candidate.architecture, seconds))
            return template(result, candidate, next(left))

        monkeypatch.setattr(f"search.{module}.trained_one", trained_one)
        return seen

    return put


def test_several_share_the_time_and_are_ranked_by_what_chose_them(suggested, pretend):
    seen = pretend([50.0, 70.0], "checking")
    found = check(suggested, minutes=2, candidates=2)
    assert [name for name, _ in seen] == [c.architecture for c in suggested[:2]]
    assert seen[0][1] == pytest.approx(60, abs=2)
    assert seen[1][1] == pytest.approx(120, abs=2)  # what the first did not need
    assert [c.architecture for c in found] == [suggested[i].architecture for i in (1, 0, 2)]
    assert [c.measured is None for c in found] == [False, False, True]
    assert found.note.endswith(trainings.RANKED)
    assert trainings.RANKED in str(found)


def test_where_nothing_chose_the_prediction_ranks(suggested, pretend):
    pretend([None, None, None], "checking")
    found = check(suggested, candidates=3)
    assert [c.architecture for c in found] == [c.architecture for c in suggested]


def test_a_check_that_is_stopped_leaves_what_it_did_not_begin(suggested, pretend):
    pretend([50.0], "checking")
    asked = iter([False])
    found = check(suggested, candidates=3, should_stop=lambda: next(asked, True))
    assert [c.measured is None for c in found] == [False, True, True]
    found = check(suggested, should_stop=lambda: True)
    assert [c.measured for c in found] == [None] * 3


def test_a_training_that_is_stopped_is_judged_and_says_so(suggested):
    asked = iter([False] * 3)
    found = check(suggested, 30, should_stop=lambda: next(asked, True))
    assert found[0].trained.partial
    assert found[0].measured.protocol.endswith("stopped before the end")


@pytest.mark.parametrize(
    "given",
    [
        {"minutes": 0},
        {"minutes": float("nan")},
        {"minutes": "ten"},
        {"candidates": 0},
        {"candidates": 1.5},
        {"device": "abacus"},
    ],
    ids=str,
)
def test_arguments_that_are_none(suggested, given):
    ((name, value),) = given.items()
    with pytest.raises(InputError, match="device" if name == "device" else name) as caught:
        check(suggested, **given)
    assert repr(value) in str(caught.value)
    if name == "minutes":
        with pytest.raises(InputError, match="minutes"):
            refine(suggested, **given)


# -- refine in a space whose networks share weights ------------------------------------------------


@pytest.mark.parametrize("method", ["darts", "spos", "random"])
def test_refine_trains_what_the_search_finds(suggested, pretend, method):
    options = {"spos.population": 4, "spos.generations": 1} if method == "spos" else {}
    if method == "random":
        options = {"random.trainings": 2}
    seen = pretend([60.0], "refining")
    refined = refine(suggested, method=method, options=options, minutes=2, **SMALL)
    found = refined.suggestions
    assert seen == [(refined.search.architecture, pytest.approx(0.4 * 120))]
    assert found[0].architecture == refined.network.architecture == refined.search.architecture
    assert found[0].measured.accuracy == refined.accuracy
    assert refined.reason.endswith(f"found by {method}")
    assert {c.architecture for c in suggested} <= {c.architecture for c in found}
    assert len(found) <= len(suggested) + 1
    assert [c.rank for c in found] == list(range(1, len(found) + 1))
    assert all(c.params <= 160_000 for c in found)
    assert all(math.isfinite(c.accuracy) for c in found)
    assert f"the winner of {method}" in found[0].reason
    if method == "darts":  # starts in the space of the suggestions' operations
        used = [
            set(ops) for ops in zip(*(SPACE.parse(c.architecture) for c in suggested), strict=True)
        ]
        winner = SPACE.parse(found[0].architecture)
        assert all(op in ops | {0} for op, ops in zip(winner, used, strict=True))


def test_refine_returns_a_trained_network_of_the_size_that_is_shown(suggested, tmp_path):
    told = []
    refined = refine(suggested, method="darts", minutes=30, progress=told.append, **SMALL)
    cost = SPACE.cost(SPACE.parse(refined.network.architecture), 10)
    assert count(refined.module, 32) == cost == refined.search.cost
    assert refined.predicted == refined.suggestions[0].accuracy
    assert 0 <= refined.balanced_accuracy <= 100
    assert refined.seconds >= refined.suggestions[0].measured.seconds
    assert "model.safetensors" in refined.save(tmp_path / "best", onnx=False).files
    assert len(refined.predict(np.zeros((8, 8), dtype=np.uint8))) == 1
    fractions = [one.fraction for one in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] > 1 - refining.TRAINING_SHARE
    assert [one.images for one in told] == sorted(one.images for one in told)


def test_the_search_does_not_see_the_images_that_judge(digits):
    seen = refining._without_test(digits, 0)
    sides = split(digits, 0)
    assert np.array_equal(np.flatnonzero(seen.split == 1), sides.test)
    data = search_task(seen, 32, 0)
    parts = (data.train_y, data.test_y, data.report_y)
    assert sum(map(len, parts)) == len(sides.train) + len(sides.choice)
    assert not digits.split.any()


@pytest.mark.slow
def test_refine_goes_on_from_a_checkpoint(suggested, pretend, tmp_path):
    pretend([1.0] * 3, "refining")
    asked = iter(range(2))
    stopped = refine(
        suggested,
        method="darts",
        checkpoint=tmp_path / "run",
        should_stop=lambda: next(asked, None) is None,
        **SMALL,
    )
    assert not stopped.search.complete
    resumed = refine(suggested, method="darts", checkpoint=tmp_path / "run", **SMALL)
    whole = refine(suggested, method="darts", **SMALL)
    assert resumed.search.scores == whole.search.scores
    assert [c.architecture for c in resumed.suggestions] == [
        c.architecture for c in whole.suggestions
    ]


@pytest.mark.slow
def test_the_training_of_a_refinement_goes_on_too(suggested, tmp_path):
    place = tmp_path / "run"
    refine(suggested, method="darts", minutes=30, checkpoint=place, **SMALL)
    assert not (tmp_path / "run.training").exists()
    calls = iter([False] * 4)
    stop = lambda: next(calls, True)  # noqa: E731
    first = refine(suggested, "darts", 30, checkpoint=place, should_stop=stop, **SMALL)
    assert first.partial and first.search.complete
    assert (tmp_path / "run.training").exists()
    again = refine(suggested, "darts", 30, checkpoint=place, **SMALL)
    assert not again.partial
    assert not (tmp_path / "run.training").exists()
    assert again.network == first.network
    assert again.epochs > first.epochs


def test_refine_leaves_out_what_is_slower_than_a_limit(suggested, pretend, monkeypatch):
    pretend([1.0] * 2, "refining")
    everything = refine(suggested, method="random", **SMALL).suggestions
    times = iter([9.0, 1.0, 2.0, 3.0])  # of the winner, which is new or not, and of the others
    monkeypatch.setattr("metad2a.latency.measure", lambda *network: next(times))
    limited = suggested.revised(suggested, 0.0)
    limited.limits = replace(suggested.limits, max_latency_ms=2.5)
    refined = refine(limited, method="random", **SMALL)
    assert [c.architecture for c in refined.suggestions] == [
        c.architecture for c in everything[1:3]
    ]
    assert refined.network.architecture == everything[1].architecture
    assert "found by" not in refined.reason
    monkeypatch.setattr("metad2a.latency.measure", lambda *network: 9.0)
    with pytest.raises(BudgetError, match=r"max_latency_ms=2\.5 is met by none"):
        refine(limited, method="random", **SMALL)


def test_a_kept_network_of_a_search_has_the_accuracy_that_is_told():
    with load_dataset("sklearn:digits") as dataset:
        data = search_task(dataset, 32, seed=0)
    result = search("sklearn:digits", method="random", options={"random.trainings": 2}, **SMALL)
    assert result.network is not None
    with torch.no_grad():
        answers = result.network(data.report_x.float() / 255).argmax(1)
    assert float((answers == data.report_y).double().mean()) == pytest.approx(result.accuracy)
    assert "chose nothing" in result.protocol
    assert np.isfinite(result.accuracy)
    assert count(result.build(), 32) == result.cost
