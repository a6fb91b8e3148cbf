"""The measured tables in plain form: names where the store has numbers, one mapping a row.

Exports, imports and merges all speak it, so that a row means the same in a file, in another
database and in a published table.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, select

from database.schema import (
    ARCHITECTURES,
    DATASETS,
    EVALUATIONS,
    LATENCIES,
    PROTOCOLS,
    SOURCES,
    TASKS,
)
from database.store import Store
from metad2a.errors import InputError
from metad2a.registry import suggest_name

Row = Mapping[str, Any]
"""One row: name of a column to its value."""

_SOURCE = {"source": "word", "licence": "word", "url": "word"}

FORMAT_KEY, TABLE_KEY = "metad2a_format", "metad2a_table"
"""Under which a file says of which format it is, and which table it holds."""
TABLES: Mapping[str, Mapping[str, str]] = {
    "tasks": {
        "task": "text",
        "name": "text",
        "dataset": "word",
        "fingerprint": "word",
        "family": "word",
        "form": "word",
        "dataset_images": "integer",
        "dataset_classes": "integer",
        "dataset_resolution": "integer",
        "resolution": "integer",
        "train_images": "integer",
        "test_images": "integer",
        "classes": "integers",
        "train": "integers",
        "test": "integers",
    },
    "evaluations": {
        "dataset": "word",
        "family": "word",
        "task": "word",
        "classes": "integer",
        "train_images": "integer",
        "resolution": "integer",
        "space": "word",
        "architecture": "word",
        "protocol": "word",
        "kind": "word",
        "description": "word",
        "seed": "integer",
        "value": "number",
        "seconds": "number",
        "curve": "numbers",
        "device": "word",
        "versions": "word",
        "created": "time",
        **_SOURCE,
    },
    "latencies": {
        "space": "word",
        "architecture": "word",
        "device": "word",
        "batch": "integer",
        "resolution": "integer",
        "milliseconds": "number",
        **_SOURCE,
    },
}
"""Table to column to kind of value, in the order in which tables can be read in. A "word" is a
text that recurs; the rest of the kinds are those of :func:`checked`."""


@dataclass(frozen=True)
class Sources:
    """Which rows are meant, by the name of their source: all, only some, or all but some."""

    only: Collection[str] = ()
    exclude: Collection[str] = ()

    def __bool__(self) -> bool:
        return bool(self.only or self.exclude)

    def check(self, store: Store) -> None:
        """Refuse a name that the store does not hold.

        Raises:
            InputError: there is no such source; the message offers the nearest name.
        """
        with store.reading() as connection:
            known = sorted(connection.scalars(select(SOURCES.c.name)))
        for name in (*self.only, *self.exclude):
            if name not in known:
                raise InputError(f"The database has no source {name!r}.{suggest_name(name, known)}")

    def condition(self) -> ColumnElement[bool]:
        """Return the condition on a joined table of sources."""
        meant = SOURCES.c.name.not_in(self.exclude)
        return meant & SOURCES.c.name.in_(self.only) if self.only else meant


ALL_SOURCES = Sources()


def stored_rows(store: Store, table: str, sources: Sources = ALL_SOURCES) -> Iterator[Row]:
    """Yield the rows of a table of :data:`TABLES` from sources that are meant, in a fixed order.

    Tasks are those with an evaluation from such a source, or all where every source is meant.
    Distances have no source, and are all meant.
    """
    with store.reading() as connection:
        found = connection.execute(_QUERIES[table](sources), execution_options={"yield_per": 1000})
        for row in found.mappings():
            plain = dict(row)
            if table == "tasks":
                plain |= plain.pop("definition")
            yield cast(Row, plain)


def checked(table: str, lines: Iterable[Row], origin: str) -> Iterator[Row]:
    """Yield rows whose values are of the kinds that the table's columns have.

    Args:
        table: one of :data:`TABLES`.
        lines: rows as a file gave them, with all columns.
        origin: named in errors, with the number of the row (from 1).

    Raises:
        InputError: a value of another kind.
    """
    columns = [(name, *_KINDS[kind]) for name, kind in TABLES[table].items()]
    for number, line in enumerate(lines, 1):
        plain = dict(line)
        for name, wanted, read in columns:
            try:
                plain[name] = read(plain[name])
            except (TypeError, ValueError):
                raise InputError(
                    f"{origin}, row {number}: column {name!r} holds {str(line[name])[:100]!r}, "
                    f"which is not {wanted}. Write the file again with `metad2a db export`."
                ) from None
        yield plain


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise TypeError
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError
    return float(value)


def _list(of: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    def read(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise TypeError
        return [of(one) for one in value]

    return read


def _time(value: Any) -> datetime:
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment.astimezone(UTC)


_KINDS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "word": ("a text", _text),
    "text": ("a text", _text),
    "integer": ("a whole number", _integer),
    "number": ("a number", _number),
    "integers": ("a list of whole numbers", _list(_integer)),
    "numbers": ("a list of numbers", _list(_number)),
    "time": ("a time such as 2025-01-31T12:00:00+00:00", _time),
}

_ORIGIN = (SOURCES.c.name.label("source"), SOURCES.c.licence, SOURCES.c.url)


def _tasks(sources: Sources) -> Select[Any]:
    query = (
        select(
            TASKS.c.key.label("task"),
            TASKS.c.name,
            DATASETS.c.name.label("dataset"),
            DATASETS.c.fingerprint,
            DATASETS.c.family,
            DATASETS.c.form,
            DATASETS.c.images.label("dataset_images"),
            DATASETS.c.classes.label("dataset_classes"),
            DATASETS.c.resolution.label("dataset_resolution"),
            TASKS.c.n_train.label("train_images"),
            TASKS.c.n_test.label("test_images"),
            TASKS.c.definition,
        )
        .join(DATASETS)
        .order_by(DATASETS.c.name, TASKS.c.name, TASKS.c.key)
    )
    if not sources:
        return query
    return query.where(
        TASKS.c.id.in_(select(EVALUATIONS.c.task_id).join(SOURCES).where(sources.condition()))
    )


def _evaluations(sources: Sources) -> Select[Any]:
    return (
        select(
            DATASETS.c.name.label("dataset"),
            DATASETS.c.family,
            TASKS.c.key.label("task"),
            TASKS.c.n_classes.label("classes"),
            TASKS.c.n_train.label("train_images"),
            TASKS.c.definition["resolution"].as_integer().label("resolution"),
            ARCHITECTURES.c.space,
            ARCHITECTURES.c.canonical.label("architecture"),
            PROTOCOLS.c.name.label("protocol"),
            EVALUATIONS.c.kind,
            PROTOCOLS.c.description,
            *(
                EVALUATIONS.c[name]
                for name in ("seed", "value", "seconds", "curve", "device", "versions", "created")
            ),
            *_ORIGIN,
        )
        .join_from(EVALUATIONS, TASKS)
        .join(DATASETS)
        .join(ARCHITECTURES)
        .join(SOURCES)
        .join(PROTOCOLS, EVALUATIONS.c.protocol_id == PROTOCOLS.c.id)
        .where(sources.condition())
        .order_by(
            DATASETS.c.name,
            TASKS.c.name,
            TASKS.c.key,
            PROTOCOLS.c.name,
            EVALUATIONS.c.seed,
            ARCHITECTURES.c.space,
            ARCHITECTURES.c.canonical,
        )
    )


def _latencies(sources: Sources) -> Select[Any]:
    return (
        select(
            ARCHITECTURES.c.space,
            ARCHITECTURES.c.canonical.label("architecture"),
            *(LATENCIES.c[name] for name in ("device", "batch", "resolution", "milliseconds")),
            *_ORIGIN,
        )
        .join_from(LATENCIES, ARCHITECTURES)
        .join(SOURCES)
        .where(sources.condition())
        .order_by(
            SOURCES.c.name,
            LATENCIES.c.device,
            LATENCIES.c.batch,
            LATENCIES.c.resolution,
            ARCHITECTURES.c.space,
            ARCHITECTURES.c.canonical,
        )
    )


_QUERIES: Mapping[str, Callable[[Sources], Select[Any]]] = {
    "tasks": _tasks,
    "evaluations": _evaluations,
    "latencies": _latencies,
}
