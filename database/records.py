"""Writing rows inside a transaction: what is there already is kept and never overwritten.

Every row that enters a store goes through here, whether it was measured, imported or merged.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Table, and_, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import OperationalError, StatementError

from database.schema import (
    ARCHITECTURES,
    EVALUATIONS,
    LATENCIES,
    MEASURED,
    PROTOCOLS,
    SOURCES,
    TASKS,
)
from metad2a.errors import DatabaseError

if TYPE_CHECKING:
    from metad2a.spaces import SearchSpace
    from search.labellers.base import Measurement

_T = TypeVar("_T")
_log = logging.getLogger(__name__)
_CHUNK = 1000  # rows a statement; an old SQLite takes 32,766 values in one
_INSERTS: Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]] = {
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


# -- rows that others refer to ---------------------------------------------------------------


def find(connection: Connection, table: Table, key: Mapping[str, Any]) -> int:
    """Return the id of the row with this key.

    Raises:
        DatabaseError: there is none.
    """
    number = look_up(connection, table, key)
    if number is None:
        raise DatabaseError(f"There is no row with {dict(key)} in {table.name}; add it first.")
    return number


def look_up(connection: Connection, table: Table, key: Mapping[str, Any]) -> int | None:
    """Return the id of the row with this key, or None."""
    number = connection.scalar(select(table.c.id).where(_equal(table, key)))
    return None if number is None else int(number)


def identify(
    connection: Connection, table: Table, key: Mapping[str, Any], rest: Mapping[str, Any]
) -> int:
    """Return the id of the row with this key, inserted with ``rest`` if it is not there."""
    number = look_up(connection, table, key)
    if number is None:
        insert(connection, table, key, [{**key, **rest}])
        number = find(connection, table, key)
    return number


def agree(
    connection: Connection, table: Table, name: str, fixed: Mapping[str, str], **rest: Any
) -> int:
    """Return the id of a named row whose columns ``fixed`` never change, inserted if missing.

    Raises:
        DatabaseError: the name is stored with other columns.
    """
    number = identify(connection, table, {"name": name}, {**fixed, **rest})
    stored = connection.execute(
        select(*(table.c[column] for column in fixed)).where(table.c.id == number)
    ).one()
    if tuple(stored) != tuple(fixed.values()):
        raise DatabaseError(
            f"The {table.name[:-1]} {name!r} is stored as {tuple(stored)}, not as "
            f"{tuple(fixed.values())}. What a name stands for never changes: give the new one a "
            "new name."
        )
    return number


def identify_architectures(
    connection: Connection, space: str, canonical: Iterable[str]
) -> dict[str, int]:
    """Return the ids of canonical architectures of a space; those that are missing are inserted."""
    # Every writer goes in the same order, so that no two wait for one another.
    wanted = sorted(set(canonical))
    query = select(ARCHITECTURES.c.canonical, ARCHITECTURES.c.id).where(
        ARCHITECTURES.c.space == space, ARCHITECTURES.c.canonical.in_(wanted)
    )
    ids = dict(connection.execute(query).all())
    missing = [{"space": space, "canonical": cell} for cell in wanted if cell not in ids]
    if missing:
        insert(connection, ARCHITECTURES, ("space", "canonical"), missing)
        ids = dict(connection.execute(query).all())
    return ids


def insert(
    connection: Connection, table: Table, key: Iterable[str], rows: list[dict[str, Any]]
) -> int:
    """Insert rows, but for those whose ``key`` is there; return how many are new."""
    statement = (
        _INSERTS[connection.dialect.name](table)
        .on_conflict_do_nothing(index_elements=list(key))
        .returning(table.c.id)
    )
    return len(connection.execute(statement, rows).all())


# -- measured rows ---------------------------------------------------------------------------


@dataclass(frozen=True)
class MeasuredTable:
    """How rows of one table of measured values are known again."""

    table: Table
    key: tuple[str, ...]
    """Columns that identify a row, in the order of their index."""
    near: int
    """How many of these narrow a search down, before their combinations become too many."""
    value: str
    """The column whose value must agree."""


MEASURED_TABLES = {
    measured.table.name: measured
    for measured in (
        MeasuredTable(
            EVALUATIONS, ("task_id", "architecture_id", "protocol_id", "seed"), 2, "value"
        ),
        MeasuredTable(
            LATENCIES,
            ("architecture_id", "device", "batch", "resolution", "source_id"),
            3,
            "milliseconds",
        ),
    )
}


def record(
    connection: Connection,
    kind: MeasuredTable,
    given: Iterable[_T],
    columns: Callable[[list[_T]], list[dict[str, Any]]],
    name: Callable[[_T], str],
    refusal: Callable[[_T, str], str],
) -> Recorded:
    """Insert measured values, unless they are known.

    Args:
        connection: of a writing transaction.
        kind: of the rows.
        given: what is to be stored, in any form.
        columns: makes some of these items into the columns of as many rows.
        name: what to call an item in a conflict.
        refusal: the error that says of an item, with the server's cause, that it is refused.

    Raises:
        RefusedRowError: a constraint does not let one in.
    """
    new, known, conflicts = 0, 0, []
    for chunk in _chunks(given):
        rows = columns(chunk)
        keys = [tuple(row[column] for column in kind.key) for row in rows]
        stored = _stored(connection, kind, keys)
        fresh = {}
        for item, key, row in zip(chunk, keys, rows, strict=True):
            if key not in stored:
                stored[key] = row[kind.value]
                fresh[key] = (item, row)
            elif stored[key] == row[kind.value]:
                known += 1
            else:
                conflicts.append(_conflict(name(item), stored[key], row[kind.value]))
        if not fresh:
            continue
        written = _insert(connection, kind, list(fresh.values()), refusal)
        new += written
        if written < len(fresh):  # another process was faster
            known += len(fresh) - written
            stored = _stored(connection, kind, list(fresh))
            for key, (item, row) in fresh.items():
                if stored[key] != row[kind.value]:
                    known -= 1
                    conflicts.append(_conflict(name(item), stored[key], row[kind.value]))
    return Recorded(new, known, tuple(conflicts))


def _conflict(name: str, stored: float, value: float) -> str:
    return f"{name}: {stored!r} is kept, {value!r} refused"


def _stored(
    connection: Connection, kind: MeasuredTable, keys: list[tuple[Any, ...]]
) -> dict[tuple[Any, ...], Any]:
    """Return the stored values of these keys, and perhaps of others near them."""
    columns = [kind.table.c[name] for name in kind.key]
    # Row values in a list would be searched without the index; these conditions use it.
    near = []
    for place, column in enumerate(columns):
        values = {key[place] for key in keys}
        near += (
            [column.in_(values)]
            if place < kind.near
            else [column >= min(values), column <= max(values)]
        )
    query = select(*columns, kind.table.c[kind.value]).where(*near)
    return {tuple(row[:-1]): row[-1] for row in connection.execute(query)}


def _insert(
    connection: Connection,
    kind: MeasuredTable,
    fresh: list[tuple[_T, dict[str, Any]]],
    refusal: Callable[[_T, str], str],
) -> int:
    try:
        with connection.begin_nested():
            return insert(connection, kind.table, kind.key, [row for _, row in fresh])
    except StatementError:
        for item, row in fresh:  # one by one, to name the row
            with refusing(item, refusal):
                insert(connection, kind.table, kind.key, [row])
        raise


@contextlib.contextmanager
def refusing(item: _T, refusal: Callable[[_T, str], str]) -> Iterator[None]:
    """Say by ``refusal`` which row it was where a constraint lets one not in."""
    try:
        yield
    except OperationalError:  # a full disk or a lost server, which is no row's fault
        raise
    except StatementError as error:
        cause = str(error.orig).partition("\n")[0]
        raise RefusedRowError(refusal(item, cause)) from error


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk


def record_measurements(
    connection: Connection,
    task: str,
    space: SearchSpace,
    measurements: Iterable[Measurement],
    device: str,
    versions: str,
) -> Recorded:
    """Write measurements of the task with key ``task``; see ``Store.record``."""
    shared = {
        "task_id": find(connection, TASKS, {"key": task}),
        "source_id": find(connection, SOURCES, {"name": MEASURED}),
        "device": device,
        "versions": versions,
        "created": datetime.now(UTC),
    }
    given = sorted(
        (
            (space.format(space.canonical(measurement.architecture)), measurement)
            for measurement in measurements
        ),
        key=lambda row: (row[0], row[1].protocol, row[1].seed),
    )
    protocols = {
        name: _protocol(connection, name)
        for name in sorted({measurement.protocol for _, measurement in given})
    }

    def columns(chunk: list[tuple[str, Measurement]]) -> list[dict[str, Any]]:
        ids = identify_architectures(connection, space.name, (cell for cell, _ in chunk))
        return [
            {
                **shared,
                "architecture_id": ids[cell],
                "protocol_id": protocols[measurement.protocol][0],
                "kind": protocols[measurement.protocol][1],
                "seed": measurement.seed,
                "value": measurement.value,
                "seconds": measurement.seconds,
                "curve": list(measurement.curve),
            }
            for cell, measurement in chunk
        ]

    def of(cell: str, measurement: Measurement) -> str:
        return (
            f"{cell} with seed {measurement.seed} ({measurement.seconds!r} s, curve "
            f"{measurement.curve[:5]}) on task {task}"
        )

    recorded = record(
        connection,
        MEASURED_TABLES["evaluations"],
        given,
        columns,
        lambda row: f"{row[1].protocol} of {of(*row)}",
        lambda row, cause: (
            f"The database refuses {row[1].protocol} = {row[1].value!r} of {of(*row)}: {cause}. A "
            "value must be finite, an accuracy a fraction 0..1, and seconds not negative."
        ),
    )
    for conflict in recorded.conflicts:
        _log.warning("Conflicting measurement: %s.", conflict)
    return recorded


def storable(text: str) -> str:
    """Return ``text`` without what no server keeps: NUL, and halves of UTF-16 pairs."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _equal(table: Table, values: Mapping[str, Any]) -> ColumnElement[bool]:
    return and_(*(table.c[name] == value for name, value in values.items()))


def _protocol(connection: Connection, name: str) -> tuple[int, str]:
    """Return a protocol's id and kind."""
    number = find(connection, PROTOCOLS, {"name": name})
    kind = connection.scalar(select(PROTOCOLS.c.kind).where(PROTOCOLS.c.id == number))
    return number, str(kind)
