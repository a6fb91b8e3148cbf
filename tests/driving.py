"""A driver with workers that do as they are told, and a store with jobs for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from sqlalchemy import select

from database import Job, Jobs, Store, draw_tasks
from database.jobs.driver import Driver, Summary
from database.jobs.queue import register
from database.plan import RunPlan, parse_plan
from database.schema import EVALUATIONS
from database.workers.base import Ended, Outcome, Workers
from metad2a.datasets import load_dataset
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
CELLS = [SPACE.format(tuple(cell)) for cell in SPACE.listed()[-20:].tolist()]
NEVER = object()
"""The answer of a worker that hangs."""


class Scripted(Workers):
    """Answers each job at the next ``wait`` with what ``answer`` makes of it.

    That is a value, an error as text, an ``Ended``, or ``NEVER``.
    """

    def __init__(self, answer, places=1):
        self._answer, self._places = answer, places
        self._in_hand = {}
        self.started, self.stopped, self.closed = [], [], False

    def free(self):
        return self._places - len(self._in_hand)

    def start(self, number, work, task):
        self._in_hand[number] = work
        self.started.append(number)

    def wait(self, seconds):
        ended = []
        for number, job in list(self._in_hand.items()):
            answer = self._answer(job)
            if answer is NEVER:
                continue
            del self._in_hand[number]
            if isinstance(answer, str):
                answer = Ended(number, error=answer)
            if isinstance(answer, float):
                answer = Ended(number, measured(job, answer))
            ended.append(answer)
        return ended

    def stop(self, number):
        del self._in_hand[number]
        self.stopped.append(number)

    def close(self):
        self.closed = True


class Clock:
    """The time as the machine that keeps the store tells it."""

    moment = datetime(2025, 1, 1, tzinfo=UTC)

    def wait(self, seconds):
        self.moment += timedelta(seconds=seconds)

    def steal(self, jobs):
        """Let every lease run out, and give the first job to another owner."""
        self.wait(RunPlan.lease_seconds)
        (job,) = jobs.claim("you", 1, RunPlan.lease_seconds)
        return job


class Scene:
    """A store with one task and one build."""

    def __init__(self, path):
        images = np.random.default_rng(0).integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
        dataset = load_dataset(images, np.arange(120) % 6)
        self._task = draw_tasks(dataset, 1, seed=0)[0]
        self.store = Store(path)
        self.store.add_dataset(dataset, "noise", 16)
        self.store.add_task(self._task)
        self.store.add_protocol(Protocol("train-v1", "accuracy", "A training."))
        table = {
            "tasks": {"count": 1},
            "methods": [{"name": "spread", "architectures": 1, "protocols": ["train"]}],
        }
        build = register(self.store, parse_plan(table, "a build", Path()), {}, "host/1/a")
        self._jobs = Jobs(self.store, build)

    def line(self, count):
        """Put the jobs of the first architectures in line; return the jobs of the build."""
        self._jobs.enqueue(Job(self._task.key, "train", (cell,), 0) for cell in CELLS[:count])
        return self._jobs

    def drive(self, workers, should_stop=lambda: False, told=None, finish=None, **run):
        """Run a driver and return its summary."""
        summary = Summary()
        Driver(
            self.store,
            self._jobs,
            SPACE,
            RunPlan(**run),
            workers,
            owner="me",
            prepare=lambda job: (job, self._task),
            finished=finish or (lambda job: 0),
            progress=lambda *step: None if told is None else told.append(step),
            should_stop=should_stop,
            summary=summary,
        ).run()
        return summary

    def values(self):
        """Return what is stored, sorted."""
        with self.store.reading() as connection:
            return sorted(connection.scalars(select(EVALUATIONS.c.value)))


def measured(job, value):
    """Return the outcome of a job."""
    one = SPACE.parse(job.architectures[0])
    return Outcome((Measurement("train-v1", one, job.seed, value, 1.0),), 1.0, "cpu", "v")


def finish(jobs, owner, job, value):
    """End a job as another driver does."""
    return jobs.finish(
        owner,
        job,
        measured(job, value).measurements,
        space=SPACE,
        device="cpu",
        versions="v",
        seconds=1.0,
    )


def counted(**states):
    """Return the number of jobs in each state."""
    return {"open": 0, "leased": 0, "done": 0, "quarantined": 0} | states
