"""Owners: the processes that hold leases, and the rule that a file has one driver at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator

from filelock import FileLock, Timeout
from sqlalchemy import select

from database.schema import BUILDS
from database.store import Store
from metad2a.errors import DatabaseError


def new_owner() -> str:
    """Return a name for this process as an owner of leases: host, process and a random part."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_dead(owner: str) -> bool:
    """Whether an owner was a process of this machine that is no more."""
    host, _, rest = owner.partition("/")
    number = rest.partition("/")[0]
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is there and somebody else's
        return False
    return False


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
                owner for owner in connection.scalars(select(BUILDS.c.driver)) if not is_dead(owner)
            ]
        who = [
            f"process {pid} on {host}" for host, pid, _ in (owner.split("/") for owner in owners)
        ]
        raise DatabaseError(
            f"The database {store.name!r} is being built by {' or '.join(who) or 'another process'}"
            ". Wait for its end or stop it, or use a PostgreSQL server, which takes many drivers."
        ) from error
    try:
        yield
    finally:
        lock.release()
