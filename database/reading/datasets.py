"""Looking things up: the best architectures of a dataset, and what is stored of each dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, func, select

from database.schema import ARCHITECTURES, DATASETS, EVALUATIONS, PROTOCOLS, TASKS
from database.store import Store
from metad2a.errors import InputError
from metad2a.registry import suggest_name

SHORTEST_PREFIX = 6
"""Digits of a fingerprint, or more, that can stand for it."""


@dataclass(frozen=True)
class Ranked:
    """How an architecture did on a dataset under one protocol.

    Attributes:
        protocol: what was measured.
        rank: 1 is the best of the protocol.
        space: search space of the architecture.
        architecture: its canonical string.
        gain: mean over tasks of what it had above the mean of all architectures measured on the
            task. Architectures are ranked by it, as each was measured on tasks of its own, some
            easier than others.
        mean: mean over tasks of its mean over seeds; an accuracy is a fraction 0..1.
        tasks: number of tasks it was measured on.
        evaluations: number of values.
    """

    protocol: str
    rank: int
    space: str
    architecture: str
    gain: float
    mean: float
    tasks: int
    evaluations: int


@dataclass(frozen=True)
class Held:
    """What is stored of a dataset. ``evaluations``: name of a protocol to number of values."""

    name: str
    family: str
    fingerprint: str
    images: int
    classes: int
    tasks: int
    evaluations: dict[str, int]


def top(store: Store, dataset: str, protocol: str | None = None, k: int = 10) -> list[Ranked]:
    """Return the best architectures of a dataset: up to ``k`` a protocol, protocols by name.

    Args:
        store: the database.
        dataset: its name, or the beginning of its fingerprint.
        protocol: the one that counts; each one on its own where None.
        k: how many of a protocol.

    Raises:
        InputError: a name is unknown or ambiguous, or ``k`` is below 1.
        DatabaseError: the store cannot be read.
    """
    if k < 1:
        raise InputError(f"k={k} architectures cannot be listed; ask for 1 or more.")
    with store.reading() as connection:
        number = find_dataset(connection, dataset).id
        # Not a join: so SQLite enters the index by the task, whatever else is asked, and finds the
        # rows in order.
        place = (EVALUATIONS.c.task_id, EVALUATIONS.c.protocol_id, EVALUATIONS.c.architecture_id)
        own = select(TASKS.c.id).where(TASKS.c.dataset_id == number)
        query = select(*place, EVALUATIONS.c.value).where(EVALUATIONS.c.task_id.in_(own))
        if protocol is not None:
            query = query.where(EVALUATIONS.c.protocol_id == _protocol(connection, protocol))
        # In parts: so many tuples at once would set Python's garbage collector to work.
        parts = [
            [np.array(column) for column in zip(*part, strict=True)]
            for part in connection.execute(query.order_by(*place)).partitions(500)
        ]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        best = _best(columns, k) if parts else []
        names = _names(connection)
        cells = {
            row.id: row
            for row in connection.execute(
                select(ARCHITECTURES).where(ARCHITECTURES.c.id.in_({one[2] for one in best}))
            )
        }
    found = [
        Ranked(names[one], rank, cells[cell].space, cells[cell].canonical, *rest)
        for one, rank, cell, *rest in best
    ]
    return sorted(found, key=lambda one: (one.protocol, one.rank))


def _best(columns: Sequence[np.ndarray], k: int) -> list[tuple[Any, ...]]:
    """Return (protocol id, rank, architecture id, gain, mean, tasks, evaluations) of the best.

    In numpy, as SQLite takes several times as long to group rows twice and rank them.

    Args:
        columns: int (n,) ids of tasks, protocols and architectures in their order, and float (n,)
            values; n > 0.
        k: how many of a protocol.
    """
    task, protocol, cell, value = columns
    seeds, counts = _runs(task, protocol, cell)
    task, protocol, cell = (x[seeds] for x in (task, protocol, cell))
    value = np.add.reduceat(value, seeds) / counts
    on_task, many = _runs(task, protocol)
    above = value - np.repeat(np.add.reduceat(value, on_task) / many, many)

    order = np.lexsort((cell, protocol))
    protocol, cell, value, above, counts = (
        x[order] for x in (protocol, cell, value, above, counts)
    )
    starts, tasks = _runs(protocol, cell)
    protocol, cell = protocol[starts], cell[starts]
    gain, mean = (np.add.reduceat(x, starts) / tasks for x in (above, value))
    counts = np.add.reduceat(counts, starts)

    found = []
    for number in np.unique(protocol):
        own = np.flatnonzero(protocol == number)
        own = own[np.lexsort((-mean[own], -gain[own]))][:k]
        parts = (x[own].tolist() for x in (protocol, cell, gain, mean, tasks, counts))
        found += [
            (one, rank, *rest) for rank, (one, *rest) in enumerate(zip(*parts, strict=True), 1)
        ]
    return found


def _runs(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return int (runs,) starts and lengths of the runs of equal keys, int (n,) each, n > 0."""
    changed = np.any([np.diff(key) != 0 for key in keys], axis=0)
    starts = np.concatenate([[0], np.flatnonzero(changed) + 1])
    return starts, np.diff(starts, append=len(keys[0]))


def datasets(store: Store) -> list[Held]:
    """Return what is stored of every dataset, by name.

    Raises:
        DatabaseError: the store cannot be read.
    """
    with store.reading() as connection:
        found = connection.execute(select(DATASETS).order_by(DATASETS.c.name, DATASETS.c.id)).all()
        tasks: dict[int, int] = dict(
            connection.execute(
                select(TASKS.c.dataset_id, func.count()).group_by(TASKS.c.dataset_id)
            ).all()
        )
        names = _names(connection)
        # Counted in the order of an index first.
        place = (EVALUATIONS.c.protocol_id, EVALUATIONS.c.task_id)
        counts = select(*place, func.count().label("n")).group_by(*place).subquery()
        values: dict[int, dict[str, int]] = defaultdict(dict)
        for dataset, protocol, count in connection.execute(
            select(TASKS.c.dataset_id, counts.c.protocol_id, func.sum(counts.c.n))
            .join_from(counts, TASKS, counts.c.task_id == TASKS.c.id)
            .group_by(TASKS.c.dataset_id, counts.c.protocol_id)
        ):
            values[dataset][names[protocol]] = int(count)  # a Decimal on PostgreSQL
    return [
        Held(
            one.name,
            one.family,
            one.fingerprint,
            one.images,
            one.classes,
            tasks.get(one.id, 0),
            dict(sorted(values[one.id].items())),
        )
        for one in found
    ]


def find_dataset(connection: Connection, text: str) -> Row[Any]:
    """Return the row of the dataset with a name, or whose fingerprint begins so.

    Raises:
        InputError: there is none, or there are several.
    """
    rows = connection.execute(select(DATASETS).where(DATASETS.c.name == text)).all()
    if not rows and len(text) >= SHORTEST_PREFIX:
        beginning = DATASETS.c.fingerprint.startswith(text.lower(), autoescape=True)
        rows = connection.execute(select(DATASETS).where(beginning)).all()
    if not rows:
        known = list(
            connection.scalars(select(DATASETS.c.name).distinct().order_by(DATASETS.c.name))
        )
        raise InputError(
            f"No dataset in the database is called {text[:100]!r}, nor does a "
            f"fingerprint begin so.{suggest_name(text, known)}"
        )
    if len(rows) > 1:
        listed = ", ".join(f"{row.name} {row.fingerprint[:12]}" for row in rows[:5])
        raise InputError(
            f"{text[:100]!r} stands for {len(rows)} datasets: {listed}. Give more "
            "digits of the fingerprint."
        )
    return rows[0]


def _protocol(connection: Connection, name: str) -> int:
    ids = {known: number for number, known in _names(connection).items()}
    if name not in ids:
        raise InputError(
            f"No protocol in the database is called {name[:100]!r}.{suggest_name(name, list(ids))}"
        )
    return ids[name]


def _names(connection: Connection) -> dict[int, str]:
    """Return the protocols' names, in their order, by id."""
    return dict(
        connection.execute(
            select(PROTOCOLS.c.id, PROTOCOLS.c.name).order_by(PROTOCOLS.c.name)
        ).all()
    )
