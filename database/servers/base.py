"""What the store asks of a database server, whichever it is."""

from __future__ import annotations

import contextlib
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from metad2a.errors import DatabaseError


class Server(ABC):
    """A database on a server: ``SQLite`` or ``PostgreSQL``.

    ``name`` is what errors call it, and has no password; ``remedy`` is what they advise; ``path``
    is its file, if it is one. ``reader`` gives transactions that see one state of the database,
    ``writer`` such that may change it.
    """

    remedy: str

    def __init__(self, name: str, path: Path | None, reader: Engine, writer: Engine) -> None:
        self.name = name
        self.path = path
        self.reader = reader
        self.writer = writer

    @contextlib.contextmanager
    def explained(self, action: str) -> Iterator[None]:
        """Turn a driver's error into a ``DatabaseError`` that says what to do."""
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error, OSError) as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip(".")
            raise DatabaseError(
                f"Cannot {action} the database {self.name!r}: {cause}. {self.remedy}"
            ) from error

    @abstractmethod
    def check(self, create: bool) -> None:
        """Refuse what cannot be a database, and make room for one if ``create`` is true.

        Raises:
            DatabaseError: it is missing and ``create`` is false, damaged, or cannot be written.
        """

    @abstractmethod
    def alone(self) -> contextlib.AbstractContextManager[Connection]:
        """Give a writing transaction that runs beside no other one of its kind."""

    @abstractmethod
    def size(self, connection: Connection) -> int:
        """Return the bytes that the database takes on its server's disk."""

    @abstractmethod
    def now(self, connection: Connection) -> datetime:
        """Return the time of the machine that keeps the database, in UTC."""

    def close(self) -> None:
        """Close all connections, which reader and writer share."""
        self.reader.dispose()
