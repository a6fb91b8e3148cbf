"""Which architectures a task is measured on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from database.tasks import seeded
from metad2a.errors import InputError
from metad2a.spaces import Architecture, SearchSpace

_POOL = 4096  # networks drawn of a space that cannot be enumerated
_GOLDEN = (5**0.5 - 1) / 2


@lru_cache(maxsize=1)
def _candidates(space: SearchSpace) -> tuple[np.ndarray, np.ndarray]:
    """Return int (n, slots) distinct connected networks, and their int (n,) parameters.

    All that there are, or, in a space too large for that, a sample that is always the same.
    """
    try:
        cells = space.distinct()
    except InputError:
        cells = _pool(space)
    return cells, space.costs(cells, classes=10)[:, 0]


def _pool(space: SearchSpace) -> np.ndarray:
    rng = seeded("pool", space.name)
    drawn = space.as_array(
        list(dict.fromkeys(space.canonical(space.sample(rng)) for _ in range(_POOL)))
    )
    connected: np.ndarray = drawn[space.connected(drawn)]
    return connected


def choose(space: SearchSpace, count: int, seed: int, key: str) -> list[Architecture]:
    """Return ``count`` distinct, connected, canonical architectures for the task with ``key``.

    However many are taken from the front, they are spread evenly over the space's parameter
    counts: ordered by parameters, ties at random, they are visited at steps of the golden ratio.
    A larger ``count`` only appends; never more than the space, or its
    sample, holds.
    """
    cells, params = _candidates(space)
    rng = seeded("architectures", seed, key)
    order = np.lexsort((rng.random(len(cells)), params))
    start = rng.random()
    chosen: dict[int, None] = {}
    step = 0
    while len(chosen) < min(count, len(cells)):
        chosen.setdefault(int((start + step * _GOLDEN) % 1 * len(cells)))
        step += 1
    return [tuple(cells[order[place]].tolist()) for place in chosen]
