"""What the minutes are spent on, by what is expected and what things take."""

from types import SimpleNamespace

import numpy as np
import pytest

from metad2a.spaces import SPACES
from metad2a.training import plan
from metad2a.training.device import plan as device_plan
from metad2a.training.plan import EPOCHS, RATES, Planner, Time, better_of_two, usual_pace

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

    def means(self, *asked):
        return self.predict(*asked).mean

    def given(self, landmarks, space, architectures, recipes, classes, images, accuracies, judged):
        """Expects of everything what it did, and as much more as the best of these was better."""
        above = max(accuracies) - max(map(self.expected, architectures, recipes))
        return By(lambda a, r: self.expected(a, r) + above)


def planner(expected, clock=CLOCK, architectures=None):
    return Planner(
        SPACE,
        By(expected),
        SimpleNamespace(of_training=dict),
        clock,
        10,
        architectures or SPACE.anchors(),
    )


def chosen(*args):
    return planner(*args).first()


def test_ways_cost_what_there_is_time_for():
    macs = SPACE.cost(SPACE.whole(6, 96), 10).macs
    ways = CLOCK.recipes(macs, 6, 96)
    assert {way.rate for way in ways} == {0.0, *RATES}
    plain = {way.epochs for way in ways if way.rate and not way.frozen_stages}
    early = {way.epochs for way in ways if way.frozen_stages == 2}
    assert len(plain) == len(early) == 1
    assert min(early) > min(plain) > 1
    twice = Time(120, 15e9, 500, 200).recipes(macs, 6, 96)
    assert max(way.epochs for way in twice if not way.frozen_stages) > 1.8 * max(plain)
    assert Time(0.01, 15e9, 500, 200).recipes(macs, 6, 96) == []
    assert max(way.epochs for way in Time(10**6, 15e9, 500, 200).recipes(macs, 6, 96)) == EPOCHS[1]


def test_small_networks_are_trained_only_where_there_are_no_others():
    small, large = SPACE.whole(4, 48), SPACE.whole(6, 96)
    both = plan.ways(SPACE, CLOCK, [small, large], 10)
    assert {recipe.rate for number, recipe in both if number == 0} == {0.0}
    assert {recipe.rate for number, recipe in both if number == 1} == {0.0, *RATES}
    alone = plan.ways(SPACE, CLOCK, [small], 10)
    assert {recipe.rate for _, recipe in alone} == {0.0, *RATES}


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
    assert len(chosen(lambda a, r: expected(a, r) - 20 * (r.rate == 0))) == 1


def test_a_frozen_network_is_not_tried_first_where_its_time_is_worth_more():
    wanted = SPACE.whole(6, 96)

    def expected(a, r):  # three points for each epoch
        return 50 + 3 * r.epochs if (a == wanted and r.rate) else 50 if r.rate == 0 else 0

    (one,) = chosen(expected)
    assert one.architecture == wanted
    short = [a for a in SPACE.anchors() if SPACE.resolution(a) >= 160]
    assert len(chosen(lambda a, r: 50 + 3 * r.epochs * (r.rate > 0), CLOCK, [wanted, *short])) == 1


def test_time_left_by_a_frozen_network_goes_to_training():
    wanted = SPACE.whole(7, 128)
    attempts = chosen(lambda a, r: 90 - 2 * (r.rate > 0) if a == wanted else 10)
    assert [one.recipe.rate > 0 for one in attempts] == [False, True]
    far = chosen(lambda a, r: 90 - 20 * (r.rate > 0) if a == wanted else 10)
    assert [one.recipe.rate for one in far] == [0.0]


def test_a_pass_gives_all_shorter_networks_that_are_admitted():
    admitted = [SPACE.whole(stages, 96) for stages in (4, 6, 7)]
    found = planner(lambda a, r: 50, CLOCK, admitted).exits(admitted[2])
    assert found == [admitted[2], admitted[1], admitted[0]]
    best = SPACE.whole(5, 224)
    (one, *_) = chosen(lambda a, r: 90 if (a, r.rate) == (best, 0) else 10)
    assert best in SPACE.shorter(one.architecture) or best == one.architecture
    assert one.expected == 90


def test_what_frozen_networks_reached_decides_on_the_rest_of_the_time():
    wanted, frozen = SPACE.whole(6, 96), SPACE.whole(7, 96)
    plans = planner(lambda a, r: 70 + 10 * (a == wanted and r.rate == 1e-3))
    second = plans.then(40.0, [frozen], [85.0], 300)
    assert (second.architecture, second.recipe.rate) == (wanted, 1e-3)
    assert second.expected == 95
    assert max(way.epochs for way in CLOCK.recipes(1e8, 6, 96)) > second.recipe.epochs
    assert plans.then(0.01, [frozen], [85.0], 300) is None
    low = planner(lambda a, r: 70 - 60 * (r.rate > 0))
    assert low.then(40.0, [frozen], [85.0], 300) is None


def test_the_better_of_two_is_expected_above_both():
    assert better_of_two(80, 20) == pytest.approx(80)
    assert better_of_two(20, 80) == pytest.approx(80)
    rng = np.random.default_rng(0)
    drawn = np.maximum(80, 83 + plan.UNSURE * rng.standard_normal(10**5))
    assert better_of_two(80, 83) == pytest.approx(drawn.mean(), abs=0.1)


def test_without_time_the_cheapest_network_is_taken_frozen():
    (one,) = chosen(lambda a, r: SPACE.resolution(a), Time(1e-4, 15e9, 500, 200))
    assert one.recipe.rate == 0
    least = min(SPACE.anchors(), key=lambda a: SPACE.cost(a, 10).macs)
    assert one.architecture == least


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_cut_networks_are_trained_only_where_time_is_short():
    whole = SPACE.whole(6, 96)
    cut = next(a for a in SPACE.anchors(cut=True) if SPACE.format(a).startswith("r96-s6-d11111-"))

    def chosen(seconds, architectures):
        clock = Time(seconds, macs_per_second=15e9, images=500, judged=200)
        made = planner(lambda a, r: 80.0 if a == cut and r.rate else 50.0, clock, architectures)
        return {plan.architecture for plan in made.first() if plan.recipe.rate}

    assert chosen(20, [whole, cut]) == {cut}
    assert chosen(600, [whole, cut]) == {whole}
    assert chosen(600, [cut]) == {cut}  # limits may leave nothing else


def test_the_usual_pace_is_replaced_only_where_other_work_disturbed_it(cache, monkeypatch):
    paces = iter([7.0, 5.0, 8.0, 9.0, 3.0, 4.0, 2.0])
    monkeypatch.setattr(plan, "pace", lambda *_: next(paces))
    place = device_plan("cpu")
    assert [usual_pace(SPACE, place) for _ in range(4)] == [7.0, 7.0, 7.0, 9.0]
    (cache / "pace.json").write_text("[]")
    assert usual_pace(SPACE, place) == 3.0
    (cache / "pace.json").write_text("no JSON")
    assert [usual_pace(SPACE, place) for _ in range(2)] == [4.0, 4.0]


def test_pace_is_of_the_order_of_a_processor():
    assert 1e7 < plan.pace(SPACE, device_plan("cpu")) < 1e14
