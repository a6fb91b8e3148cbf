"""A build in the store, and its jobs: leased to an owner for a while, so that none is lost with its owner.

An owner is a process that measures. It claims jobs, renews its leases with a heartbeat while it
works, and hands in each result in the transaction that ends the job: a result that comes after the
lease went to another owner is refused, and so nothing is counted twice. Leases are told by the
clock of the machine that keeps the store, in UTC.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, select, update

from database.plan import Plan
from database.records import Recorded, find, identify, insert, record_measurements, storable
from database.schema import BUILDS, JOBS, MAX_TRIES, STATES, TASKS
from database.store import Store
from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.spaces import SearchSpace
    from search.labellers.base import Measurement

_UNIQUE = ["build_id", "task_id", "labeller", "architectures", "seed"]
_FREE = {"owner": None, "lease_until": None}


def datasets_of(store: Store, plan: Plan) -> dict[str, str]:
    """Return the fingerprints by folder name that a build began with; empty for a new one."""
    with store.reading() as connection:
        fingerprints: dict[str, str] | None = connection.scalar(
            select(BUILDS.c.datasets).where(BUILDS.c.key == plan.key)
        )
    return fingerprints or {}


def register(store: Store, plan: Plan, datasets: dict[str, str], owner: str) -> int:
    """Store the build, unless it is known, with its driver; return its id."""
    with store.writing() as connection:
        number = identify(
            connection,
            BUILDS,
            {"key": plan.key},
            {
                "name": plan.name,
                "plan": plan.rows(),
                "datasets": datasets,
                "driver": owner,
                "created": datetime.now(UTC),
            },
        )
        connection.execute(update(BUILDS).where(BUILDS.c.id == number).values(driver=owner))
    return number


@dataclass(frozen=True)
class Job:
    """Architectures to measure on one task; a search brings its own, and has none.

    ``task`` is the task's key, ``architectures`` are strings. ``id`` is 0 and ``tries``, the times
    that it failed, is 0 until the store gives the job out.
    """

    task: str
    labeller: str
    architectures: tuple[str, ...]
    seed: int
    id: int = 0
    tries: int = 0


class Jobs:
    """The jobs of one build of a store. Many processes may work on them at once."""

    def __init__(self, store: Store, build: int) -> None:
        """Take the jobs of the build with this id."""
        self._store = store
        self._build = build

    def enqueue(self, jobs: Iterable[Job]) -> int:
        """Add the jobs that are not there, to be claimed in this order; return their number.

        Raises:
            DatabaseError: a task is not stored.
        """
        with self._store.writing() as connection:
            numbers: dict[str, int] = {}
            rows = []
            for job in jobs:
                if job.task not in numbers:
                    numbers[job.task] = find(connection, TASKS, {"key": job.task})
                rows.append(
                    {
                        "build_id": self._build,
                        "task_id": numbers[job.task],
                        "labeller": job.labeller,
                        "architectures": "\n".join(job.architectures),
                        "seed": job.seed,
                        "state": "open",
                        "tries": 0,
                    }
                )
            return insert(connection, JOBS, _UNIQUE, rows) if rows else 0

    def claim(self, owner: str, count: int, lease_seconds: float) -> list[Job]:
        """Lease the next jobs, ``count`` at most, to ``owner``; none if all are taken or done.

        Raises:
            InputError: ``count`` or ``lease_seconds`` is not above 0.
        """
        if count < 1 or not lease_seconds > 0:
            raise InputError(f"count={count} and lease_seconds={lease_seconds} must be above 0.")
        with self._store.writing() as connection:
            self._reopen_expired(connection, owner)
            chosen = _locked(connection, self._in("open"), count)
            connection.execute(
                update(JOBS)
                .where(JOBS.c.id.in_(chosen))
                .values(
                    state="leased", owner=owner, lease_until=self._end(connection, lease_seconds)
                )
            )
            rows = connection.execute(
                select(
                    TASKS.c.key,
                    JOBS.c.labeller,
                    JOBS.c.architectures,
                    JOBS.c.seed,
                    JOBS.c.id,
                    JOBS.c.tries,
                )
                .join_from(JOBS, TASKS)
                .where(JOBS.c.id.in_(chosen))
                .order_by(JOBS.c.id)
            )
            return [
                Job(task, labeller, tuple(lines.splitlines()), *rest)
                for task, labeller, lines, *rest in rows
            ]

    def heartbeat(self, owner: str, ids: Collection[int], lease_seconds: float) -> set[int]:
        """Renew the owner's leases on these jobs; return those that are still its own."""
        with self._store.writing() as connection:
            renewed = connection.scalars(
                update(JOBS)
                .where(JOBS.c.id.in_(ids), _held(owner))
                .values(lease_until=self._end(connection, lease_seconds))
                .returning(JOBS.c.id)
            )
            return set(renewed)

    def finish(
        self,
        owner: str,
        job: Job,
        measurements: Iterable[Measurement],
        *,
        space: SearchSpace,
        device: str,
        versions: str,
        seconds: float,
    ) -> Recorded | None:
        """Store what was measured in ``seconds`` and end the job, both or neither.

        Returns:
            What became of the rows; None, and nothing is stored, if the lease is no longer the
            owner's.

        Raises:
            RefusedRowError: a value is not finite, or an accuracy not a fraction 0..1; the job
                stays leased.
        """
        with self._store.writing() as connection:
            ended = connection.execute(
                update(JOBS)
                .where(JOBS.c.id == job.id, _held(owner))
                .values(
                    state="done",
                    error=None,
                    seconds=seconds,
                    ended=self._store.now(connection),
                    **_FREE,
                )
            )
            if not ended.rowcount:
                return None
            return record_measurements(connection, job.task, space, measurements, device, versions)

    def fail(self, owner: str, number: int, error: str) -> str | None:
        """Note that the job with this id failed; it is open again, or quarantined the third time.

        Returns:
            The job's new state; None, and nothing is noted, if the lease is no longer the owner's.
        """
        tries = JOBS.c.tries + 1
        with self._store.writing() as connection:
            state: str | None = connection.scalar(
                update(JOBS)
                .where(JOBS.c.id == number, _held(owner))
                .values(
                    state=case((tries >= MAX_TRIES, "quarantined"), else_="open"),
                    tries=tries,
                    error=storable(error),
                    **_FREE,
                )
                .returning(JOBS.c.state)
            )
            return state

    def release(self, owner: str, ids: Collection[int] | None = None) -> int:
        """Open again the jobs leased to ``owner``, all or those ``ids``; return their number."""
        which = _held(owner) if ids is None else and_(_held(owner), JOBS.c.id.in_(ids))
        with self._store.writing() as connection:
            return connection.execute(
                update(JOBS).where(which).values(state="open", **_FREE)
            ).rowcount

    def retry(self) -> int:
        """Open again all jobs that are quarantined, with no try counted; return their number."""
        with self._store.writing() as connection:
            return connection.execute(
                update(JOBS).where(self._in("quarantined")).values(state="open", tries=0)
            ).rowcount

    def owners(self) -> set[str]:
        """Return who holds leases, expired ones included."""
        with self._store.reading() as connection:
            return set(
                connection.scalars(select(JOBS.c.owner).distinct().where(self._in("leased")))
            )

    def counts(self) -> dict[str, int]:
        """Return the number of jobs in each state; one whose lease has expired is open."""
        with self._store.reading() as connection:
            state = case((self._expired(connection), "open"), else_=JOBS.c.state)
            counts = connection.execute(
                select(state, func.count()).where(JOBS.c.build_id == self._build).group_by(state)
            )
            return dict.fromkeys(STATES, 0) | dict(counts.all())

    def _in(self, state: str) -> ColumnElement[bool]:
        return and_(JOBS.c.build_id == self._build, JOBS.c.state == state)

    def _end(self, connection: Connection, lease_seconds: float) -> Any:
        return self._store.now(connection) + timedelta(seconds=lease_seconds)

    def _expired(self, connection: Connection) -> ColumnElement[bool]:
        return and_(self._in("leased"), JOBS.c.lease_until <= self._store.now(connection))

    def _reopen_expired(self, connection: Connection, owner: str) -> None:
        """Free what others hold no longer; ``owner`` is at work on its own, however late it is."""
        expired = _locked(connection, and_(self._expired(connection), JOBS.c.owner != owner))
        if expired:
            connection.execute(
                update(JOBS).where(JOBS.c.id.in_(expired)).values(state="open", **_FREE)
            )


def _held(owner: str) -> ColumnElement[bool]:
    return and_(JOBS.c.state == "leased", JOBS.c.owner == owner)


def _locked(
    connection: Connection, wanted: ColumnElement[bool], count: int | None = None
) -> Sequence[int]:
    """Return the ids of the first such jobs, locked; PostgreSQL leaves out what others lock.

    SQLite has no such lock and needs none: it lets in one writer at a time.
    """
    return connection.scalars(
        select(JOBS.c.id)
        .where(wanted)
        .order_by(JOBS.c.id)
        .limit(count)
        .with_for_update(skip_locked=True)
    ).all()
