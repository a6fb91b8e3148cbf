"""``suggest`` in the space of pretrained pieces, with a model of a few made-up trainings."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_performance import marks, rows

import metad2a
from metad2a import answers, latency
from metad2a.datasets import draw
from metad2a.errors import BudgetError, InputError
from metad2a.model import landmarks, performance
from metad2a.result import CAUTION
from metad2a.spaces import SPACES
from metad2a.spaces.counting import count
from metad2a.training import plan

SPACE = SPACES.get("efficientnet_lite")
DESCRIBED = landmarks.described


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model in a file, as there is one inside the package."""
    path = tmp_path_factory.mktemp("model") / "performance.safetensors"
    performance.Performance.fit(rows(4), steps=6).save(path, {})
    return path


@pytest.fixture(scope="module", autouse=True)
def model(place):
    """The same in the place of the package's, fewer networks, and a machine of a known pace."""
    found = performance.Performance.load(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(performance, "packaged", lambda: found)
        patch.setattr(answers, "POOL", 40)
        patch.setattr(plan, "usual_pace", lambda *_: 3e9)
        yield found


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Sixty images of three colours, which are their classes: uint8 (60, 40, 40, 3), str (60,)."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 120, (60, 40, 40, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[..., label] += 100
    return images, np.array(["ash", "birch", "cedar"])[labels]


@pytest.fixture(scope="module")
def measured(data) -> metad2a.Suggestions:
    """What is suggested for the images as they are."""
    return metad2a.suggest(data, k=6, seed=3)


@pytest.fixture(scope="module")
def hard():
    """Landmarks that ask for large images and deep networks, in the place of what is measured."""

    def described(dataset, indices, seed=0, test=None):
        return marks(0.5, 1.0, classes=3), draw(dataset, seed, indices=indices).report

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(landmarks, "described", described)
        yield


@pytest.fixture(scope="module")
def found(data, measured, hard) -> metad2a.Suggestions:
    return metad2a.suggest(data, k=6, seed=3)


def plain(found: metad2a.Suggestions) -> str:
    return json.dumps([one.to_dict() for one in found])


def test_pieces_are_what_suggest_answers_with(found):
    assert {one.space for one in found} == {"efficientnet_lite"}
    assert found.protocol == "finetune-v1"
    assert "in 10 minutes on this machine" in str(found)
    assert (found.report.images, found.report.classes) == (60, 3)
    for one in found:
        low, high = one.interval
        assert 0 <= low <= one.accuracy <= high <= 100
        assert one.class_names == ("ash", "birch", "cedar")
        assert one.resolution == SPACE.resolution(SPACE.parse(one.architecture))
        assert one.recipe is not None
    told = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert told["classes"] == ["ash", "birch", "cedar"]
    assert all(one["bytes"] == 4 * one["params"] for one in told["candidates"])


def test_each_has_at_most_half_the_work_of_the_one_before(found):
    macs = [one.macs for one in found]
    assert len(found) > 1
    assert all(2 * later <= former for former, later in itertools.pairwise(macs))
    assert "expected to be best after 10 minutes here" in found[0].reason
    assert all("at most half the work" in one.reason for one in found[1:])


def test_what_is_shown_is_what_is_built(found):
    for one in (found[0], found[-1]):
        network = one.build(pretrained=False)
        assert count(network, one.resolution) == SPACE.cost(SPACE.parse(one.architecture), 3)
        assert sum(p.numel() for p in network.parameters()) == one.params


def test_networks_are_built_with_their_pretrained_weights(found):
    one = found[-1]
    first, second = (one.build().state_dict() for _ in range(2))
    bare = one.build(pretrained=False).state_dict()
    name = "stem.conv.weight"
    assert (first[name] == second[name]).all()
    assert not (first[name] == bare[name]).all()


@pytest.mark.parametrize(
    "limits",
    [
        {"max_params": 100_000},
        {"max_macs": 4_000_000},
        {"max_params": 60_000, "max_macs": 2_000_000},
    ],
    ids=str,
)
def test_limits_are_obeyed_by_the_networks_as_built(found, limits):
    within = found.within(**limits)
    assert len(within) > 0
    for one in within:
        cost = count(one.build(pretrained=False), one.resolution)
        assert cost.params == one.params <= limits.get("max_params", cost.params)
        assert cost.macs == one.macs <= limits.get("max_macs", cost.macs)


def test_other_limits_need_no_other_look(data, found, monkeypatch):
    asked = metad2a.suggest(data, k=4, seed=3, max_macs=3_000_000)
    monkeypatch.setattr(type(found.dataset), "image", None)
    assert plain(found.within(max_macs=3_000_000, k=4)) == plain(asked)
    assert plain(found.within(k=6)) == plain(found)
    with pytest.raises(BudgetError, match="max_params=10"):
        found.within(max_params=10)


def test_the_smallest_within_some_points_is_one_of_all_compared(found):
    every = found.predict(found.compared.architectures)
    best = max(one.accuracy for one in every)
    assert best >= max(one.accuracy for one in found)
    for points in (0.0, 1.0, 3.0, 100.0):
        near = [one for one in every if one.accuracy >= best - points / CAUTION]
        one = found.smallest_within(points)
        assert one.macs == min(other.macs for other in near)
        assert one.accuracy >= best - points / CAUTION - 1e-6
        listed = [other for other in found if other.architecture == one.architecture]
        assert not listed or one is listed[0]
        # Equals may differ by the last bits, as more or fewer are predicted at once.
        above = [sum(c.accuracy > one.accuracy + off for c in every) for off in (1e-6, -1e-6)]
        assert listed or above[0] < one.rank <= 1 + above[1]


def test_a_front_is_offered_beside_the_best(found):
    front = found.front
    assert list(front) == ["within_1", "within_3", "fastest"]
    assert front["within_1"].macs >= front["within_3"].macs >= front["fastest"].macs
    assert front["fastest"].macs == found.compared.macs.min()
    told = found.to_dict()
    assert {name: one["architecture"] for name, one in told["front"].items()} == {
        name: one.architecture for name, one in front.items()
    }
    assert f"Smallest within 3 points: {front['within_3'].accuracy:.1f} %" in str(found)


def test_ties_are_told_and_the_cheapest_named(found):
    best = max(found, key=lambda one: one.accuracy)
    apart = [0.0, 0.3, answers.TIED + 0.1]
    tied = found.revised([replace(best, accuracy=best.accuracy - off) for off in apart], 0.0)
    assert [one.rank for one in tied.ties] == tied.to_dict()["ties"] == [1, 2]
    cheaper = [replace(one, macs=one.macs - one.rank) for one in tied]
    assert "second training differs by: 1, 2. The cheapest is 2." in str(found.revised(cheaper, 0))
    alone = found.revised(cheaper[::2], 0)
    assert len(alone.ties) == 1 and "Tied" not in str(alone)


# -- results ---------------------------------------------------------------------------------


def apart(found: metad2a.Suggestions, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Accuracies and widths of the intervals, float64 (n,) each."""
    every = found.predict(rows)
    widths = [one.interval[1] - one.interval[0] for one in every]
    return np.array([one.accuracy for one in every]), np.array(widths)


def test_results_move_what_is_expected_of_all_others_and_narrow_it(found):
    rows = found.compared.architectures
    before, wide = apart(found, rows)
    less = {one.architecture: max(1.0, one.accuracy - 20) for one in found}
    lower, _ = apart(found.given(less), rows)
    assert lower.mean() < before.mean() - 1
    _, narrow = apart(found.given({one.architecture: one.accuracy for one in found}), rows)
    assert narrow.mean() < wide.mean()
    assert (apart(found, rows)[0] == before).all()  # the list itself stays as it was


def test_what_was_given_is_listed_as_measured_and_counts_once(found):
    one = found[0]
    again = found.given({one.architecture: 99.0})
    listed = {c.architecture: c.measured for c in again if c.measured}
    assert not listed or listed[one.architecture].accuracy == 99.0
    assert "the one network whose result is known here" in str(again)
    twice = again.given({one.architecture: 99.0})
    assert plain(twice) == plain(again)
    (seen,) = again.predict(np.array([SPACE.parse(one.architecture)]))
    assert (seen.measured.accuracy, seen.measured.protocol) == (99.0, "as given")
    (other,) = again.given({one.architecture: 20.0}).predict(
        np.array([SPACE.parse(one.architecture)])
    )
    assert other.measured.accuracy == 20.0
    assert other.accuracy < seen.accuracy - 2, "the later result took the place of the earlier"


def test_results_may_come_with_the_question(data, found):
    known = {found[0].architecture: 61.0, found[-1].architecture: 58.5}
    asked = metad2a.suggest(data, k=6, seed=3, given=known)
    for other in (found.given(known), asked.within(k=6)):
        assert [one.architecture for one in other] == [one.architecture for one in asked]
        assert [one.accuracy for one in other] == pytest.approx([one.accuracy for one in asked])
    with pytest.raises(InputError, match=r"Result 1 of those given, 'r64'"):
        metad2a.suggest(data, given={"r64": 50})
    with pytest.raises(InputError, match="There are no results"):
        found.given()


def test_minutes_change_the_plan(data, found):
    hurried = metad2a.suggest(data, k=6, seed=3, minutes=0.0005)
    assert "in 0.0005 minutes" in str(hurried)
    assert all(one.recipe.rate == 0 for one in hurried)
    assert "frozen" in hurried[0].reason
    assert any(one.recipe.rate > 0 for one in found)
    assert hurried[0].accuracy < found[0].accuracy


@pytest.mark.parametrize("noise", [False, True])
def test_labels_that_say_nothing_are_said_to(data, monkeypatch, noise):
    rng = np.random.default_rng(1)
    images, labels = data
    if noise:
        images = rng.integers(0, 256, images.shape, dtype=np.uint8)
    monkeypatch.setattr(landmarks, "described", DESCRIBED)
    found = metad2a.suggest((images, rng.permutation(labels)), k=3)
    assert "cannot be told" in found.note
    assert found.note in str(found)
    assert all(one.accuracy == pytest.approx(100 / 3, abs=3) for one in found)
    # A result that says otherwise is believed.
    known = found.given({found[0].architecture: 90.0})
    assert not known.note
    assert known[0].accuracy > found[0].accuracy


def test_latency_is_obeyed_as_measured(found, monkeypatch):
    monkeypatch.setattr(
        latency, "measure", lambda space, one, classes: space.cost(one, classes).macs / 1e6
    )
    monkeypatch.setattr(latency, "MOST", 12)
    quick = found.within(max_latency_ms=3.0, k=4)
    assert 0 < len(quick) <= 4
    for one in quick:
        assert one.latency_ms == one.macs / 1e6 <= 3.0
    assert "at most 3 ms" in str(quick.latency)
    assert f"{quick[0].latency_ms:.2f} ms" in str(quick)
    with pytest.raises(BudgetError, match=r"max_latency_ms=0\.0001 cannot be met"):
        found.within(max_latency_ms=0.0001)


def test_every_space_with_pretrained_weights_is_compared(data, measured, monkeypatch):
    looks = []
    monkeypatch.setattr(
        landmarks, "described", lambda *args: looks.append(args) or DESCRIBED(*args)
    )
    found = metad2a.suggest(data, k=6, seed=3, space="auto")
    assert len(looks) == 1
    other = metad2a.suggest(data, k=6, seed=3, space="mobilenetv3")
    own = sorted((measured, other), key=lambda one: -one[0].accuracy)
    assert [one.architecture for one in found] == [one.architecture for one in own[0]]
    assert [one.space for one in found.spaces] == [one[0].space for one in own]
    assert [one.accuracy for one in found.spaces] == [one[0].accuracy for one in own]
    assert f"Best of {own[1][0].space}: {own[1][0].accuracy:.1f} %" in str(found)
    assert [one["space"] for one in found.to_dict()["spaces"]] == [own[0][0].space, own[1][0].space]
    assert measured.spaces == ()


def test_spaces_that_no_network_of_obeys_are_left_out(data):
    space = SPACES.get("mobilenetv3")
    least = min(one.smallest(3).macs for one in (SPACE, space))
    found = metad2a.suggest(data, k=2, space="auto", max_macs=least)
    assert len(found.spaces) == 1
    with pytest.raises(BudgetError, match=f"max_macs={least // 2:,}"):
        metad2a.suggest(data, k=2, space="auto", max_macs=least // 2)


def test_what_is_of_one_space_is_not_compared(data):
    with pytest.raises(InputError, match=r"given= is of one space.*space='auto'"):
        metad2a.suggest(data, space="auto", given={"r96": 50})
    with pytest.raises(InputError, match="model= is of one space"):
        metad2a.suggest(data, space="auto", model="somewhere")


def test_a_model_of_cells_does_not_answer(data):
    with pytest.raises(InputError, match="cannot answer in the space 'efficientnet_lite'"):
        metad2a.suggest(data, model="somewhere", space="efficientnet_lite")


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), "ten", 1e9])
def test_impossible_minutes_are_refused(data, minutes):
    with pytest.raises(InputError, match="minutes"):
        metad2a.suggest(data, minutes=minutes)


PROGRAM = """
import json, pickle, sys
import metad2a
from metad2a import answers
from metad2a.model import performance
from metad2a.training import plan

answers.POOL = 40
plan.usual_pace = lambda *_: 3e9
model = performance.Performance.load(sys.argv[1])
performance.packaged = lambda: model
with open(sys.argv[2], "rb") as file:
    images, labels, found = pickle.load(file)
anew = metad2a.suggest((images, labels), k=6, seed=3)
smaller = found.within(max_params=100_000)
print(json.dumps([[one.to_dict() for one in some] for some in (found, anew, smaller)]))
"""


def test_another_process_gives_the_same_and_goes_on_from_a_pickled_answer(
    place, data, measured, tmp_path
):
    with (tmp_path / "found").open("wb") as file:
        pickle.dump((*data, measured), file)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(place), str(tmp_path / "found")],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        env=os.environ | {"PYTHONHASHSEED": "1234"},
    )
    pickled, anew, smaller = json.loads(done.stdout)
    expected = json.loads(plain(measured))
    assert pickled == expected
    assert [one["architecture"] for one in anew] == [one["architecture"] for one in expected]
    for one, other in zip(anew, expected, strict=True):
        assert one["accuracy"] == pytest.approx(other["accuracy"], abs=1e-3)
    assert [one["architecture"] for one in smaller] == [
        one.architecture for one in measured.within(max_params=100_000)
    ]
