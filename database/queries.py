"""What a store holds: counts of it, and all evaluations and tasks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import func, select

from database._rows import ALL_SOURCES, rows
from database.progress import progress
from database.schema import (
    ARCHITECTURES,
    DATASETS,
    EVALUATIONS,
    FAILURES,
    LATENCIES,
    PROTOCOLS,
    SCHEMA_VERSION,
    SOURCES,
    TASKS,
)
from database.store import Store


def status(store: Store) -> dict[str, Any]:
    """Return what is in the store, as counts.

    Keys: ``schema_version``, ``datasets``, ``tasks``, ``architectures``, ``evaluations``,
    ``latencies``, ``failures``, ``protocols`` and ``sources`` (name to number of
    evaluations), ``families`` (name to number of tasks), ``seconds`` (spent on measuring),
    ``bytes`` (of the store on disk) and ``builds`` (see ``database.progress``).

    Raises:
        DatabaseError: the store cannot be read.
    """
    with store.reading() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table))
            for table in (DATASETS, TASKS, ARCHITECTURES, LATENCIES, FAILURES)
        }
        families = Counter(
            connection.scalars(select(DATASETS.c.family).join(TASKS).order_by(DATASETS.c.family))
        )
        protocols, sources = (
            dict(connection.execute(select(table.c.id, table.c.name)).tuples().all())
            for table in (PROTOCOLS, SOURCES)
        )
        # One pass over the largest table answers the rest.
        parts = connection.execute(
            select(
                EVALUATIONS.c.protocol_id,
                EVALUATIONS.c.source_id,
                func.count(),
                func.sum(EVALUATIONS.c.seconds),
            ).group_by(EVALUATIONS.c.protocol_id, EVALUATIONS.c.source_id)
        ).all()
    of_protocol = dict.fromkeys(sorted(protocols.values()), 0)
    of_source = dict.fromkeys(sorted(sources.values()), 0)
    for protocol, source, count, _ in parts:
        of_protocol[protocols[protocol]] += count
        of_source[sources[source]] += count
    return {
        "schema_version": SCHEMA_VERSION,
        **counts,
        "evaluations": sum(of_protocol.values()),
        "protocols": of_protocol,
        "sources": of_source,
        "families": dict(families),
        "seconds": float(sum(seconds for *_, seconds in parts)),
        "bytes": store.size(),
        "builds": progress(store),
    }


def evaluations(store: Store) -> Iterator[Mapping[str, Any]]:
    """Yield every evaluation with its task, architecture, protocol and source, in a fixed order.

    The keys are the columns of an export.
    """
    return rows(store, "evaluations", ALL_SOURCES)


def tasks(store: Store) -> Iterator[Mapping[str, Any]]:
    """Yield every task with its dataset and definition, in a fixed order.

    The keys are the columns of an export.
    """
    return rows(store, "tasks", ALL_SOURCES)
