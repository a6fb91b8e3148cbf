"""Opening a store: its server, and its tables, which are of one schema until the first release."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, inspect, select

from database.schema import MEASURED, META, METADATA, SCHEMA_VERSION, SOURCES
from database.servers.base import Server
from database.servers.sqlite import SQLite
from metad2a.errors import DatabaseError


def open_server(location: Path | str, create: bool) -> Server:
    """Open the database at a path or URL, checked; a new one is given the tables.

    Raises:
        DatabaseError: there is none and ``create`` is false; it is damaged, of another program,
            of another schema, or cannot be read and written.
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
        from database.servers.postgresql import PostgreSQL

        return PostgreSQL(location)
    return SQLite(Path(location))


def _is_ready(connection: Connection, server: Server) -> bool:
    """Return whether the database has the tables; false if it is empty.

    Raises:
        DatabaseError: it is another program's, of another schema, or lacks tables.
    """
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return False
    _check_version(connection, server, tables)
    if missing := set(METADATA.tables) - tables:
        raise DatabaseError(
            f"The database {server.name!r} lacks the tables {', '.join(sorted(missing))}. Restore "
            "a backup, or give the place of a new database."
        )
    return True


def _make_ready(connection: Connection, server: Server, create: bool) -> None:
    """Make the tables, unless another process did while this one waited."""
    if _is_ready(connection, server):
        return
    if create:  # a new database, or one whose creation was interrupted
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


def _check_version(connection: Connection, server: Server, tables: set[str]) -> None:
    """Refuse a database of another program or schema."""
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
    if version != SCHEMA_VERSION:
        raise DatabaseError(
            f"The database {server.name!r} has schema version {version}; this program reads "
            f"{SCHEMA_VERSION} alone. Write its rows with the metad2a that made it (`metad2a db "
            "export`) and read them into a new one (`metad2a db import`), or give another place."
        )
