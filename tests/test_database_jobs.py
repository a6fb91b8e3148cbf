"""The jobs of a build: leased, renewed, finished once, tried thrice, on both servers."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select

from database import Job, Jobs, RefusedRowError, Store, draw_tasks
from database.jobs.queue import register
from database.plan import parse_plan
from database.schema import EVALUATIONS, JOBS, MAX_TRIES
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError, InputError
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
CELLS = [(3,) * 6, (3, 1, 3, 0, 3, 2), (2,) * 6, (3, 3, 0, 3, 3, 3), (1, 3, 3, 3, 3, 3)]
PROCESSES, SHARE = 8, 12


@pytest.fixture(scope="module")
def task_and_dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
    dataset = load_dataset(images, np.arange(120) % 6)
    return draw_tasks(dataset, 1, seed=0)[0], dataset


@pytest.fixture
def store(location, task_and_dataset):
    task, dataset = task_and_dataset
    with Store(location) as opened:
        opened.add_dataset(dataset, "noise", 16)
        opened.add_task(task)
        opened.add_protocol(Protocol("train-v1", "accuracy", "A training."))
        yield opened


class Clock:
    """The time as the machine that keeps the store tells it."""

    moment = datetime(2025, 1, 1, tzinfo=UTC)

    def wait(self, seconds):
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Store, "now", lambda store, connection: clock.moment)
    return clock


def some(task, count):
    """Return jobs of five architectures under one seed after the other."""
    return [
        Job(task.key, "train", (SPACE.format(CELLS[number % 5]),), number // 5)
        for number in range(count)
    ]


def build(store, name="a build"):
    """Return the id of a build called ``name``."""
    table = {
        "tasks": {"count": 1},
        "methods": [{"name": "spread", "architectures": 5, "protocols": ["train"]}],
    }
    return register(store, parse_plan(table, name, Path()), {}, "host/1/a")


@pytest.fixture
def jobs(store, task_and_dataset):
    made = Jobs(store, build(store))
    assert made.enqueue(some(task_and_dataset[0], 5)) == 5
    return made


def finish(jobs, owner, job, value=0.5):
    cell = SPACE.parse(job.architectures[0])
    rows = [Measurement("train-v1", cell, job.seed, value, 1.0, (value,))]
    return jobs.finish(owner, job, rows, space=SPACE, device="cpu", versions="v", seconds=1.5)


def counted(open=0, leased=0, done=0, quarantined=0):
    return {"open": open, "leased": leased, "done": done, "quarantined": quarantined}


def rows(store, table=EVALUATIONS):
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def test_jobs_are_put_in_line_once_and_claimed_in_order(jobs, task_and_dataset):
    wanted = some(task_and_dataset[0], 7)
    assert jobs.enqueue(wanted) == 2
    assert jobs.enqueue(wanted) == jobs.enqueue([]) == 0
    first = jobs.claim("me", 3, 60)
    assert [replace(job, id=0) for job in first] == wanted[:3]
    assert [replace(job, id=0) for job in jobs.claim("you", 9, 60)] == wanted[3:]
    assert jobs.claim("they", 1, 60) == []
    assert jobs.counts() == counted(leased=7)


def test_a_job_of_an_unknown_task_is_refused_with_all_others(jobs, store, task_and_dataset):
    with pytest.raises(DatabaseError, match="add it first"):
        jobs.enqueue([*some(task_and_dataset[0], 9), Job("no such key", "train", ("a",), 0)])
    assert rows(store, JOBS) == 5


@pytest.mark.parametrize(("count", "seconds"), [(0, 60), (1, 0), (1, -1), (1, float("nan"))])
def test_a_claim_of_nothing_is_refused(jobs, count, seconds):
    with pytest.raises(InputError, match="must be above 0"):
        jobs.claim("me", count, seconds)


def test_a_finished_job_and_its_rows_are_there_together(jobs, store):
    job, other = jobs.claim("me", 2, 60)
    assert finish(jobs, "me", job).new == 1
    assert finish(jobs, "me", job, 0.9) is None  # once only
    with pytest.raises(RefusedRowError):
        finish(jobs, "me", other, float("nan"))
    assert rows(store) == 1
    assert jobs.counts() == counted(open=3, leased=1, done=1)
    assert finish(jobs, "me", other).new == 1


def test_a_finished_job_is_not_put_in_line_again(jobs, task_and_dataset):
    (job,) = jobs.claim("me", 1, 60)
    finish(jobs, "me", job)
    assert jobs.enqueue(some(task_and_dataset[0], 5)) == 0
    assert jobs.counts() == counted(open=4, done=1)


def test_a_lease_ends_in_utc_and_the_heartbeat_renews_it(jobs, store, clock):
    job, other = jobs.claim("me", 2, 60)
    with store.reading() as connection:
        ends = connection.scalars(select(JOBS.c.lease_until).where(JOBS.c.id == job.id)).one()
    assert ends == clock.moment + timedelta(seconds=60)
    clock.wait(45)
    assert jobs.heartbeat("me", [job.id], 60) == {job.id}
    clock.wait(45)
    assert [taken.id for taken in jobs.claim("you", 1, 60)] == [other.id]
    assert jobs.heartbeat("me", [job.id, other.id], 60) == {job.id}
    assert jobs.heartbeat("me", [], 60) == set()


def test_a_late_result_is_refused_when_the_lease_went_to_another(jobs, store, clock):
    """Fault B7: the owner lives on, but its lease has run out."""
    (job,) = jobs.claim("me", 1, 60)
    clock.wait(60)
    assert jobs.counts() == counted(open=5)
    (taken,) = jobs.claim("you", 1, 60)
    assert taken == job
    assert finish(jobs, "me", job) is None
    assert jobs.fail("me", job.id, "late") is None
    assert jobs.heartbeat("me", [job.id], 60) == set()
    assert jobs.release("me") == 0
    assert rows(store) == 0
    assert finish(jobs, "you", taken, 0.75).new == 1
    with store.reading() as connection:
        assert connection.scalars(select(EVALUATIONS.c.value)).all() == [0.75]


def test_a_late_result_counts_while_nobody_took_the_job(jobs, clock):
    (job,) = jobs.claim("me", 1, 60)
    clock.wait(3600)
    assert finish(jobs, "me", job).new == 1
    assert jobs.counts() == counted(open=4, done=1)


def test_a_job_that_fails_three_times_is_quarantined(jobs, store, task_and_dataset):
    error = "ValueError: \0 in \udcff.png"
    for tries, state in enumerate(["open", "open", "quarantined"]):
        (job,) = jobs.claim("me", 1, 60)
        assert (job.seed, job.architectures, job.tries) == (0, (SPACE.format(CELLS[0]),), tries)
        assert jobs.fail("me", job.id, error) == state
    assert jobs.counts() == counted(open=4, quarantined=1)
    assert job.id not in {other.id for other in jobs.claim("me", 5, 60)}
    assert jobs.enqueue(some(task_and_dataset[0], 5)) == 0
    with store.reading() as connection:
        kept = connection.scalars(select(JOBS.c.error).where(JOBS.c.id == job.id)).one()
    assert kept == "ValueError:  in ?.png"


def test_a_success_clears_the_error_of_the_try_before(jobs, store):
    (job,) = jobs.claim("me", 1, 60)
    jobs.fail("me", job.id, "once")
    (job,) = jobs.claim("me", 1, 60)
    finish(jobs, "me", job)
    with store.reading() as connection:
        row = connection.execute(select(JOBS).where(JOBS.c.id == job.id)).mappings().one()
    assert (row["state"], row["error"], row["tries"]) == ("done", None, 1)
    assert row["owner"] is row["lease_until"] is None
    assert row["seconds"] == 1.5
    assert row["ended"].tzinfo is UTC


def test_released_jobs_are_open_again(jobs):
    jobs.claim("me", 2, 60)
    jobs.claim("you", 1, 60)
    assert jobs.owners() == {"me", "you"}
    assert jobs.release("me") == 2
    assert jobs.counts() == counted(open=4, leased=1)
    assert jobs.owners() == {"you"}


def test_one_job_of_several_can_be_released(jobs):
    first, second = jobs.claim("me", 2, 60)
    assert jobs.release("you", [first.id]) == 0
    assert jobs.release("me", [first.id]) == 1
    assert jobs.heartbeat("me", [first.id, second.id], 60) == {second.id}


def test_what_is_quarantined_can_be_tried_again(jobs):
    for _ in range(MAX_TRIES):
        (job,) = jobs.claim("me", 1, 60)
        jobs.fail("me", job.id, "always")
    assert jobs.retry() == 1
    assert jobs.retry() == 0
    (again,) = jobs.claim("me", 1, 60)
    assert (again.id, again.tries) == (job.id, 0)


def test_several_architectures_may_be_one_job_and_a_search_has_none(jobs, task_and_dataset):
    task = task_and_dataset[0]
    shared = [
        Job(task.key, "net", tuple(SPACE.format(cell) for cell in CELLS), 7),
        Job(task.key, "search@1", (), 7),
    ]
    assert jobs.enqueue(shared) == 2
    assert [replace(job, id=0) for job in jobs.claim("me", 9, 60)][-2:] == shared


def test_a_build_sees_its_own_jobs_alone(jobs, store, task_and_dataset):
    other = Jobs(store, build(store, "another"))
    assert other.claim("me", 9, 60) == []
    assert other.enqueue(some(task_and_dataset[0], 2)) == 2
    assert len(other.claim("me", 9, 60)) == 2
    assert (jobs.counts(), other.counts()) == (counted(open=5), counted(leased=2))
    assert jobs.owners() == set()


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
def test_a_claim_does_not_wait_for_another(jobs, store):
    with store.writing() as connection:
        held = connection.scalars(
            select(JOBS.c.id).order_by(JOBS.c.id).limit(2).with_for_update()
        ).all()
        (job,) = jobs.claim("me", 1, 60)
        assert job.id not in held


def work(place, owner, start, done):
    """Claim and finish jobs until none is left; report the ids of those finished."""
    with Store(place, create=False) as store:
        jobs, mine = Jobs(store, build(store)), []
        start.wait(120)
        while claimed := jobs.claim(owner, 3, 60):
            jobs.heartbeat(owner, [job.id for job in claimed], 60)
            mine += [job.id for job in claimed if finish(jobs, owner, job)]
        done.put(mine)


def test_many_processes_finish_every_job_exactly_once(store, location, task_and_dataset):
    total = PROCESSES * SHARE
    jobs = Jobs(store, build(store))
    jobs.enqueue(some(task_and_dataset[0], total))
    context = multiprocessing.get_context("forkserver")
    # What takes long to import is imported once, not by every process.
    context.set_forkserver_preload(["pytest", "psycopg", "database", "search.labellers.base"])
    start, done = context.Barrier(PROCESSES), context.Queue()
    children = [
        context.Process(target=work, args=(location, f"owner {number}", start, done))
        for number in range(PROCESSES)
    ]
    for child in children:
        child.start()
    finished = [number for _ in children for number in done.get(timeout=120)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    assert len(finished) == len(set(finished)) == total
    assert rows(store) == total
    assert jobs.counts() == counted(done=total)
