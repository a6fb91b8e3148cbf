"""Names to numbers: what the rows of a merge refer to, looked up or added."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Executable, Table, select

from database.exchange.rows import Row
from database.schema import ARCHITECTURES, DATASETS, PROTOCOLS, SOURCES, TASKS
from metad2a.errors import DatabaseError, InputError
from metad2a.spaces import SPACES


class Names:
    """Numbers of named rows within one transaction; rows that are missing are added."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._now = datetime.now(UTC)
        self._datasets = self._numbers(DATASETS, "fingerprint")
        self._tasks = self._numbers(TASKS, "key")
        self._sources = self._named(SOURCES, "licence", "url")
        self._protocols = self._named(PROTOCOLS, "kind", "description")
        self._architectures: dict[tuple[str, str], int] = {}
        self._canonical: dict[tuple[str, str], str] = {}

    def _numbers(self, table: Table, name: str) -> dict[str, int]:
        found = self._connection.execute(select(table.c[name], table.c.id))
        return {row[0]: row[1] for row in found}

    def _named(self, table: Table, *rest: str) -> dict[str, tuple[int, tuple[str, ...]]]:
        found = self._connection.execute(
            select(table.c.name, table.c.id, *(table.c[one] for one in rest))
        )
        return {row[0]: (row[1], tuple(row[2:])) for row in found}

    def _insert(self, table: Table, values: Mapping[str, Any]) -> int:
        statement = table.insert().values(**values).returning(table.c.id)
        return int(self._connection.execute(statement).scalar_one())

    def task(self, key: str) -> int:
        """Return the number of a task.

        Raises:
            DatabaseError: it is not stored.
        """
        if key not in self._tasks:
            raise DatabaseError(
                f"The task {key!r} is not stored. Import the file of tasks that "
                "was exported with these rows, too."
            )
        return self._tasks[key]

    def has_task(self, key: str) -> bool:
        """Whether a task is stored."""
        return key in self._tasks

    def add_task(self, row: Row, definition: Mapping[str, Any]) -> None:
        """Add a task, and its dataset where that is not stored."""
        fingerprint = row["fingerprint"]
        if fingerprint not in self._datasets:
            self._datasets[fingerprint] = self._insert(
                DATASETS,
                {
                    "fingerprint": fingerprint,
                    "name": row["dataset"],
                    "family": row["family"],
                    "form": row["form"],
                    "images": row["dataset_images"],
                    "classes": row["dataset_classes"],
                    "resolution": row["dataset_resolution"],
                },
            )
        self._tasks[row["task"]] = self._insert(
            TASKS,
            {
                "key": row["task"],
                "dataset_id": self._datasets[fingerprint],
                "name": row["name"],
                "definition": definition,
                "n_train": row["train_images"],
                "n_test": row["test_images"],
                "n_classes": len(row["classes"]),
            },
        )

    def source(self, row: Row) -> int:
        """Return the number of a row's source.

        Raises:
            DatabaseError: its name is stored with another licence or address.
        """
        rest = {"licence": row["licence"], "url": row["url"]}
        return self._agreed(SOURCES, self._sources, row["source"], rest, imported=self._now)

    def protocol(self, row: Row) -> int:
        """Return the number of a row's protocol.

        Raises:
            DatabaseError: its name is stored with another kind or description.
        """
        rest = {"kind": row["kind"], "description": row["description"]}
        return self._agreed(PROTOCOLS, self._protocols, row["protocol"], rest)

    def _agreed(
        self,
        table: Table,
        known: dict[str, tuple[int, tuple[str, ...]]],
        name: str,
        rest: dict[str, str],
        **more: Any,
    ) -> int:
        """Return the id of a row by name, whose particulars may not differ from those stored."""
        given = tuple(rest.values())
        if name not in known:
            number = self._insert(table, {"name": name} | rest | more)
            known[name] = (number, given)
        number, stored = known[name]
        if stored != given:
            raise DatabaseError(
                f"{name!r} of {table.name} is stored with {stored}, not {given}. What a name "
                "stands for never changes: give the new one a new name."
            )
        return number

    def architecture(self, row: Row) -> int:
        """Return the number of a row's architecture, one of those learnt."""
        space = row["space"]
        return self._architectures[space, self._canonical[space, row["architecture"]]]

    def learn_architectures(self, rows: Iterable[tuple[int, Row]]) -> None:
        """Make the architectures of numbered rows known, those of isomorphic cells as one.

        Raises:
            InputError: an unknown space, or no architecture of it.
        """
        wanted: dict[tuple[str, str], None] = {}
        for number, row in rows:
            given = (row["space"], row["architecture"])
            if given not in self._canonical:
                try:
                    space = SPACES.get(row["space"])
                    cell = space.canonical(space.parse(row["architecture"]))
                except InputError as error:
                    raise InputError(f"Row {number}: {error}") from error
                self._canonical[given] = space.format(cell)
            found = (row["space"], self._canonical[given])
            if found not in self._architectures:
                wanted[found] = None
        columns = (ARCHITECTURES.c.space, ARCHITECTURES.c.canonical, ARCHITECTURES.c.id)
        for name in {space for space, _ in wanted}:
            self._keep_architectures(
                select(*columns).where(
                    columns[0] == name, columns[1].in_([c for space, c in wanted if space == name])
                )
            )
        new = [{"space": s, "canonical": c} for s, c in wanted if (s, c) not in self._architectures]
        if new:
            self._keep_architectures(ARCHITECTURES.insert().returning(*columns), new)

    def _keep_architectures(self, statement: Executable, *values: Any) -> None:
        found = self._connection.execute(statement, *values)
        self._architectures |= {(row[0], row[1]): row[2] for row in found}
