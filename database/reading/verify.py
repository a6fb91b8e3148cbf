"""Verification: whether what is stored still is what the store promises.

A row that a constraint would refuse can be there nevertheless, if another program switched the
constraints off. What the rows must be is read from the schema itself, on either kind of server.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    CheckConstraint,
    Connection,
    ForeignKeyConstraint,
    Table,
    UniqueConstraint,
    and_,
    func,
    or_,
    select,
    text,
)

from database.schema import ARCHITECTURES, DATASETS, METADATA
from database.store import Store
from database.tasks import PUBLISHED
from metad2a.errors import InputError
from metad2a.spaces import SPACES

if TYPE_CHECKING:
    from sqlalchemy import Column, ColumnElement


@dataclass(frozen=True)
class Finding:
    """A fault: in which table and row (None: no one row), what is wrong, and what to do."""

    table: str
    id: int | None
    problem: str
    remedy: str


def verify(
    store: Store,
    data_folder: Path | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
) -> list[Finding]:
    """Look through all rows, and change nothing. Where the file itself is damaged, look no further.

    Args:
        store: the database.
        data_folder: holds one folder a dataset; if given, the images are compared with the
            fingerprints too, for which every file is read.
        progress: told of steps done, of all, and what comes next.

    Raises:
        InputError: ``data_folder`` is not a folder.
        DatabaseError: the store cannot be read.
    """
    if data_folder is not None and not data_folder.is_dir():
        raise InputError(
            f"{str(data_folder)!r} is not a folder. Give the one that holds a folder "
            "for each dataset."
        )
    tables = METADATA.sorted_tables
    with store.reading() as connection:
        datasets = connection.execute(select(DATASETS).order_by(DATASETS.c.name)).all()
        total = len(tables) + 2 + (0 if data_folder is None else len(datasets))
        progress(0, total, "the file")
        if found := list(_damage(connection)):
            return found  # a wrong index makes every query after it wrong
        for done, table in enumerate(tables, 1):
            progress(done, total, table.name)
            found += [*_refusable(connection, table), *_orphans(connection, table)]
        progress(len(tables) + 1, total, "isomorphism")
        found += _architectures(connection)
    for done, row in enumerate(datasets if data_folder else [], len(tables) + 2):
        progress(done, total, row.name)
        if row.fingerprint.startswith(PUBLISHED):  # nobody hands on their images
            continue
        found += _content(data_folder / row.name, row) if data_folder else []
    progress(total, total, "")
    return found


def _damage(connection: Connection) -> Iterator[Finding]:
    """Compare indexes with tables; a server reads with checks of its own."""
    if connection.dialect.name == "sqlite":
        # Constraints are looked at below, with the number of the row.
        told = ("CHECK constraint failed", "NULL value in", "non-unique entry")
        for (line,) in connection.exec_driver_sql("PRAGMA integrity_check"):
            if line != "ok" and not line.startswith(told):
                yield Finding(
                    "the file",
                    None,
                    line,
                    "Restore a backup; where only an index is "
                    "named, the SQL statement REINDEX mends it.",
                )


def _refusable(connection: Connection, table: Table) -> Iterator[Finding]:
    """Yield rows with an empty cell, against a check, or equal where no two rows may be."""
    rules: dict[str, ColumnElement[bool]] = {
        f"{column.name} is missing": column.is_(None)
        for column in table.columns
        if not column.nullable
    }
    for one in (*table.constraints, *(c for column in table.columns for c in column.constraints)):
        if isinstance(one, CheckConstraint):
            rules[f"it is not true that {one.sqltext}"] = text(f"NOT ({one.sqltext})")  # type: ignore[assignment]
    for problem, broken in rules.items():
        for number in connection.scalars(select(_key(table)).where(broken)):
            yield Finding(table.name, number, problem, _drop(table, number))
    for one in table.constraints:
        if isinstance(one, UniqueConstraint):
            same = select(func.min(_key(table)), func.max(_key(table))).group_by(*one.columns)
            for first, last in connection.execute(same.having(func.count() > 1)):
                names = ", ".join(column.name for column in one.columns)
                yield Finding(
                    table.name, last, f"its {names} are those of row {first}", _drop(table, last)
                )


def _orphans(connection: Connection, table: Table) -> Iterator[Finding]:
    """Yield rows that refer to a row that is not there."""
    for one in table.constraints:
        if isinstance(one, ForeignKeyConstraint):
            parent = one.referred_table.alias()
            pairs = [(key.parent, parent.c[key.column.name]) for key in one.elements]
            query = (
                select(_key(table), *one.columns)
                .join_from(
                    table, parent, and_(*(own == other for own, other in pairs)), isouter=True
                )
                .where(
                    or_(*(other.is_(None) for _, other in pairs)),
                    *(own.is_not(None) for own, _ in pairs),
                )
            )
            for number, *values in connection.execute(query):
                wanted = ", ".join(map(repr, values))
                yield Finding(
                    table.name,
                    number,
                    f"it refers to {wanted} in {one.referred_table.name}, which is gone",
                    _drop(table, number),
                )


def _architectures(connection: Connection) -> Iterator[Finding]:
    """Yield architectures that cannot be read, and isomorphic ones with rows of their own."""
    isomorphic: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    known = SPACES.names()
    for number, name, stored in connection.execute(
        select(ARCHITECTURES.c.id, ARCHITECTURES.c.space, ARCHITECTURES.c.canonical).order_by(
            ARCHITECTURES.c.id
        )
    ):
        if name not in known:
            yield Finding(
                ARCHITECTURES.name,
                number,
                f"its space {name[:100]!r} is unknown here ({', '.join(known)})",
                "Install the version of metad2a that has the space.",
            )
            continue
        space = SPACES.get(name)
        try:
            canonical = space.format(space.canonical(space.parse(stored)))
        except InputError as error:
            yield Finding(
                ARCHITECTURES.name,
                number,
                f"it is none of its space: {error}",
                "Install the version of metad2a that wrote it, or delete the row and "
                "those that refer to it.",
            )
        else:
            isomorphic[name, canonical].append((number, stored))
    for (_, canonical), rows in isomorphic.items():
        for number, stored in rows:
            others = [str(other) for other, _ in rows if other != number]
            if stored != canonical:
                same = f", as row {' and '.join(others)} is" if others else ""
                yield Finding(
                    ARCHITECTURES.name,
                    number,
                    f"{stored} is isomorphic to {canonical}{same}, under which it belongs",
                    "Export the database and import it into a new one, which brings them together.",
                )


def _content(folder: Path, row: Any) -> Iterator[Finding]:
    """Yield a dataset whose images are gone or are others."""
    from metad2a.datasets import load_dataset

    remedy = f"Restore the images in {str(folder)!r}, or delete the dataset's tasks and their rows."
    try:
        with load_dataset(folder) as dataset:
            actual = dataset.fingerprint()
    except InputError as error:
        yield Finding(DATASETS.name, row.id, f"{row.name} cannot be read: {error}", remedy)
    else:
        if actual != row.fingerprint:
            yield Finding(
                DATASETS.name,
                row.id,
                f"{row.name} has changed since its tasks were "
                f"drawn: fingerprint {actual}, not {row.fingerprint}",
                remedy,
            )


def _key(table: Table) -> Column[Any]:
    return next(iter(table.primary_key.columns))


def _drop(table: Table, number: Any) -> str:
    return (
        f"Restore a backup, or delete it: DELETE FROM {table.name} "
        f"WHERE {_key(table).name} = {number}."
    )
