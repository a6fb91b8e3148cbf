"""The driver: each job once, leases that run out or are lost, clocks that jump, other drivers."""

from __future__ import annotations

import multiprocessing
import os
import socket

import pytest
from driving import CELLS, NEVER, Clock, Scene, Scripted, counted, finish

from database import Store
from database.jobs import driver
from database.jobs.owners import is_dead, new_owner


@pytest.fixture
def scene(tmp_path, monkeypatch):
    monkeypatch.setattr(driver, "_POLL_SECONDS", 0.001)
    one = Scene(tmp_path / "store.sqlite")
    yield one
    one.store.close()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Store, "now", lambda store, connection: clock.moment)
    return clock


def test_every_job_is_done_once_and_progress_reaches_the_end(scene):
    jobs, told = scene.line(5), []
    workers = Scripted(lambda job: 0.5, places=2)
    summary = scene.drive(workers, told=told)
    assert (summary.jobs, summary.evaluations, summary.stopped) == (5, 5, False)
    assert len(set(workers.started)) == len(workers.started) == 5
    assert workers.closed
    assert [step[:2] for step in told] == [(done, 5) for done in range(6)]
    assert jobs.counts() == counted(done=5)


def test_what_a_job_puts_in_line_is_done_too(scene):
    scene.line(1)
    told = []
    summary = scene.drive(
        Scripted(lambda job: 0.5),
        told=told,
        finish=lambda job: scene.line(3) and 2 if job.architectures == (CELLS[0],) else 0,
    )
    assert summary.jobs == 3
    assert told[-1][:2] == (3, 3)


def test_b7_a_late_result_is_refused_and_counted(scene, clock):
    jobs = scene.line(1)

    def answer(job):
        finish(jobs, "you", clock.steal(jobs), 0.75)
        return 0.5

    summary = scene.drive(Scripted(answer))
    assert (summary.late, summary.jobs, summary.evaluations) == (1, 0, 0)
    assert scene.values() == [0.75]
    assert jobs.counts() == counted(done=1)


def test_b7_a_worker_whose_lease_went_to_another_is_stopped(scene, clock):
    jobs, taken = scene.line(1), []

    def answer(job):
        if not taken:
            taken.append(clock.steal(jobs))
        return NEVER

    def stop():
        if workers.stopped and not scene.values():  # the other driver ends meanwhile
            finish(jobs, "you", taken[0], 0.75)
        return False

    workers = Scripted(answer)
    summary = scene.drive(workers, stop, heartbeat_seconds=0.001)
    assert workers.stopped == [taken[0].id]
    assert (summary.late, summary.jobs) == (1, 0)
    assert scene.values() == [0.75]


def test_b7_a_failure_that_comes_late_is_nobody_s_failure(scene, clock):
    jobs = scene.line(1)

    def answer(job):
        finish(jobs, "you", clock.steal(jobs), 0.75)
        return "out of luck"

    summary = scene.drive(Scripted(answer))
    assert (summary.late, summary.failures) == (1, [])


def test_b16_a_clock_that_jumps_lets_no_driver_take_its_own_jobs_twice(scene, clock):
    """Or a machine that slept for longer than a lease, while nobody else took the jobs."""
    scene.line(4)
    asked = []

    def answer(job):
        asked.append(job)
        if len(asked) == 1:
            clock.wait(3600)
            return NEVER
        return 0.5

    workers = Scripted(answer, places=3)
    summary = scene.drive(workers)
    assert len(workers.started) == len(set(workers.started)) == 4
    assert (summary.jobs, summary.late, summary.failures) == (4, 0, [])


def test_b16_a_clock_that_is_set_back_holds_nothing_up(scene, clock):
    scene.line(3)

    def answer(job):
        clock.wait(-3600)
        return 0.5

    assert scene.drive(Scripted(answer)).jobs == 3


def test_a_driver_waits_for_what_another_has_in_hand(scene):
    jobs, asked = scene.line(2), []
    (other,) = jobs.claim("you", 1, 60)

    def stop():
        asked.append(1)
        if len(asked) == 20:
            finish(jobs, "you", other, 0.75)
        return False

    summary = scene.drive(Scripted(lambda job: 0.5), stop)
    assert (summary.jobs, len(asked) >= 20) == (1, True)
    assert jobs.counts() == counted(done=2)


def test_an_owner_is_dead_when_its_process_on_this_machine_is():
    gone = multiprocessing.get_context("spawn").Process(target=int)
    gone.start()
    gone.join()
    host = socket.gethostname()
    assert is_dead(f"{host}/{gone.pid}/a")
    assert not is_dead(new_owner())
    for other in (f"elsewhere/{gone.pid}/a", "a name", f"{host}/{os.getppid()}/a", f"{host}/x/a"):
        assert not is_dead(other)
