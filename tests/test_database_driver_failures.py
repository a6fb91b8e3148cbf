"""The driver when jobs fail, hang or lose their machine, and when it is asked to stop."""

from __future__ import annotations

import pytest
from driving import CELLS, NEVER, Scene, Scripted, counted
from sqlalchemy import func, select

from database import Jobs
from database.jobs import driver
from database.schema import JOBS
from database.workers.base import Ended
from metad2a.errors import DatabaseError, MetaD2AError


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_POLL_SECONDS", 0.001)
    one = Scene(tmp_path / "store.sqlite")
    yield one
    one.store.close()


def test_b4_what_takes_too_long_is_stopped_and_set_aside_the_third_time(scene):
    jobs, first = scene.line(3), CELLS[0]
    workers = Scripted(lambda job: NEVER if job.architectures[0] == first else 0.5)
    summary = scene.drive(workers, wall_seconds=0.01)
    assert (len(workers.stopped), summary.jobs, summary.quarantined) == (3, 2, 1)
    assert all("longer than wall_seconds = 0.01" in text for text in summary.failures)
    assert jobs.counts() == counted(done=2, quarantined=1)


@pytest.mark.parametrize(("times", "tries"), [(2, 0), (3, 1)])
def test_b22_a_machine_that_goes_away_is_not_the_job_s_fault_twice(scene, times, tries):
    scene.line(1)
    lost = []

    def answer(job):
        if len(lost) < times:
            lost.append(job.id)
            return Ended(job.id, error="its node died", lost=True)
        return 0.5

    summary = scene.drive(Scripted(answer))
    assert (summary.jobs, len(summary.failures)) == (1, tries)
    with scene.store.reading() as connection:
        assert connection.scalar(select(JOBS.c.tries)) == tries


def test_b21_ten_failures_in_a_row_end_the_build(scene):
    jobs, workers = scene.line(6), Scripted(lambda job: "out of luck")
    with pytest.raises(MetaD2AError, match=r"10 failures in a row.*train on .*: out of luck"):
        scene.drive(workers)
    assert len(workers.started) == 10
    assert workers.closed
    assert jobs.counts() == counted(open=3, quarantined=3)


def test_b21_a_success_between_them_starts_the_count_again(scene):
    scene.line(15)
    bad = {cell for number, cell in enumerate(CELLS) if number % 3}
    summary = scene.drive(
        Scripted(lambda job: "out of luck" if job.architectures[0] in bad else 0.5)
    )
    assert (summary.jobs, summary.quarantined, len(summary.failures)) == (5, 10, 30)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1], ids=str)
def test_b6_a_value_that_cannot_be_is_a_failure(scene, value):
    scene.line(1)
    summary = scene.drive(Scripted(lambda job: value))
    assert (summary.evaluations, summary.quarantined, scene.values()) == (0, 1, [])
    assert all(f"train-v1 = {value!r}" in text for text in summary.failures)


def test_b10_a_store_that_cannot_be_written_ends_the_build_and_no_job_is_blamed(scene, monkeypatch):
    def refuse(*arguments, **rest):
        raise DatabaseError("disk full")

    jobs, workers = scene.line(2), Scripted(lambda job: 0.5)
    monkeypatch.setattr(Jobs, "finish", refuse)
    with pytest.raises(DatabaseError, match="disk full"):
        scene.drive(workers)
    assert workers.closed
    assert jobs.counts() == counted(open=2)
    with scene.store.reading() as connection:
        assert connection.scalar(select(func.max(JOBS.c.tries))) == 0


def test_b3_a_stop_lets_what_is_in_flight_end_and_begins_nothing(scene):
    jobs, asked = scene.line(5), []

    def answer(job):
        asked.append(job)
        return 0.5 if len(asked) > 4 else NEVER  # not before the stop is known

    workers = Scripted(answer, places=2)
    summary = scene.drive(workers, lambda: bool(workers.started))
    assert (summary.stopped, summary.jobs, len(workers.started)) == (True, 2, 2)
    assert jobs.counts() == counted(open=3, done=2)


def test_b3_a_stop_gives_back_what_does_not_end(scene, monkeypatch):
    monkeypatch.setattr(driver, "GRACE_SECONDS", 0.01)
    jobs, workers = scene.line(3), Scripted(lambda job: NEVER, places=2)
    summary = scene.drive(workers, lambda: bool(workers.started))
    assert (summary.stopped, summary.jobs, workers.closed) == (True, 0, True)
    assert jobs.counts() == counted(open=3)
