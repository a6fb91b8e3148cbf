"""The store: one file that keeps tasks, architectures and every value measured on them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, and_, select
from sqlalchemy.exc import IntegrityError

from database._connection import explained, open_engine
from database.schema import (
    ARCHITECTURES,
    DATASETS,
    EVALUATIONS,
    FAILURES,
    PROTOCOLS,
    TASKS,
)
from metad2a.errors import DatabaseError

if TYPE_CHECKING:
    from database.tasks import Task
    from metad2a.datasets import ImageDataset
    from metad2a.spaces import SearchSpace
    from search.labels import Measurement, Protocol

_log = logging.getLogger(__name__)


class RefusedRowError(DatabaseError):
    """A measurement that the store's constraints do not let in."""


@dataclass(frozen=True)
class Recorded:
    """What became of measurements: ``new`` rows, rows ``known`` with the same value, conflicts.

    A conflict is a measurement whose row is there with another value; the row is kept.
    """

    new: int
    known: int
    conflicts: tuple[str, ...]


class Store:
    """A database file, opened or created. Several processes may write to one file."""

    def __init__(self, path: Path | str, create: bool = True) -> None:
        """Open ``path``, and create it if it is missing and ``create`` is true.

        Raises:
            DatabaseError: the file is missing, damaged, of another program or schema version.
        """
        self.path = Path(path)
        self._engine = open_engine(self.path, create)
        self._writer = self._engine.execution_options(write=True)

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- writing -----------------------------------------------------------------------------

    def add_dataset(self, dataset: ImageDataset, family: str, resolution: int) -> None:
        """Store a dataset, unless it is known; its images have a side of ``resolution`` pixels."""
        with explained(self.path, "write to"), self._writer.begin() as connection:
            _identify(connection, DATASETS, {"fingerprint": dataset.fingerprint()}, {
                "name": dataset.name,
                "family": family,
                "form": dataset.form,
                "images": len(dataset.labels),
                "classes": len(dataset.classes),
                "resolution": resolution,
            })

    def add_task(self, task: Task) -> None:
        """Store a task, unless it is known.

        Raises:
            DatabaseError: its dataset is not stored.
        """
        with explained(self.path, "write to"), self._writer.begin() as connection:
            _identify(connection, TASKS, {"key": task.key}, {
                "dataset_id": _find(connection, DATASETS, {"fingerprint": task.dataset}),
                "name": task.name,
                "definition": task.definition(),
                "n_train": len(task.train),
                "n_test": len(task.test),
                "n_classes": len(task.classes),
            })

    def add_protocol(self, protocol: Protocol) -> None:
        """Store a protocol, unless it is known.

        Raises:
            DatabaseError: its name is known with another kind or description.
        """
        row = {"kind": protocol.kind, "description": protocol.description}
        with explained(self.path, "write to"), self._writer.begin() as connection:
            number = _identify(connection, PROTOCOLS, {"name": protocol.name}, row)
            stored = connection.execute(
                select(PROTOCOLS.c.kind, PROTOCOLS.c.description).where(PROTOCOLS.c.id == number)
            ).one()
        if tuple(stored) != tuple(row.values()):
            raise DatabaseError(
                f"The protocol {protocol.name!r} is stored as {tuple(stored)}, not as "
                f"{tuple(row.values())}. A protocol never changes: give the new one a new name."
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
        new, known, conflicts = 0, 0, []
        with explained(self.path, "write to"), self._writer.begin() as connection:
            origin = {
                "task_id": _find(connection, TASKS, {"key": task}),
                "device": device,
                "versions": versions,
                "created": datetime.now(UTC),
            }
            for one in measurements:
                canonical = space.format(space.canonical(one.architecture))
                stored = _record(connection, space.name, canonical, one, origin)
                if stored is None:
                    new += 1
                elif stored == one.value:
                    known += 1
                else:
                    conflicts.append(
                        f"{one.protocol} of {canonical} with seed {one.seed} on task {task}: "
                        f"{stored!r} is kept, {one.value!r} refused")
                    _log.warning("Conflicting measurement: %s.", conflicts[-1])
        return Recorded(new, known, tuple(conflicts))

    def add_failure(self, task: str, labeller: str, error: str) -> None:
        """Note that a labeller broke off on the task with key ``task``."""
        with explained(self.path, "write to"), self._writer.begin() as connection:
            task_id = _find(connection, TASKS, {"key": task})
            connection.execute(FAILURES.insert().values(
                task_id=task_id, labeller=labeller, error=error, created=datetime.now(UTC)))

    # -- reading -----------------------------------------------------------------------------

    def done(self, task: str, protocol: str, seed: int) -> set[str]:
        """Return the canonical strings measured on the task under the protocol and seed."""
        query = (
            select(ARCHITECTURES.c.canonical)
            .join_from(EVALUATIONS, ARCHITECTURES)
            .join(TASKS).join(PROTOCOLS, EVALUATIONS.c.protocol_id == PROTOCOLS.c.id)
            .where(TASKS.c.key == task, PROTOCOLS.c.name == protocol, EVALUATIONS.c.seed == seed)
        )
        with self.reading() as connection:
            return set(connection.scalars(query))

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that sees the store as it is now.

        Raises:
            DatabaseError: the file cannot be read.
        """
        with explained(self.path, "read"), self._engine.connect() as connection:
            yield connection


def _record(
    connection: Connection, space: str, canonical: str, one: Measurement, origin: dict[str, Any]
) -> float | None:
    """Insert one row and return None, or return the value that is there already."""
    protocol_id = _find(connection, PROTOCOLS, {"name": one.protocol})
    key = {
        "task_id": origin["task_id"],
        "architecture_id": _identify(
            connection, ARCHITECTURES, {"space": space, "canonical": canonical}, {}),
        "protocol_id": protocol_id,
        "seed": one.seed,
    }
    stored = connection.scalar(select(EVALUATIONS.c.value).where(_equal(EVALUATIONS, key)))
    if stored is not None:
        return float(stored)
    kind = connection.scalar(select(PROTOCOLS.c.kind).where(PROTOCOLS.c.id == protocol_id))
    try:
        connection.execute(EVALUATIONS.insert().values(
            **origin | key, kind=kind, value=one.value, seconds=one.seconds, curve=list(one.curve)))
    except IntegrityError as error:
        raise RefusedRowError(
            f"The database refuses {one.protocol} = {one.value!r} ({one.seconds!r} s, curve "
            f"{one.curve[:5]}) of {canonical}: {error.orig}. A value must be finite, an accuracy "
            "a fraction 0..1, and seconds not negative."
        ) from error
    return None


def _equal(table: Table, values: Mapping[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in values.items()))


def _find(connection: Connection, table: Table, key: Mapping[str, Any]) -> int:
    number = connection.scalar(select(table.c.id).where(_equal(table, key)))
    if number is None:
        raise DatabaseError(f"There is no row with {dict(key)} in {table.name}; add it first.")
    return int(number)


def _identify(
    connection: Connection, table: Table, key: Mapping[str, Any], rest: Mapping[str, Any]
) -> int:
    """Return the id of the row with this key, inserted if it is not there."""
    number = connection.scalar(select(table.c.id).where(_equal(table, key)))
    if number is None:
        row = table.insert().values(**key, **rest).returning(table.c.id)
        number = connection.execute(row).scalar_one()
    return int(number)
