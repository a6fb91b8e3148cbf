"""Which architectures a task is measured on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from database.tasks import seeded
from metad2a.spaces import Architecture, SearchSpace

_POOL = 4096
"""Networks to choose among in a space that cannot be listed."""
_MACS = 130_000_000
"""Most multiply-adds of networks with a resolution of their own: EfficientNet-Lite0's at 128 px."""
_GOLDEN = (5**0.5 - 1) / 2


@lru_cache(maxsize=1)
def _candidates(space: SearchSpace) -> tuple[np.ndarray, np.ndarray]:
    """Return int (n, slots) distinct members, and their int (n,) parameters.

    All that there are, or, in a space too large for that, a sample that is always the same; in a
    space of networks with a resolution of their own, of those that a label can be had of in time.
    """
    cells = space.listed()
    if cells is None:
        limit = _MACS if space.pretrained else None
        cells = space.as_array(space.pool(_POOL, seeded("pool", space.name), max_macs=limit))
    return cells, space.costs(cells, classes=10)[:, 0]


def choose(space: SearchSpace, count: int, seed: int, key: str) -> list[Architecture]:
    """Return ``count`` distinct canonical architectures for the task with ``key``.

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
