"""A store on a PostgreSQL server, for several machines at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import URL, Connection, Engine, create_engine, func, make_url, select
from sqlalchemy.exc import ArgumentError

from database.servers.base import Server
from metad2a.errors import DatabaseError

_FORM = "postgresql+psycopg://USER@HOST:PORT/DATABASE"
_DRIVER = "postgresql+psycopg"
_LOCK = 0x6D65_7461  # any number that all processes of this program share
_SETTINGS = {"connect_timeout": 10, "application_name": "metad2a"}


class PostgreSQL(Server):
    """A database on a server. Processes of any machine may write to it."""

    remedy = (
        f"Check that the server runs and has room, that host, port, user and database of the "
        f"URL ({_FORM}) are right, that the user may write there, and that the password is "
        "in the variable PGPASSWORD or the file ~/.pgpass."
    )

    def __init__(self, location: str) -> None:
        """Prepare connections; none is made yet.

        Raises:
            DatabaseError: ``location`` is no URL of PostgreSQL, or its driver is not installed.
        """
        url = _parse(location)
        engine = _connect(url)
        # As in SQLite, what is read in one transaction is one state of the database.
        reader = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        writer = engine.execution_options(isolation_level="READ COMMITTED")
        super().__init__(_shown(url), None, reader, writer)

    def check(self, create: bool) -> None:
        """Let the server refuse the connection, if it does."""
        self.reader.connect().close()

    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """Give a writing transaction under a lock that lasts until its end."""
        with self.writer.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    def size(self, connection: Connection) -> int:
        """Return the bytes of the whole database, which may hold other tables too."""
        return int(connection.scalar(select(func.pg_database_size(func.current_database()))) or 0)

    def now(self, connection: Connection) -> datetime:
        """Return the server's time, which is one for all its clients."""
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)


def _parse(location: str) -> URL:
    """Read a URL; what is wrong with it is said without the password that may be in it."""
    try:
        url = make_url(location)
    except (ArgumentError, ValueError):
        raise DatabaseError(
            f"The URL of the database cannot be read. Give {_FORM}; write the "
            "characters @ : / ? of a password as %40 %3A %2F %3F."
        ) from None
    if url.drivername in {"postgres", "postgresql"}:
        url = url.set(drivername=_DRIVER)
    if url.drivername != _DRIVER:
        raise DatabaseError(
            f"A database of the kind {url.drivername!r} is not supported. Give the "
            f"path of a file, or {_FORM}."
        )
    if "@" in (url.host or ""):
        raise DatabaseError(
            f"The URL of the database has more than one @. Give {_FORM}, with an "
            "@ in a password written as %40."
        )
    return url


def _shown(url: URL) -> str:
    """Return the URL without its password, wherever it is."""
    query = {name: value for name, value in url.query.items() if name in {"host", "port"}}
    return url.set(query=query)._replace(password=None).render_as_string()


def _connect(url: URL) -> Engine:
    settings = {name: value for name, value in _SETTINGS.items() if name not in url.query}
    try:
        return create_engine(url, connect_args=settings, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise DatabaseError(
            "A database on a PostgreSQL server needs the driver psycopg. Install "
            "it with: pip install 'metad2a[postgresql]'."
        ) from error
