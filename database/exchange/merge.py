"""Merging: plain rows of a file, a published table or another database into a store.

All of it in one transaction. What is known is left as it is; a row that is there with another
value is reported and never overwritten; a row that the store refuses leaves the store untouched.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, select
from sqlalchemy.exc import StatementError

from database.exchange.names import Names
from database.exchange.rows import ALL_SOURCES, TABLES, Row, Sources, stored_rows
from database.schema import EVALUATIONS, LATENCIES
from database.store import Recorded, RefusedRowError, Store
from database.tasks import Task
from metad2a.errors import InputError

_T = TypeVar("_T")
_CHUNK = 1000  # rows a statement; an old SQLite takes 32,766 values in one


def merge(store: Store, tables: Mapping[str, Iterable[Row]]) -> dict[str, Recorded]:
    """Add rows of some of the tables of ``database.exchange.rows.TABLES``; all of them, or none.

    Returns:
        For each table given: rows that were new, rows known, and the conflicts.

    Raises:
        RefusedRowError: a value out of its range; the message has the number of the row.
        InputError: a task whose key is not that of its definition, or an unknown space or cell.
        DatabaseError: a row of a task that is not stored, or a protocol or source that is stored
            with other particulars.
    """
    with store.writing() as connection:
        names = Names(connection)
        return {
            table: _tasks(names, tables[table])
            if table == "tasks"
            else _measured(connection, names, _MEASURED[table], tables[table])
            for table in TABLES
            if table in tables
        }


def merge_store(store: Store, other: Store, sources: Sources = ALL_SOURCES) -> dict[str, Recorded]:
    """Add what another store holds; see :func:`merge` for what becomes of its rows.

    Raises:
        InputError: ``sources`` names one that the other store does not hold.
    """
    sources.check(other)
    return merge(store, {name: stored_rows(other, name, sources) for name in TABLES})


def is_database(location: str) -> bool:
    """Whether an existing file, or an address, is that of a database."""
    if "://" in location:
        return True
    with Path(location).open("rb") as file:
        return file.read(16) == b"SQLite format 3\0"


@dataclass(frozen=True)
class _Measured:
    """How rows of one table are stored."""

    name: str
    table: Table
    key: tuple[str, ...]
    """Columns that identify a row, in the order of their index."""
    near: int
    """How many of these narrow a search down, before their combinations become too many."""
    value: str
    """The column whose value must agree."""
    stored: Callable[[Names, Row], dict[str, Any]]
    """Make the columns of a plain row."""


def _tasks(names: Names, given: Iterable[Row]) -> Recorded:
    new = known = 0
    for number, row in enumerate(given, 1):
        definition = _definition(number, row)
        if names.has_task(row["task"]):
            known += 1
            continue
        with _refusing("tasks", number, row):
            names.add_task(row, definition)
        new += 1
    return Recorded(new, known, ())


def _measured(
    connection: Connection, names: Names, kind: _Measured, given: Iterable[Row]
) -> Recorded:
    new, known, conflicts = 0, 0, []
    for chunk in _chunks(enumerate(given, 1)):
        names.learn_architectures(chunk)
        made = []
        for number, row in chunk:
            with _refusing(kind.name, number, row):
                made.append(kind.stored(names, row))
        keys = [tuple(values[name] for name in kind.key) for values in made]
        stored, fresh = _stored(connection, kind, keys), []
        for key, values, (number, row) in zip(keys, made, chunk, strict=True):
            value = values[kind.value]
            if key not in stored:
                stored[key] = value
                fresh.append((number, row, values))
            elif stored[key] == value:
                known += 1
            else:
                conflicts.append(f"{_described(row)}: {stored[key]!r} is kept, {value!r} refused")
        _insert(connection, kind, fresh)
        new += len(fresh)
    return Recorded(new, known, tuple(conflicts))


def _stored(
    connection: Connection, kind: _Measured, keys: list[tuple[Any, ...]]
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
    connection: Connection, kind: _Measured, fresh: list[tuple[int, Row, dict[str, Any]]]
) -> None:
    if not fresh:
        return
    insert = kind.table.insert()
    try:
        with connection.begin_nested():
            connection.execute(insert, [values for _, _, values in fresh])
    except StatementError:
        for number, row, values in fresh:  # one by one, to name the row
            with _refusing(kind.name, number, row):
                connection.execute(insert, values)
        raise


def _definition(number: int, row: Row) -> dict[str, Any]:
    """Return the definition of a task, whose key and counts must be its own."""
    task = Task.of_row(row)
    if task.key != row["task"]:
        raise InputError(
            f"Row {number} of tasks: {row['name']!r} has the key {row['task']!r}, but its "
            f"definition gives {task.key}. The file was changed; export it again."
        )
    for name, images in (("train_images", task.train), ("test_images", task.test)):
        # A published task has counts alone: which images it used nobody listed.
        if images and len(images) != row[name]:
            raise InputError(
                f"Row {number} of tasks: {name} is {row[name]}, but {len(images)} "
                "images are listed. The file was changed; export it again."
            )
    return task.definition()


def _evaluation(names: Names, row: Row) -> dict[str, Any]:
    return {
        "task_id": names.task(row["task"]),
        "architecture_id": names.architecture(row),
        "protocol_id": names.protocol(row),
        "source_id": names.source(row),
    } | {
        name: row[name]
        for name in ("kind", "seed", "value", "seconds", "curve", "device", "versions", "created")
    }


def _latency(names: Names, row: Row) -> dict[str, Any]:
    return {
        "architecture_id": names.architecture(row),
        "source_id": names.source(row),
    } | {name: row[name] for name in ("device", "batch", "resolution", "milliseconds")}


_MEASURED = {
    one.name: one
    for one in (
        _Measured(
            "evaluations",
            EVALUATIONS,
            ("task_id", "architecture_id", "protocol_id", "seed"),
            2,
            "value",
            _evaluation,
        ),
        _Measured(
            "latencies",
            LATENCIES,
            ("architecture_id", "device", "batch", "resolution", "source_id"),
            3,
            "milliseconds",
            _latency,
        ),
    )
}
_KEYS = (
    "protocol",
    "seed",
    "device",
    "batch",
    "resolution",
    "space",
    "architecture",
    "task",
    "source",
)


def _described(row: Row) -> str:
    """Name a row by what identifies it."""
    return ", ".join(f"{name} {row[name]}" for name in _KEYS if name in row)


@contextlib.contextmanager
def _refusing(table: str, number: int, row: Row) -> Iterator[None]:
    """Name the row in an error of the server."""
    try:
        yield
    except StatementError as error:
        cause = str(error.orig).partition("\n")[0]
        raise RefusedRowError(
            f"Row {number} of {table} is refused ({cause}): {dict(row)!s:.600}. A value must be "
            "finite, an accuracy a fraction 0..1, seconds not negative, milliseconds above 0. "
            "Mend the row; nothing was imported."
        ) from error


def _chunks(items: Iterable[_T]) -> Iterator[list[_T]]:
    iterator = iter(items)
    while chunk := list(itertools.islice(iterator, _CHUNK)):
        yield chunk
