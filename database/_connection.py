"""Opening a store's file: connection settings, integrity and schema version."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from database.schema import META, METADATA, SCHEMA_VERSION
from metad2a.errors import DatabaseError

_MAGIC = b"SQLite format 3\0"
_SETTINGS = ("busy_timeout = 30000", "foreign_keys = ON", "synchronous = NORMAL")


def connect(path: Path) -> Engine:
    """Return an engine whose connections share the file well and enforce its foreign keys."""
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        for setting in _SETTINGS:
            connection.execute(f"PRAGMA {setting}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A writer asks for the lock at once: a reader that turns writer can only fail, not wait.
        write = connection.get_execution_options().get("write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextlib.contextmanager
def explained(path: Path, action: str) -> Iterator[None]:
    """Turn a driver's error into a ``DatabaseError`` that says what to do."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        cause = getattr(error, "orig", None) or error
        raise DatabaseError(
            f"Cannot {action} the database {str(path)!r}: {cause}. Check that the disk has room "
            "and that the file may be written; if it is damaged, restore a backup."
        ) from error


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(len(_MAGIC))
    if head and head != _MAGIC:
        raise DatabaseError(
            f"{str(path)!r} is not a database (it begins with {head!r}). "
            "Give the path of a metad2a database, or of a new file."
        )


def _pragma(engine: Engine, statement: str) -> list[Any]:
    """Run a pragma outside any transaction, where some of them only work."""
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA {statement}")
        return [row[0] for row in cursor.fetchall()]
    finally:
        connection.close()


def _check_integrity(engine: Engine, path: Path) -> None:
    try:
        problems = [str(line) for line in _pragma(engine, "quick_check") if line != "ok"]
    except sqlite3.OperationalError:
        raise  # locked or unreadable, which says nothing about its content
    except sqlite3.DatabaseError as error:
        problems = [str(error)]
    if problems:
        raise DatabaseError(
            f"The database {str(path)!r} is damaged: {'; '.join(problems[:3])[:300]}. Restore a "
            "backup, or move the file away and build again."
        )


def _check_schema(connection: Connection, path: Path) -> None:
    tables = set(inspect(connection).get_table_names())
    if not tables:  # a new file, or one whose creation was interrupted
        METADATA.create_all(connection)
        connection.execute(META.insert().values(schema_version=SCHEMA_VERSION))
        return
    if missing := set(METADATA.tables) - tables:
        raise DatabaseError(
            f"{str(path)!r} is not a metad2a database: it lacks the tables "
            f"{', '.join(sorted(missing))}. Give the path of a metad2a database, or of a new file."
        )
    version = connection.scalar(select(META.c.schema_version))
    if version != SCHEMA_VERSION:
        raise DatabaseError(
            f"The database {str(path)!r} has schema version {version}; this program reads "
            f"{SCHEMA_VERSION}. Update metad2a, or give the path of a new file."
        )


def open_engine(path: Path, create: bool) -> Engine:
    """Open the file, checked; a new one is given the tables.

    Raises:
        DatabaseError: there is no file and ``create`` is false; it is damaged, of another program,
            of another schema version, or cannot be read and written.
    """
    if not create and not path.exists():
        raise DatabaseError(f"There is no database {str(path)!r}. Give the path of one, or make it "
                            "with `metad2a db build`.")
    with explained(path, "open"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check_header(path)
        engine = connect(path)
        try:
            _check_integrity(engine, path)
            if _pragma(engine, "journal_mode = WAL") != ["wal"]:
                raise DatabaseError(
                    f"The file system of {str(path)!r} does not allow a shared write-ahead log, "
                    "as network file systems do not. Put the database on a local disk."
                )
            with engine.execution_options(write=True).begin() as connection:
                _check_schema(connection, path)
        except BaseException:
            engine.dispose()
            raise
    return engine
