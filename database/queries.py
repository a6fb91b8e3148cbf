"""What a store holds: counts of it, and all rows for an export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, cast

from sqlalchemy import Select, func, select

from database.schema import (
    ARCHITECTURES,
    DATASETS,
    EVALUATIONS,
    FAILURES,
    PROTOCOLS,
    SCHEMA_VERSION,
    TASKS,
)
from database.store import Store

_OF_PROTOCOL = EVALUATIONS.c.protocol_id == PROTOCOLS.c.id


def status(store: Store) -> dict[str, Any]:
    """Return what is in the store, as counts.

    Keys: ``schema_version``, ``datasets``, ``tasks``, ``architectures``, ``evaluations``,
    ``failures``, ``protocols`` (name to number of evaluations), ``families`` (name to number of
    tasks), ``seconds`` (spent on measuring) and ``bytes`` (of the file and its
    write-ahead log).
    """
    with store.reading() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in (DATASETS, TASKS, ARCHITECTURES, EVALUATIONS, FAILURES)
        }
        protocols = connection.execute(
            select(PROTOCOLS.c.name, func.count(EVALUATIONS.c.id))
            .outerjoin(EVALUATIONS, _OF_PROTOCOL)
            .group_by(PROTOCOLS.c.name).order_by(PROTOCOLS.c.name))
        families = connection.scalars(
            select(DATASETS.c.family).join(TASKS).order_by(DATASETS.c.family))
        log = store.path.with_name(f"{store.path.name}-wal")
        seconds = connection.scalar(select(func.sum(EVALUATIONS.c.seconds)))
        return {
            "schema_version": SCHEMA_VERSION,
            **counts,
            "protocols": {row[0]: row[1] for row in protocols},
            "families": dict(Counter(families)),
            "seconds": seconds or 0.0,
            "bytes": sum(file.stat().st_size for file in (store.path, log) if file.exists()),
        }


def evaluations(store: Store) -> Iterator[Mapping[str, Any]]:
    """Yield every evaluation with its task, architecture and protocol, in a fixed order."""
    yield from _rows(
        store,
        select(
            DATASETS.c.name.label("dataset"), DATASETS.c.family, TASKS.c.key.label("task"),
            TASKS.c.n_classes.label("classes"), TASKS.c.n_train.label("train_images"),
            TASKS.c.definition["resolution"].as_integer().label("resolution"),
            ARCHITECTURES.c.space, ARCHITECTURES.c.canonical.label("architecture"),
            PROTOCOLS.c.name.label("protocol"), EVALUATIONS.c.kind, EVALUATIONS.c.seed,
            EVALUATIONS.c.value, EVALUATIONS.c.seconds, EVALUATIONS.c.curve,
            EVALUATIONS.c.device, EVALUATIONS.c.versions,
        )
        .join_from(EVALUATIONS, TASKS).join(DATASETS).join(ARCHITECTURES)
        .join(PROTOCOLS, _OF_PROTOCOL)
        .order_by(DATASETS.c.name, TASKS.c.name, TASKS.c.key, PROTOCOLS.c.name,
                  EVALUATIONS.c.seed, ARCHITECTURES.c.space, ARCHITECTURES.c.canonical),
    )


def tasks(store: Store) -> Iterator[Mapping[str, Any]]:
    """Yield every task with its dataset and definition, in a fixed order."""
    yield from _rows(
        store,
        select(
            TASKS.c.key.label("task"), TASKS.c.name, DATASETS.c.name.label("dataset"),
            DATASETS.c.fingerprint, DATASETS.c.family, TASKS.c.definition,
        )
        .join(DATASETS).order_by(DATASETS.c.name, TASKS.c.name, TASKS.c.key),
    )


def _rows(store: Store, query: Select[Any]) -> Iterator[Mapping[str, Any]]:
    with store.reading() as connection:
        for row in connection.execute(query).mappings():
            yield cast(Mapping[str, Any], row)
