"""What the store knows of a build, and the rule that a file has one driver at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from filelock import FileLock, Timeout
from sqlalchemy import select, update

from database._recording import identify
from database.driver import is_dead
from database.plan import Plan
from database.schema import BUILDS
from database.store import Store
from metad2a.errors import DatabaseError


def datasets_of(store: Store, plan: Plan) -> dict[str, str]:
    """Return the fingerprints by folder name that a build began with; empty for a new one."""
    with store.reading() as connection:
        found: dict[str, str] | None = connection.scalar(
            select(BUILDS.c.datasets).where(BUILDS.c.key == plan.key)
        )
    return found or {}


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


@contextlib.contextmanager
def only_driver(store: Store) -> Iterator[None]:
    """Keep a database file for this driver; a PostgreSQL server takes several.

    The operating system gives the lock back whatever becomes of the process.

    Raises:
        DatabaseError: another driver has the file; says which process on which machine.
    """
    if store.path is None:
        yield
        return
    lock = FileLock(store.path.with_name(f"{store.path.name}.driver"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        with store.reading() as connection:
            owners = [
                one for one in connection.scalars(select(BUILDS.c.driver)) if not is_dead(one)
            ]
        who = [f"process {pid} on {host}" for host, pid, _ in (one.split("/") for one in owners)]
        raise DatabaseError(
            f"The database {store.name!r} is being built by {' or '.join(who) or 'another process'}"
            ". Wait for its end or stop it, or use a PostgreSQL server, which takes many drivers."
        ) from error
    try:
        yield
    finally:
        lock.release()
