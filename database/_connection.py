"""Opening a store: its server, its tables, and the upgrade of an older schema."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, select, update

from database._server import Server
from database._sqlite import SQLite
from database.migrations import MIGRATIONS
from database.schema import MEASURED, META, METADATA, SCHEMA_VERSION, SOURCES
from metad2a.errors import DatabaseError

_log = logging.getLogger(__name__)


def open_server(location: Path | str, create: bool) -> Server:
    """Open the database at a path or URL, checked; a new one is given the tables.

    Raises:
        DatabaseError: there is none and ``create`` is false; it is damaged, of another program,
            of a newer schema, or cannot be read and written.
    """
    server = _server(location)
    try:
        with server.explained("open"):
            server.check(create)
            with server.reader.connect() as connection:
                ready = _is_ready(connection, server)
            if not ready:
                with server.alone() as connection:
                    _make_ready(connection, server, create)
    except BaseException:
        server.close()
        raise
    return server


def _server(location: Path | str) -> Server:
    if isinstance(location, str) and "://" in location:
        from database._postgresql import PostgreSQL

        return PostgreSQL(location)
    return SQLite(Path(location))


def _is_ready(connection: Connection, server: Server) -> bool:
    """Return whether the database has the tables of this version; false if they can be made.

    Raises:
        DatabaseError: it is another program's, of a newer schema, or lacks tables.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables or _version(connection, server, tables) < SCHEMA_VERSION:
        return False
    if missing := set(METADATA.tables) - tables:
        raise DatabaseError(
            f"The database {server.name!r} lacks the tables {', '.join(sorted(missing))}. Restore "
            "a backup, or give the place of a new database."
        )
    return True


def _make_ready(connection: Connection, server: Server, create: bool) -> None:
    """Make or upgrade the tables, unless another process did while this one waited."""
    if _is_ready(connection, server):
        return
    tables = set(inspect(connection).get_table_names())
    if tables:
        _upgrade(connection, server, _version(connection, server, tables))
    elif create:  # a new database, or one whose creation was interrupted
        METADATA.create_all(connection)
        connection.execute(META.insert().values(schema_version=SCHEMA_VERSION))
        connection.execute(
            SOURCES.insert().values(
                name=MEASURED, licence="own measurements", url="", imported=datetime.now(UTC)
            )
        )
    else:
        raise DatabaseError(
            f"There is no metad2a database in {server.name!r}: it is empty. "
            "Make one with `metad2a db build`."
        )


def _version(connection: Connection, server: Server, tables: set[str]) -> int:
    """Return the schema version, which this program can read or upgrade."""
    version = None
    if META.name in tables:
        columns = {column["name"] for column in inspect(connection).get_columns(META.name)}
        if META.c.schema_version.name in columns:
            version = connection.scalar(select(META.c.schema_version))
    if version is None:
        raise DatabaseError(
            f"{server.name!r} is not a metad2a database: it has the tables "
            f"{', '.join(sorted(tables))[:200]} and no schema version. Give the place of a metad2a "
            "database, or of a new one."
        )
    if not min(MIGRATIONS) - 1 <= version <= SCHEMA_VERSION:
        raise DatabaseError(
            f"The database {server.name!r} has schema version {version}; this program reads "
            f"{min(MIGRATIONS) - 1} to {SCHEMA_VERSION}. Update metad2a, or give the place of a "
            "new database."
        )
    return int(version)


def _upgrade(connection: Connection, server: Server, version: int) -> None:
    copy = server.backup(version)
    for number in range(version + 1, SCHEMA_VERSION + 1):
        MIGRATIONS[number](connection)
    connection.execute(update(META).values(schema_version=SCHEMA_VERSION))
    _log.warning(
        "The database %s was upgraded from schema version %d to %d; a copy of it as it "
        "was is in %s.",
        server.name,
        version,
        SCHEMA_VERSION,
        copy,
    )
