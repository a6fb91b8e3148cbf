"""How alike two protocols rank the same architectures."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from sqlalchemy import func, select

from database.schema import EVALUATIONS, PROTOCOLS
from database.store import Store
from search.scores.base import average_ranks

SHARED = 5
"""Architectures that two protocols must share on a task for their ranks to be compared."""


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of two protocols.

    ``spearman``: the mean over ``tasks`` tasks, weighted by shared architectures, of which there
    are ``shared`` in all.
    """

    spearman: float
    tasks: int
    shared: int


def agreement(store: Store) -> dict[tuple[str, str], Agreement]:
    """Compare all pairs of protocols, the names of a pair in alphabetical order.

    A task on which two share fewer than :data:`SHARED` architectures says nothing of them, nor does
    one on which all have the same value; a pair without any other task is left out.

    Raises:
        DatabaseError: the store cannot be read.
    """
    own = (EVALUATIONS.c.task_id, PROTOCOLS.c.name, EVALUATIONS.c.architecture_id)
    tasks: dict[int, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    with store.reading() as connection:
        for task, protocol, architecture, value in connection.execute(
            select(*own, func.avg(EVALUATIONS.c.value))
            .join_from(EVALUATIONS, PROTOCOLS, EVALUATIONS.c.protocol_id == PROTOCOLS.c.id)
            .group_by(*own)
        ):
            tasks[task][protocol][architecture] = value
    pairs: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for protocols in tasks.values():
        for first, second in combinations(sorted(protocols), 2):
            one, other = protocols[first], protocols[second]
            shared = [architecture for architecture in one if architecture in other]
            ranks = np.stack(
                [average_ranks(np.array([side[a] for a in shared])) for side in (one, other)]
            )
            if len(shared) >= SHARED and (np.ptp(ranks, axis=1) > 0).all():
                pairs[first, second].append((float(np.corrcoef(ranks)[0, 1]), len(shared)))
    return {
        pair: Agreement(
            float(np.average([r for r, _ in found], weights=[n for _, n in found])),
            len(found),
            sum(n for _, n in found),
        )
        for pair, found in sorted(pairs.items())
    }
