"""How much a store holds, and how far its builds are: by state, rate, failures and time to go."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from statistics import fmean
from typing import Any

from sqlalchemy import Connection, Row, func, select

from database.schema import (
    ARCHITECTURES,
    BUILDS,
    DATASETS,
    EVALUATIONS,
    FAILURES,
    JOBS,
    LATENCIES,
    PROTOCOLS,
    SCHEMA_VERSION,
    SOURCES,
    STATES,
    TASKS,
)
from database.store import Store

RECENT_MINUTES = 10
"""The rate is that of so many minutes."""
_SAMPLE = 200  # jobs done last that tell how long one takes


def status(store: Store) -> dict[str, Any]:
    """Return what is in the store, as counts.

    Keys: ``schema_version``, ``datasets``, ``tasks``, ``architectures``, ``evaluations``,
    ``latencies``, ``failures``, ``protocols`` and ``sources`` (name to number of
    evaluations), ``families`` (name to number of tasks), ``seconds`` (spent on measuring),
    ``bytes`` (of the store on disk) and ``builds`` (see :func:`progress`).

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
            dict(connection.execute(select(table.c.id, table.c.name)).all())
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


def progress(store: Store) -> list[dict[str, Any]]:
    """Return how far each build is, the newest first.

    Keys: ``name``, ``key``, ``created`` (UTC), ``driver`` (the last one's host, process and a
    random part), ``jobs`` (number by state; an expired lease counts as open), ``failed_tries``,
    ``per_minute`` (jobs done in the last ten minutes), ``seconds_to_go`` (None where nothing is
    in hand or none was done yet) and ``quarantined`` (labeller, number of jobs, an error).

    Raises:
        DatabaseError: the store cannot be read.
    """
    with store.reading() as connection:
        builds = connection.execute(select(BUILDS).order_by(BUILDS.c.id.desc())).all()
        return [_of(store, connection, build) for build in builds]


def _of(store: Store, connection: Connection, build: Row[Any]) -> dict[str, Any]:
    mine = JOBS.c.build_id == build.id
    now = store.now(connection)
    states: Counter[str] = Counter()
    to_do: Counter[str] = Counter()
    failed = 0
    for state, labeller, count, tries in connection.execute(
        select(JOBS.c.state, JOBS.c.labeller, func.count(), func.sum(JOBS.c.tries))
        .where(mine)
        .group_by(JOBS.c.state, JOBS.c.labeller)
    ):
        states[state] += count
        failed += tries
        if state in ("open", "leased"):
            to_do[labeller] += count
    expired: int = (
        connection.scalar(
            select(func.count()).where(mine, JOBS.c.state == "leased", JOBS.c.lease_until <= now)
        )
        or 0
    )
    states["leased"] -= expired
    states["open"] += expired
    since = now - timedelta(minutes=RECENT_MINUTES)
    recent: int = connection.scalar(select(func.count()).where(mine, JOBS.c.ended > since)) or 0
    return {
        "name": build.name,
        "key": build.key,
        "created": build.created.isoformat(" ", "seconds"),
        "driver": build.driver,
        "jobs": {state: states[state] for state in STATES},
        "failed_tries": failed,
        "per_minute": recent / RECENT_MINUTES,
        "seconds_to_go": _to_go(connection, build.id, to_do, states["leased"]),
        "quarantined": [
            dict(row)
            for row in connection.execute(
                select(
                    JOBS.c.labeller,
                    func.count().label("jobs"),
                    func.max(JOBS.c.error).label("error"),
                )
                .where(mine, JOBS.c.state == "quarantined")
                .group_by(JOBS.c.labeller)
            ).mappings()
        ],
    }


def _to_go(connection: Connection, build: int, to_do: Counter[str], in_hand: int) -> float | None:
    """Return the seconds that the rest takes at the present pace, by what each labeller took."""
    if not to_do:
        return 0.0
    last = connection.execute(
        select(JOBS.c.labeller, JOBS.c.seconds)
        .where(JOBS.c.build_id == build, JOBS.c.ended.is_not(None))
        .order_by(JOBS.c.ended.desc())
        .limit(_SAMPLE)
    ).all()
    if not last or not in_hand:
        return None
    took: dict[str, list[float]] = defaultdict(list)
    for labeller, seconds in last:
        took[labeller].append(seconds)
    usual = fmean(seconds for _, seconds in last)
    rest = sum(count * fmean(took.get(name, [usual])) for name, count in to_do.items())
    return rest / in_hand
