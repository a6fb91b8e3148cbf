"""``check`` and ``refine`` in spaces with pretrained weights; one network from list to folder."""

import json
from dataclasses import replace

import numpy as np
import page_outlook
import pytest

from metad2a import suggest, train
from metad2a.errors import InputError
from metad2a.prediction import load
from metad2a.spaces import SPACES
from metad2a.spaces.counting import count
from search import check, refine

SPACE = SPACES.get("efficientnet_lite")


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Let looking at images take no time, and trainings end after two epochs."""
    with pytest.MonkeyPatch.context() as patch:
        page_outlook.put_in_place(patch.setattr)
        yield


@pytest.fixture(scope="module")
def data():
    """Forty images of two colours: uint8 (40, 24, 24, 3), int (40,)."""
    rng, labels = np.random.default_rng(0), np.arange(40) % 2
    images = rng.integers(0, 150, (40, 24, 24, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] += 100
    return images, labels


@pytest.fixture(scope="module")
def suggested(data):
    return suggest(data, k=3, max_macs=20_000_000)


def test_a_check_of_a_piece_is_a_training_of_it(suggested, tmp_path):
    found = check(suggested, minutes=5)
    first, trained = found[0], found[0].trained
    assert first.architecture == suggested[0].architecture
    assert trained.network.architecture == first.architecture
    assert trained.accuracy == first.measured.accuracy > 80
    assert first.measured.protocol.startswith(("finetune-v1:", "probe-v1"))
    assert first.measured.protocol.endswith(f"on {trained.evaluation.images} test images")
    # What is expected of the network in this time, not what was in the minutes of the list.
    assert trained.predicted is not None
    assert "predicted under" not in trained.reason
    assert first.accuracy == suggested[0].accuracy
    first.save(tmp_path / "best", onnx=False)
    assert load(tmp_path / "best").resolution == first.resolution


@pytest.fixture(scope="module")
def trained(data, suggested):
    """A training to copy."""
    return train(data, minutes=5, network=suggested[-1].architecture)


@pytest.fixture
def pretend(trained, monkeypatch):
    """Let trainings take a given time of a clock that the test holds, and end as the test says."""

    def put(values, takes):
        seen, left, clock = [], iter(values), [0.0]

        def trained_one(result, candidate, seconds, *rest):
            seen.append((candidate.architecture, seconds))
            clock[0] += takes(seconds)
            network = replace(trained.network, architecture=candidate.architecture)
            return replace(trained, network=network, chosen_by=next(left))

        monkeypatch.setattr("search.refining.trained_one", trained_one)
        monkeypatch.setattr("search.refining.time.perf_counter", lambda: clock[0])
        return seen

    return put


def test_candidates_are_trained_in_turn_each_for_half_of_what_is_left(suggested, pretend):
    seen = pretend([60.0, 80.0, 70.0], lambda seconds: seconds)
    refined = refine(suggested, minutes=10)
    assert [name for name, _ in seen] == [c.architecture for c in suggested]
    assert [seconds for _, seconds in seen] == [300, 150, 150]
    assert refined.network.architecture == suggested[1].architecture
    assert refined.chosen_by == 80
    assert refined.search is None
    assert refined.seconds == 600
    order = [c.architecture for c in refined.suggestions]
    assert order == [suggested[i].architecture for i in (1, 2, 0)]
    assert all(c.measured is not None for c in refined.suggestions)


def test_no_network_is_begun_for_a_few_seconds(suggested, pretend):
    seen = pretend([60.0, 50.0], lambda seconds: seconds)
    refined = refine(suggested, minutes=1)
    assert [seconds for _, seconds in seen] == [30, 30]
    assert [c.measured is None for c in refined.suggestions] == [False, False, True]
    seen = pretend([60.0], lambda seconds: seconds)
    refine(suggested, minutes=0.5)
    assert [seconds for _, seconds in seen] == [30]


def test_time_that_was_not_needed_goes_to_the_others(suggested, pretend):
    seen = pretend([60.0, 50.0, 40.0], lambda seconds: 10)
    refine(suggested, minutes=10)
    assert [seconds for _, seconds in seen] == [300, 295, 580]


def test_a_refinement_that_is_stopped_keeps_what_it_has(suggested, pretend):
    seen = pretend([60.0, 70.0], lambda seconds: seconds)
    asked = iter([False])
    refined = refine(suggested, minutes=10, should_stop=lambda: next(asked, True))
    assert len(seen) == 2
    assert refined.network.architecture == suggested[1].architecture


def test_a_refined_piece_is_trained_and_saved(suggested, tmp_path):
    told = []
    refined = refine(suggested, minutes=0.3, progress=told.append)
    assert refined.accuracy > 80
    assert refined.suggestions[0].trained.network == refined.network
    assert "model.safetensors" in refined.save(tmp_path / "best", onnx=False).files
    assert len(refined.predict(np.zeros((9, 9, 3), dtype=np.uint8))) == 1
    assert str(refined).startswith(f"{refined.accuracy:.1f} % right")
    assert all(0 <= one.fraction <= 1 for one in told)
    assert "training 1 of up to 3: judging" in {one.stage for one in told}


@pytest.mark.parametrize(
    "given",
    [{"images": 10}, {"cells": 1}, {"checkpoint": "x"}, {"faithful": True}],
    ids=str,
)
def test_what_only_a_search_has_is_refused(suggested, given):
    ((name, value),) = given.items()
    with pytest.raises(InputError, match=f"{name}={value!r} is of a search"):
        refine(suggested, **given)


def test_nothing_cannot_be_refined(suggested):
    nothing = suggested.revised([], 0.0)
    with pytest.raises(InputError, match="list is empty"):
        refine(nothing)
    assert len(check(nothing)) == 0


@pytest.mark.parametrize("name", ["efficientnet_lite", "mobilenetv3", "nasbench201", "darts"])
def test_what_is_costed_is_what_is_built_trained_measured_and_saved(name, data, tmp_path):
    space = SPACES.get(name)
    pool = space.pool(6, np.random.default_rng(0), classes=2)
    architecture = min(pool, key=lambda one: space.cost(one, 2).macs)
    cost, side = space.cost(architecture, 2), space.resolution(architecture)
    assert count(space.build(architecture, 2), side) == cost
    trained = train(
        (data[0][:12], data[1][:12]),
        minutes=5,
        space=name,
        network=space.format(architecture),
        should_stop=lambda: True,
    )
    network = trained.network
    assert (network.params, network.macs, network.resolution) == (cost.params, cost.macs, side)
    assert network.architecture == space.format(architecture)
    assert count(trained.module, side) == cost
    trained.save(tmp_path / "best", onnx=False)
    told = json.loads((tmp_path / "best" / "architecture.json").read_text(encoding="utf-8"))
    assert (told["params"], told["macs"], told["resolution"]) == (cost.params, cost.macs, side)
    delivered = load(tmp_path / "best").network
    assert count(delivered.get_submodule("network"), side) == cost
