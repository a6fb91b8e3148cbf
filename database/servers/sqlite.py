"""A store in one SQLite file: connection settings and integrity."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event

from database.servers.base import Server
from metad2a.errors import DatabaseError

_MAGIC = b"SQLite format 3\0"
_BUSY_SECONDS = 30
_SETTINGS = (f"busy_timeout = {1000 * _BUSY_SECONDS}", "foreign_keys = ON", "synchronous = NORMAL")
_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.sshfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""File systems whose locks or shared memory do not reach every machine that mounts them."""
_BREACHES = ("CHECK constraint failed", "NULL value in")  # what quick_check says of rows


class SQLite(Server):
    """A database file. Several processes of one machine may write to it."""

    remedy = (
        "Check that the disk has room and that the file and its folder may be written; if it "
        "is damaged, restore a backup."
    )
    path: Path

    def __init__(self, path: Path) -> None:
        engine = _connect(path)
        super().__init__(str(path), path, engine, engine.execution_options(write=True))

    def check(self, create: bool) -> None:
        """Refuse what is no file of SQLite, damaged, or not on a local disk."""
        if not create and not self.path.exists():
            raise DatabaseError(
                f"There is no database {self.name!r}. Give the path of one, or "
                "make it with `metad2a db build`."
            )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            self._check_file()
            self._check_integrity()
        kind = _file_system(self.path.parent)
        if kind in _NETWORK or self._log_ahead() != ["wal"]:
            raise DatabaseError(
                f"The file system of {self.name!r} ({kind or 'of unknown kind'}) does not allow a "
                "shared write-ahead log, as network file systems do not. Put the database on a "
                "local disk, or on a PostgreSQL server."
            )

    def _check_file(self) -> None:
        with self.path.open("rb") as file:
            head = file.read(len(_MAGIC))
        if head and head != _MAGIC:
            raise DatabaseError(
                f"{self.name!r} is not a database (it begins with {head!r}). "
                "Give the path of a metad2a database, or of a new file."
            )
        with contextlib.closing(self.path.open("r+b")):  # writable, or an OSError that says why
            pass

    def _check_integrity(self) -> None:
        try:
            found = [str(line) for line in self._pragma("quick_check") if line != "ok"]
            # A whole file with impossible rows in it is opened: `db verify` names them.
            problems = [line for line in found if not line.startswith(_BREACHES)]
        except sqlite3.OperationalError:
            raise  # locked or unreadable, which says nothing about its content
        except sqlite3.DatabaseError as error:
            problems = [str(error)]
        if problems:
            raise DatabaseError(
                f"The database {self.name!r} is damaged: {'; '.join(problems[:3])[:300]}. Restore "
                "a backup, or move the file away and build again."
            )

    def _log_ahead(self) -> list[Any]:
        """Turn the write-ahead log on; SQLite itself does not wait for others to do that."""
        until = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return self._pragma("journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.05)

    def _pragma(self, statement: str) -> list[Any]:
        """Run a pragma outside any transaction, where some of them only work."""
        connection = self.reader.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA {statement}")
            return [row[0] for row in cursor.fetchall()]
        finally:
            connection.close()

    @contextlib.contextmanager
    def alone(self) -> Iterator[Connection]:
        """Give a writing transaction: SQLite lets in one at a time."""
        with self.writer.begin() as connection:
            yield connection

    def size(self, connection: Connection) -> int:
        """Return the bytes of the file and its write-ahead log."""
        log = self.path.with_name(f"{self.path.name}-wal")
        return sum(file.stat().st_size for file in (self.path, log) if file.exists())

    def now(self, connection: Connection) -> datetime:
        """Return this machine's time: the file is on its disk."""
        return datetime.now(UTC)


def _connect(path: Path) -> Engine:
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


def _file_system(folder: Path) -> str:
    """Return the type of the file system that holds a folder, or "" where it cannot be known."""
    if not _MOUNTS.exists():
        return ""
    place, found, length = folder.resolve(), "", 0
    for line in _MOUNTS.read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        # Mount points are escaped as \040 and the like; a later line covers an earlier one.
        point = before.split()[4].encode("latin-1", "surrogateescape").decode("unicode_escape")
        if place.is_relative_to(point) and len(point) >= length:
            found, length = after.split()[0], len(point)
    return found
