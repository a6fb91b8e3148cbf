"""Writing rows inside a transaction: what is there already is kept and never overwritten."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, Table, and_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError

from database.schema import ARCHITECTURES, EVALUATIONS, PROTOCOLS, SOURCES, TASKS
from metad2a.errors import DatabaseError

if TYPE_CHECKING:
    from metad2a.spaces import SearchSpace
    from search.labels import Measurement

_log = logging.getLogger(__name__)
INSERTS: Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
"""Dialect to its insert that can leave alone what is there."""


class RefusedRowError(DatabaseError):
    """A row that the store's constraints do not let in."""


@dataclass(frozen=True)
class Recorded:
    """What became of rows: ``new`` ones, ones ``known`` with the same value, conflicts.

    A conflict is a row that is there with another value; the one that was there is kept.
    """

    new: int
    known: int
    conflicts: tuple[str, ...]


class _Tally:
    """Counts what becomes of evaluations as they are written."""

    def __init__(self) -> None:
        self._new = self._known = 0
        self._conflicts: list[str] = []

    def keep(
        self,
        connection: Connection,
        key: Mapping[str, Any],
        value: float,
        rest: Mapping[str, Any],
        protocol: str,
        of: str,
    ) -> None:
        """Insert the evaluation with this key and ``value``, unless it is known.

        Args:
            connection: of a writing transaction.
            key: columns that no two rows have in common.
            value: what was measured.
            rest: the other columns.
            protocol: what errors call the value.
            of: what errors say that it is a value of.

        Raises:
            RefusedRowError: a constraint does not let it in.
        """
        stored = _stored(connection, key)
        if stored is None:
            try:
                if add(connection, EVALUATIONS, key, {"value": value, **rest}) is not None:
                    self._new += 1
                    return
            except (IntegrityError, DataError) as error:
                cause = str(error.orig).partition("\n")[0]
                raise RefusedRowError(
                    f"The database refuses {protocol} = {value!r} of {of}: {cause}. A value must "
                    "be finite, an accuracy a fraction 0..1, and seconds not negative."
                ) from error
            stored = _stored(connection, key)  # another process was faster
        if stored == value:
            self._known += 1
        else:
            self._conflicts.append(f"{protocol} of {of}: {stored!r} is kept, {value!r} refused")
            _log.warning("Conflicting measurement: %s.", self._conflicts[-1])

    def recorded(self) -> Recorded:
        """Return the counts."""
        return Recorded(self._new, self._known, tuple(self._conflicts))


def record_evaluations(
    connection: Connection,
    task: str,
    space: SearchSpace,
    measurements: Iterable[Measurement],
    device: str,
    versions: str,
    source: str,
) -> Recorded:
    """Write measurements of the task with key ``task``; see ``Store.record``."""
    origin = {
        "source_id": find(connection, SOURCES, {"name": source}),
        "device": device,
        "versions": versions,
        "created": datetime.now(UTC),
    }
    task_id = find(connection, TASKS, {"key": task})
    protocols: dict[str, tuple[int, str]] = {}
    architectures: dict[str, int] = {}
    tally = _Tally()
    rows = [(space.format(space.canonical(one.architecture)), one) for one in measurements]
    # Every writer goes in the same order, so that no two wait for one another.
    for canonical, one in sorted(rows, key=lambda row: (row[0], row[1].protocol, row[1].seed)):
        if one.protocol not in protocols:
            protocols[one.protocol] = _protocol(connection, one.protocol)
        if canonical not in architectures:
            architectures[canonical] = identify(
                connection, ARCHITECTURES, {"space": space.name, "canonical": canonical}, {}
            )
        protocol_id, kind = protocols[one.protocol]
        key = {
            "task_id": task_id,
            "architecture_id": architectures[canonical],
            "protocol_id": protocol_id,
            "seed": one.seed,
        }
        rest = origin | {"kind": kind, "seconds": one.seconds, "curve": list(one.curve)}
        of = (
            f"{canonical} with seed {one.seed} ({one.seconds!r} s, curve {one.curve[:5]}) on "
            f"task {task}"
        )
        tally.keep(connection, key, one.value, rest, one.protocol, of)
    return tally.recorded()


def add(
    connection: Connection, table: Table, key: Mapping[str, Any], rest: Mapping[str, Any]
) -> int | None:
    """Insert a row and return its id, or None if a row with this key is there."""
    row = INSERTS[connection.dialect.name](table).values(**key, **rest)
    number = connection.scalar(
        row.on_conflict_do_nothing(index_elements=list(key)).returning(table.c.id)
    )
    return None if number is None else int(number)


def find(connection: Connection, table: Table, key: Mapping[str, Any]) -> int:
    """Return the id of the row with this key.

    Raises:
        DatabaseError: there is none.
    """
    number = connection.scalar(select(table.c.id).where(_equal(table, key)))
    if number is None:
        raise DatabaseError(f"There is no row with {dict(key)} in {table.name}; add it first.")
    return int(number)


def identify(
    connection: Connection, table: Table, key: Mapping[str, Any], rest: Mapping[str, Any]
) -> int:
    """Return the id of the row with this key, inserted with ``rest`` if it is not there."""
    number = connection.scalar(select(table.c.id).where(_equal(table, key)))
    if number is None:
        number = add(connection, table, key, rest)
    return find(connection, table, key) if number is None else int(number)


def storable(text: str) -> str:
    """Return ``text`` without what no server keeps: NUL, and halves of UTF-16 pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _equal(table: Table, values: Mapping[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in values.items()))


def _protocol(connection: Connection, name: str) -> tuple[int, str]:
    number = find(connection, PROTOCOLS, {"name": name})
    kind = connection.scalar(select(PROTOCOLS.c.kind).where(PROTOCOLS.c.id == number))
    return number, str(kind)


def _stored(connection: Connection, key: Mapping[str, Any]) -> float | None:
    value = connection.scalar(select(EVALUATIONS.c.value).where(_equal(EVALUATIONS, key)))
    return None if value is None else float(value)
