"""The driver of a build: it claims jobs, has them carried out, and alone writes what comes back.

Killed at any instant, it loses the jobs in flight and nothing else: each job's rows and its end are
one transaction, and its leases are given back by the next driver, or run out.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from database.jobs.queue import Job, Jobs
from database.plan import RunPlan
from database.records import RefusedRowError
from database.schema import MAX_TRIES
from database.store import Store
from database.tasks import Task
from database.workers.base import Ended, Work, Workers
from metad2a.errors import DatabaseError, MetaD2AError
from metad2a.spaces import SearchSpace

MAX_FAILURES = 10
"""So many failures in a row end a build: then the fault is not a job's."""
GRACE_SECONDS = 5.0
"""What jobs in flight are given to end when the build is asked to stop."""
_POLL_SECONDS = 0.2
_log = logging.getLogger(__name__)


@dataclass
class Summary:
    """What a build did, and what it had to leave out and why."""

    tasks: int = 0
    """Tasks of the plan."""
    jobs: int = 0
    """Jobs done in this run."""
    evaluations: int = 0
    """Rows added."""
    conflicts: list[str] = field(default_factory=list)
    """Values that differ from the stored ones, which were kept."""
    failures: list[str] = field(default_factory=list)
    """Jobs that failed, one entry a try."""
    quarantined: int = 0
    """Jobs that failed too often, in this run or before; see ``retry`` of ``build``."""
    late: int = 0
    """Results refused because the lease had gone to another driver."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Dataset folders that gave no task, with the reason."""
    stopped: bool = False
    """Whether it was asked to stop before the end."""


@dataclass
class _InHand:
    job: Job
    since: float


class Driver:
    """Runs the jobs of one build to their end, or until it is asked to stop."""

    def __init__(
        self,
        store: Store,
        jobs: Jobs,
        space: SearchSpace,
        run: RunPlan,
        workers: Workers,
        *,
        owner: str,
        prepare: Callable[[Job], tuple[Work, Task]],
        finished: Callable[[Job], int],
        progress: Callable[[int, int, str], None],
        should_stop: Callable[[], bool],
        summary: Summary,
    ) -> None:
        """Take over what a build consists of.

        Args:
            store: where rows go.
            jobs: of the build.
            space: of the architectures.
            run: how often leases are renewed, and how long a job may take.
            workers: who measures.
            owner: of the leases, from ``owners.new_owner``.
            prepare: makes a job into work on a task.
            finished: told of each job whose rows were stored; returns the number of jobs that it
                put in line as a consequence.
            progress: told of jobs done, of all, and what was done last.
            should_stop: asked several times a second.
            summary: written to.
        """
        self._store, self._jobs, self._space = store, jobs, space
        self._run, self._workers, self._owner = run, workers, owner
        self._prepare, self._finished = prepare, finished
        self._progress, self._should_stop = progress, should_stop
        self._summary = summary
        self._in_hand: dict[int, _InHand] = {}
        self._lost: Counter[int] = Counter()
        self._failed_in_a_row = 0
        counts = jobs.counts()
        self._total = sum(counts.values())
        self._done = counts["done"] + counts["quarantined"]

    def run(self) -> None:
        """Work until no job is open or leased, or until the build is asked to stop.

        Raises:
            DatabaseError: the store cannot be read or written.
            MetaD2AError: ten jobs in a row failed.
        """
        try:
            self._loop()
        except BaseException:
            # The first error is the one to tell; leases that cannot be given back run out.
            with contextlib.suppress(DatabaseError):
                self._leave()
            raise
        self._leave()

    def _leave(self) -> None:
        self._workers.close()
        self._jobs.release(self._owner)
        self._summary.quarantined = self._jobs.counts()["quarantined"]

    def _loop(self) -> None:
        beat = time.monotonic() + self._run.heartbeat_seconds
        until: float | None = None
        self._tell("")
        while True:
            if until is None and self._should_stop():
                self._summary.stopped = True
                until = time.monotonic() + GRACE_SECONDS
            if until is None:
                self._claim()
            if not self._in_hand and (until is not None or self._is_all_done()):
                return
            if until is not None and time.monotonic() > until:
                return
            for ended in self._workers.wait(_POLL_SECONDS):
                self._end(ended)
            if time.monotonic() > beat:
                self._renew()
                beat = time.monotonic() + self._run.heartbeat_seconds
            self._stop_hung()

    def _is_all_done(self) -> bool:
        """Whether nothing is left to do; if others are still at work, wait a little for them."""
        counts = self._jobs.counts()
        if counts["open"] or counts["leased"]:
            time.sleep(_POLL_SECONDS)
            return False
        return True

    def _claim(self) -> None:
        free = self._workers.free()
        if not free:
            return
        for job in self._jobs.claim(self._owner, free, self._run.lease_seconds):
            work, task = self._prepare(job)
            self._in_hand[job.id] = _InHand(job, time.monotonic())
            self._workers.start(job.id, work, task)

    def _end(self, ended: Ended) -> None:
        job = self._in_hand.pop(ended.number).job
        if ended.lost:
            self._lost[job.id] += 1
            if self._lost[job.id] < MAX_TRIES:
                self._jobs.release(self._owner, [job.id])
                return
        if ended.outcome is None:
            self._fail(job, ended.error)
            return
        outcome = ended.outcome
        try:
            recorded = self._jobs.finish(
                self._owner,
                job,
                outcome.measurements,
                space=self._space,
                device=outcome.device,
                versions=outcome.versions,
                seconds=outcome.seconds,
            )
        except RefusedRowError as error:
            self._fail(job, str(error))
            return
        if recorded is None:
            self._late(job)
            return
        self._failed_in_a_row = 0
        self._summary.jobs += 1
        self._summary.evaluations += recorded.new
        self._summary.conflicts += recorded.conflicts
        self._total += self._finished(job)
        self._done += 1
        self._tell(job.labeller)

    def _late(self, job: Job) -> None:
        self._summary.late += 1
        _log.warning("A result of %s came after its lease had gone, and is refused.", job.labeller)

    def _fail(self, job: Job, error: str) -> None:
        state = self._jobs.fail(self._owner, job.id, error)
        if state is None:
            self._late(job)
            return
        text = f"{job.labeller} on {self._prepare(job)[1].name}: {error}"
        _log.warning("Failed, try %d of %d: %s", job.tries + 1, MAX_TRIES, text)
        self._store.add_failure(job.task, job.labeller, error)
        if state == "quarantined":
            self._done += 1
            self._tell(job.labeller)
        self._summary.failures.append(text)
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MAX_FAILURES:
            raise MetaD2AError(
                f"The build ends after {MAX_FAILURES} failures in a row; what was measured is "
                f"stored. The last one: {text}. Mend it and build again."
            )

    def _renew(self) -> None:
        """Renew the leases; what has gone to another driver is dropped."""
        if not self._in_hand:
            return
        held = self._jobs.heartbeat(self._owner, list(self._in_hand), self._run.lease_seconds)
        for number in set(self._in_hand) - held:
            self._workers.stop(number)
            del self._in_hand[number]
            self._summary.late += 1

    def _stop_hung(self) -> None:
        limit = self._run.wall_seconds
        for number, one in list(self._in_hand.items()):
            if time.monotonic() - one.since > limit:
                self._workers.stop(number)
                self._end(
                    Ended(
                        number,
                        error=f"It took longer than wall_seconds = {limit:g} and "
                        "was stopped. Raise it if that is to be expected.",
                    )
                )

    def _tell(self, text: str) -> None:
        self._progress(self._done, self._total, text)
