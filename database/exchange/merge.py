"""Merging: plain rows of a file, a published table or another database into a store.

All of it in one transaction. What is known is left as it is; a row that is there with another
value is reported and never overwritten; a row that the store refuses leaves the store untouched.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table

from database.exchange.rows import ALL_SOURCES, TABLES, Row, Sources, stored_rows
from database.records import (
    MEASURED_TABLES,
    Recorded,
    agree,
    identify,
    identify_architectures,
    insert,
    look_up,
    record,
    refusing,
)
from database.schema import DATASETS, PROTOCOLS, SOURCES, TASKS
from database.store import Store
from database.tasks import Task
from metad2a.errors import DatabaseError, InputError
from metad2a.spaces import SPACES


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
        names = _Names(connection)
        return {
            table: _tasks(connection, tables[table])
            if table == "tasks"
            else _measured(connection, names, table, tables[table])
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


class _Names:
    """Ids of what measured rows name, within one transaction; what is missing is added."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._now = datetime.now(UTC)
        self._ids: dict[tuple[str, ...], int] = {}
        self._canonical: dict[tuple[str, str], str] = {}
        self._architectures: dict[tuple[str, str], int] = {}

    def task(self, row: Row) -> int:
        """Return the id of a row's task.

        Raises:
            DatabaseError: it is not stored.
        """
        key = row["task"]
        if (TASKS.name, key) not in self._ids:
            number = look_up(self._connection, TASKS, {"key": key})
            if number is None:
                raise DatabaseError(
                    f"The task {key!r} is not stored. Import the file of tasks that "
                    "was exported with these rows, too."
                )
            self._ids[TASKS.name, key] = number
        return self._ids[TASKS.name, key]

    def source(self, row: Row) -> int:
        """Return the id of a row's source.

        Raises:
            DatabaseError: its name is stored with another licence or address.
        """
        fixed = {"licence": row["licence"], "url": row["url"]}
        return self._agreed(SOURCES, row["source"], fixed, imported=self._now)

    def protocol(self, row: Row) -> int:
        """Return the id of a row's protocol.

        Raises:
            DatabaseError: its name is stored with another kind or description.
        """
        fixed = {"kind": row["kind"], "description": row["description"]}
        return self._agreed(PROTOCOLS, row["protocol"], fixed)

    def _agreed(self, table: Table, name: str, fixed: dict[str, str], **rest: Any) -> int:
        key = (table.name, name, *fixed.values())
        if key not in self._ids:
            self._ids[key] = agree(self._connection, table, name, fixed, **rest)
        return self._ids[key]

    def architecture(self, row: Row) -> int:
        """Return the id of a row's architecture, one of those learnt."""
        space = row["space"]
        return self._architectures[space, self._canonical[space, row["architecture"]]]

    def learn_architectures(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Make the architectures of numbered rows known, those of isomorphic cells as one.

        Raises:
            InputError: an unknown space, or no architecture of it.
        """
        wanted: dict[str, list[str]] = defaultdict(list)
        for number, row in rows:
            given = (row["space"], row["architecture"])
            if given not in self._canonical:
                try:
                    space = SPACES.get(row["space"])
                    cell = space.canonical(space.parse(row["architecture"]))
                except InputError as error:
                    raise InputError(f"Row {number}: {error}") from error
                self._canonical[given] = space.format(cell)
            canonical = self._canonical[given]
            if (row["space"], canonical) not in self._architectures:
                wanted[row["space"]].append(canonical)
        for name, cells in wanted.items():
            ids = identify_architectures(self._connection, name, cells)
            self._architectures |= {(name, cell): number for cell, number in ids.items()}


def _tasks(connection: Connection, given: Iterable[Row]) -> Recorded:
    new = known = 0
    for number, row in enumerate(given, 1):
        definition = _definition(number, row)
        if look_up(connection, TASKS, {"key": row["task"]}) is not None:
            known += 1
            continue
        with refusing((number, row), lambda one, cause: _refusal("tasks", *one, cause)):
            dataset = identify(
                connection,
                DATASETS,
                {"fingerprint": row["fingerprint"]},
                {
                    "name": row["dataset"],
                    "family": row["family"],
                    "form": row["form"],
                    "images": row["dataset_images"],
                    "classes": row["dataset_classes"],
                    "resolution": row["dataset_resolution"],
                },
            )
            task = {
                "key": row["task"],
                "dataset_id": dataset,
                "name": row["name"],
                "definition": definition,
                "n_train": row["train_images"],
                "n_test": row["test_images"],
                "n_classes": len(row["classes"]),
            }
            new += insert(connection, TASKS, ("key",), [task])
    return Recorded(new, known, ())


def _measured(connection: Connection, names: _Names, table: str, given: Iterable[Row]) -> Recorded:
    def refusal(one: tuple[int, Row], cause: str) -> str:
        return _refusal(table, *one, cause)

    def columns(chunk: list[tuple[int, Row]]) -> list[dict[str, Any]]:
        names.learn_architectures(chunk)
        made = []
        for one in chunk:
            with refusing(one, refusal):
                made.append(_COLUMNS[table](names, one[1]))
        return made

    return record(
        connection,
        MEASURED_TABLES[table],
        enumerate(given, 1),
        columns,
        lambda one: _described(one[1]),
        refusal,
    )


def _evaluation(names: _Names, row: Row) -> dict[str, Any]:
    return {
        "task_id": names.task(row),
        "architecture_id": names.architecture(row),
        "protocol_id": names.protocol(row),
        "source_id": names.source(row),
    } | {
        name: row[name]
        for name in ("kind", "seed", "value", "seconds", "curve", "device", "versions", "created")
    }


def _latency(names: _Names, row: Row) -> dict[str, Any]:
    return {
        "architecture_id": names.architecture(row),
        "source_id": names.source(row),
    } | {name: row[name] for name in ("device", "batch", "resolution", "milliseconds")}


_COLUMNS = {"evaluations": _evaluation, "latencies": _latency}
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


def _refusal(table: str, number: int, row: Row, cause: str) -> str:
    return (
        f"Row {number} of {table} is refused ({cause}): {dict(row)!s:.600}. A value must be "
        "finite, an accuracy a fraction 0..1, seconds not negative, milliseconds above 0. "
        "Mend the row; nothing was imported."
    )
