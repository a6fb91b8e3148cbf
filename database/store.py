"""The store: one database that keeps tasks, architectures and every value measured on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from database.records import Recorded, agree, find, identify, record_measurements, storable
from database.schema import (
    ARCHITECTURES,
    DATASETS,
    EVALUATIONS,
    FAILURES,
    PROTOCOLS,
    TASKS,
)
from database.servers.connect import open_server

if TYPE_CHECKING:
    from database.tasks import Task
    from metad2a.datasets import ImageDataset
    from metad2a.protocol import Protocol
    from metad2a.spaces import SearchSpace
    from search.labellers.base import Measurement


class Store:
    """A database, opened or created. Several processes may write to one.

    A file belongs to one machine; a PostgreSQL server serves many. ``name`` is what to call it,
    and has no password; ``path`` is its file, None on a server.
    """

    def __init__(self, location: Path | str, create: bool = True) -> None:
        """Open ``location``, and create it if it is missing and ``create`` is true.

        Args:
            location: path of a file, or ``postgresql+psycopg://USER@HOST/DATABASE``.
            create: whether to make a file, or the tables of an empty PostgreSQL database.

        Raises:
            DatabaseError: it is missing, damaged, of another program or schema, or the server
                cannot be reached.
        """
        self._server = open_server(location, create)
        self.name = self._server.name
        self.path = self._server.path

    def close(self) -> None:
        """Close all connections."""
        self._server.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- writing -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a transaction: all that is written in it is kept, or nothing on an error.

        Raises:
            DatabaseError: the database cannot be written.
        """
        with self._server.explained("write to"), self._server.writer.begin() as connection:
            yield connection

    def add_dataset(
        self, dataset: ImageDataset, family: str, resolution: int, fingerprint: str | None = None
    ) -> None:
        """Store a dataset, unless it is known; its images have a side of ``resolution`` pixels.

        ``fingerprint`` is the dataset's, for those who know it: to work it out reads every image.
        """
        key = {"fingerprint": fingerprint or dataset.fingerprint()}
        with self.writing() as connection:
            identify(
                connection,
                DATASETS,
                key,
                {
                    "name": dataset.name,
                    "family": family,
                    "form": dataset.form,
                    "images": len(dataset.labels),
                    "classes": len(dataset.classes),
                    "resolution": resolution,
                },
            )

    def add_task(self, task: Task) -> None:
        """Store a task, unless it is known.

        Raises:
            DatabaseError: its dataset is not stored.
        """
        with self.writing() as connection:
            identify(
                connection,
                TASKS,
                {"key": task.key},
                {
                    "dataset_id": find(connection, DATASETS, {"fingerprint": task.dataset}),
                    "name": task.name,
                    "definition": task.definition(),
                    "n_train": len(task.train),
                    "n_test": len(task.test),
                    "n_classes": len(task.classes),
                },
            )

    def add_protocol(self, protocol: Protocol) -> None:
        """Store a protocol, unless it is known.

        Raises:
            DatabaseError: its name is known with another kind or description.
        """
        with self.writing() as connection:
            agree(
                connection,
                PROTOCOLS,
                protocol.name,
                {"kind": protocol.kind, "description": protocol.description},
            )

    def record(
        self,
        task: str,
        space: SearchSpace,
        measurements: Iterable[Measurement],
        device: str,
        versions: str,
    ) -> Recorded:
        """Store measurements of the task with key ``task``: all of them, or none on an error.

        What is known already is left as it is, so that recording twice changes nothing.

        Raises:
            RefusedRowError: a value is not finite, or an accuracy not a fraction 0..1.
            DatabaseError: the task or a protocol is not stored.
        """
        with self.writing() as connection:
            return record_measurements(connection, task, space, measurements, device, versions)

    def add_failure(self, task: str, labeller: str, error: str) -> None:
        """Note that a labeller broke off on the task with key ``task``."""
        with self.writing() as connection:
            task_id = find(connection, TASKS, {"key": task})
            connection.execute(
                FAILURES.insert().values(
                    task_id=task_id,
                    labeller=labeller,
                    error=storable(error),
                    created=datetime.now(UTC),
                )
            )

    # -- reading -----------------------------------------------------------------------------

    def measured(self, task: str, protocol: str, seed: int) -> dict[str, float]:
        """Return the values on the task under the protocol and seed, best first.

        The keys are canonical strings.
        """
        query = (
            select(ARCHITECTURES.c.canonical, EVALUATIONS.c.value)
            .join_from(EVALUATIONS, ARCHITECTURES)
            .join(TASKS)
            .join(PROTOCOLS, EVALUATIONS.c.protocol_id == PROTOCOLS.c.id)
            .where(TASKS.c.key == task, PROTOCOLS.c.name == protocol, EVALUATIONS.c.seed == seed)
            .order_by(EVALUATIONS.c.value.desc(), ARCHITECTURES.c.canonical)
        )
        with self.reading() as connection:
            return dict(connection.execute(query).all())

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees the store as it is now.

        Raises:
            DatabaseError: the database cannot be read.
        """
        with self._server.explained("read"), self._server.reader.connect() as connection:
            yield connection

    def now(self, connection: Connection) -> datetime:
        """Return the time in UTC of the machine that keeps the store, one for all its users."""
        return self._server.now(connection)

    def size(self) -> int:
        """Return the bytes that the store takes on disk."""
        with self.reading() as connection:
            return self._server.size(connection)
