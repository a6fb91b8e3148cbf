"""What the minutes are spent on, by what is expected and what things take."""

from types import SimpleNamespace

import numpy as np
import pytest

from metad2a.spaces import SPACES
from metad2a.training import plan
from metad2a.training.device import plan as device_plan
from metad2a.training.plan import EPOCHS, RATES, Time, choose

SPACE = SPACES.get("efficientnet_lite")
CLOCK = Time(seconds=60, macs_per_second=15e9, images=500, judged=200)


class By:
    """Expects what a function of the architecture and the recipe says."""

    def __init__(self, expected):
        self.expected = expected

    def predict(self, landmarks, space, architectures, recipes, classes, images):
        pairs = zip(architectures, recipes, strict=True)
        mean = np.array([float(self.expected(a, r)) for a, r in pairs])
        return SimpleNamespace(mean=mean, low=mean - 5, high=mean + 5)


def chosen(expected, clock=CLOCK, architectures=None):
    return choose(SPACE, By(expected), None, clock, 10, architectures or SPACE.anchors())


def test_ways_cost_what_there_is_time_for():
    macs = SPACE.cost(SPACE.whole(6, 96), 10).macs
    ways = CLOCK.recipes(macs, 6, 96)
    assert {way.rate for way in ways} == {0.0, *RATES}
    plain = {way.epochs for way in ways if way.rate and not way.frozen_stages}
    early = {way.epochs for way in ways if way.frozen_stages == 2}
    assert len(plain) == len(early) == 1
    assert min(early) > min(plain) > 1
    twice = Time(120, 15e9, 500, 200).recipes(macs, 6, 96)
    assert max(way.epochs for way in twice) > 1.8 * max(way.epochs for way in ways)
    assert Time(0.01, 15e9, 500, 200).recipes(macs, 6, 96) == []
    assert max(way.epochs for way in Time(10**6, 15e9, 500, 200).recipes(macs, 6, 96)) == EPOCHS[1]


def test_the_best_expected_is_taken():
    wanted = SPACE.whole(5, 64)
    (one,) = chosen(lambda a, r: 90 if (a == wanted and r.rate == 1e-3) else 50)
    assert one.architecture == wanted
    assert one.recipe.rate == 1e-3
    assert (one.expected, one.interval) == (90, (85, 95))
    assert one.reason.startswith("fine-tuned, the best expected of")


def test_a_cheap_frozen_network_that_may_suffice_is_tried_first():
    wanted, small = SPACE.whole(6, 96), SPACE.whole(7, 96)

    def expected(a, r):
        return 90 if (a == wanted and r.rate == 1e-3) else 88 if (a, r.rate) == (small, 0) else 50

    first, second = chosen(expected)
    assert (first.architecture, first.recipe.rate) == (small, 0)
    assert (second.architecture, second.recipe.rate) == (wanted, 1e-3)
    assert len(chosen(lambda a, r: expected(a, r) - 9 * (r.rate == 0))) == 1


def test_time_left_by_a_frozen_network_goes_to_training():
    wanted = SPACE.whole(7, 128)
    attempts = chosen(lambda a, r: 90 - 2 * (r.rate > 0) if a == wanted else 10)
    assert [one.recipe.rate > 0 for one in attempts] == [False, True]
    far = chosen(lambda a, r: 90 - 20 * (r.rate > 0) if a == wanted else 10)
    assert [one.recipe.rate for one in far] == [0.0]


def test_without_time_the_cheapest_network_is_taken_frozen():
    (one,) = chosen(lambda a, r: SPACE.resolution(a), Time(1e-4, 15e9, 500, 200))
    assert one.recipe.rate == 0
    least = min(SPACE.anchors(), key=lambda a: SPACE.cost(a, 10).macs)
    assert one.architecture == least


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_usual_pace_is_measured_once(cache, monkeypatch):
    paces = iter([7.0, 9.0, 11.0])
    monkeypatch.setattr(plan, "pace", lambda *_: next(paces))
    place = device_plan("cpu")
    assert [plan.usual_pace(SPACE, place) for _ in range(2)] == [7.0, 7.0]
    (cache / "pace.json").write_text("[]")
    assert plan.usual_pace(SPACE, place) == 9.0
    (cache / "pace.json").write_text("no JSON")
    assert plan.usual_pace(SPACE, place) == 11.0


def test_pace_is_of_the_order_of_a_processor():
    assert 1e7 < plan.pace(SPACE, device_plan("cpu")) < 1e14
