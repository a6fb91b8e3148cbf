"""What a search reports: on which images, within which time, and by how much memory."""

import numpy as np
import pytest
import torch
from searching import task

from search.engine import judging
from search.engine.judging import share_right
from search.scores.rebn import ReBNAccuracy
from search.searching import Search

QUICK = {"spos.population": 3, "spos.generations": 1, "random.trainings": 2}


def short(method, data, **arguments):
    options = {k: v for k, v in QUICK.items() if k.split(".")[0] == method}
    return Search(
        data,
        "nasbench201",
        method,
        channels=2,
        cells=1,
        options=options,
        **{"images": 80, **arguments},
    ).conduct()


def with_third_side(shift=0):
    """Return a task, labels of whose third side are all moved by ``shift``."""
    data, other = task(count=120), task(seed=5, count=100)
    return data.__class__(
        data.train_x,
        data.train_y,
        data.test_x,
        data.test_y,
        3,
        report_x=other.test_x,
        report_y=(other.test_y + shift) % 3,
    )


class Clock:
    """Time that stands still but where a network answers."""

    def __init__(self, monkeypatch, takes=1.0):
        self.now, self.takes, self.sizes = 0.0, takes, []
        monkeypatch.setattr(judging.time, "monotonic", lambda: self.now)

    def answer(self, index):
        self.now += self.takes * len(index)
        self.sizes.append(len(index))
        return torch.eye(2)[index % 2]


def test_batches_grow_and_all_images_count_where_there_is_time(monkeypatch):
    clock = Clock(monkeypatch)
    labels = torch.arange(2000) % 2
    labels[:500] = 0
    share, seen = share_right(clock.answer, labels, seed=0)
    assert clock.sizes == [32, 64, 128, 256, 512, 512, 496]
    assert (share, seen) == (1750 / 2000, 2000)


def test_where_time_is_up_the_share_is_of_images_in_a_drawn_order(monkeypatch):
    labels = torch.arange(2000) % 2
    labels[:1000] = 0  # a quarter is wrong, all of it in the first half
    clock = Clock(monkeypatch)
    share, seen = share_right(clock.answer, labels, seed=0, seconds=500.0)
    assert seen == 480  # the next 512 would end too late
    assert share == pytest.approx(0.75, abs=0.08)
    assert share_right(clock.answer, labels, seed=0, seconds=-1.0)[1] == 32


@pytest.mark.parametrize("method", ["spos", "darts", "random", "sswp"])
def test_the_winner_is_the_same_whatever_is_reported_on(method):
    right, moved = (short(method, with_third_side(shift)) for shift in (0, 1))
    assert right.ranking == moved.ranking
    accuracies = [found.result().accuracy for found in (right, moved)]
    assert accuracies[0] != accuracies[1]
    assert right.result().protocol.endswith("on held-out images that chose nothing")
    assert short(method, task()).result().protocol.endswith("that chose it, too")


def test_an_accuracy_that_is_of_some_images_says_so():
    found = short("darts", with_third_side())
    found.run.budget.seconds, found.run.budget.images = 1e-9, None  # over long ago
    result = found.result()
    assert 0 <= result.accuracy <= 1
    assert result.notes[-1] == "an accuracy is of 32 of 100 held-out images: the time was up"


def test_a_cancelled_search_is_judged_for_seconds_only(monkeypatch):
    given = []
    monkeypatch.setattr(
        judging, "share_right", lambda *rest: given.append(rest[-1]) or (0.5, len(rest[1]))
    )
    asked = iter(range(2))
    stop = lambda: next(asked, None) is None  # noqa: E731
    found = short("darts", task(), images=10**6, should_stop=stop)
    assert found.result().accuracy == 0.5
    assert given[0] <= 5


def test_one_copy_of_the_supernet_serves_all_that_is_asked(monkeypatch):
    found, made = short("spos", task()), []
    build = ReBNAccuracy.__init__
    monkeypatch.setattr(
        ReBNAccuracy, "__init__", lambda self, context: made.append(self) or build(self, context)
    )
    for architecture in [(3,) * 6, (2,) * 6, (1,) * 6]:
        assert 0 <= found.accuracy(architecture) <= 1
    assert len(made) == 1


def test_recalibration_keeps_no_images_in_float_but_its_own():
    data = task(count=700)
    found = short("spos", data)
    kept = ReBNAccuracy(judging.Context(found.run.space, data, found.run.shared()))
    own = [value for value in vars(kept).values() if isinstance(value, torch.Tensor)]
    sizes = [part.numel() for part in (*own, *kept.calibration) if part.is_floating_point()]
    assert sum(sizes) == 4 * 128 * 3 * 8 * 8


def test_a_training_alone_is_judged_in_a_part_of_its_time(monkeypatch):
    given = []
    from search.sampling.trials import Trial

    monkeypatch.setattr(Trial, "accuracy", lambda self, run, seconds: given.append(seconds) or 0.5)
    short("random", task(), images=None, minutes=0.01)
    assert given
    assert given == pytest.approx([0.1 * 0.6 / 2] * len(given))
    given.clear()
    short("random", task())
    assert set(given) == {np.inf}
