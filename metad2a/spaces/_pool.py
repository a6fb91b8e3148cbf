"""Members of a space spread evenly over the logarithm of their multiply-adds.

Members drawn at random crowd around the middle of a space's costs. Here they are also varied
towards the costs at which few were found, until each part of the range has its share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metad2a.spaces.base import Architecture, SearchSpace

_BINS = 64
"""Most parts of the range of costs that are filled alike."""
_ROUNDS = 16
"""Rounds of variation towards parts that lack members..."""
_MOST_ROUNDS = 64
"""...and as many while there are fewer members within the limits than wanted."""
_GOLDEN = (5**0.5 - 1) / 2
_BEYOND = 1.0
"""How far beyond the dearest member found dearer ones are looked for, in logarithms of MACs."""
_PARENTS = 8
"""Members nearest to a part, one of which is varied to get into it."""
_STEPS = 3
"""Most mutations between a parent and what is tried."""


def spread_pool(
    space: SearchSpace,
    n: int,
    rng: np.random.Generator,
    classes: int,
    max_params: int | None,
    max_macs: int | None,
) -> list[Architecture]:
    """Return distinct canonical members within the limits; see ``SearchSpace.pool``.

    However many are taken from the front, they are spread over the range.
    """
    limits = np.array([np.inf if limit is None else limit for limit in (max_params, max_macs)])
    members = space.listed()
    if members is None:
        search = _Search(space, n, rng, classes, limits)
        search.run()
        members, costs = np.array(list(search.costs)), np.array(list(search.costs.values()))
    else:
        costs = space.costs(members, classes)
    good = (costs <= limits).all(1)
    if not good.any():
        return []
    order = _spread(np.log(costs[good, 1]), n, rng)
    return [tuple(row) for row in members[good][order].tolist()]


def _parts(values: np.ndarray, low: float, high: float, bins: int) -> np.ndarray:
    """Return int (n,): the part of low..high, of ``bins`` equal ones, that each value lies in."""
    scaled = (values - low) / max(high - low, 1e-12) * bins
    parts: np.ndarray = np.floor(scaled).clip(0, bins - 1).astype(np.int64)
    return parts


def _spread(values: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return the places of ``n`` of float values, taken from all parts of their range in turn.

    A turn visits the parts at steps of the golden ratio, so that what it began with is spread too.
    """
    bins = min(n, _BINS)
    parts = _parts(values, values.min(), values.max(), bins)
    visited = (rng.random() + np.arange(bins) * _GOLDEN) % 1
    luck = rng.random(len(values))
    order = np.lexsort((luck, parts))
    _, first, sizes = np.unique(parts[order], return_index=True, return_counts=True)
    turn = np.empty(len(values), dtype=np.int64)
    turn[order] = np.arange(len(values)) - np.repeat(first, sizes)
    chosen: np.ndarray = np.lexsort((luck, visited[parts], turn))[:n]
    return chosen


def _smallest(values: np.ndarray, n: int) -> np.ndarray:
    """Return the places of the ``n`` smallest values in their order, of equal ones the first."""
    if len(values) <= n:
        return np.argsort(values, kind="stable")
    places = np.flatnonzero(values <= np.partition(values, n - 1)[n - 1])
    return places[np.argsort(values[places], kind="stable")][:n]


class _Search:
    """Members found so far of a space that cannot be listed, and their costs."""

    def __init__(
        self,
        space: SearchSpace,
        n: int,
        rng: np.random.Generator,
        classes: int,
        limits: np.ndarray,
    ) -> None:
        self.space, self.n, self.rng, self.classes = space, n, rng, classes
        self.limits = limits
        self.costs: dict[Architecture, tuple[int, int]] = {}

    def _add(self, tried: list[Architecture]) -> None:
        new = [one for one in dict.fromkeys(tried) if one not in self.costs]
        if new:
            rows = np.array(new)
            costs = self.space.costs(rows, self.classes).tolist()
            for one, cost, good in zip(new, costs, self.space.valid(rows), strict=True):
                if good:
                    self.costs[one] = (cost[0], cost[1])

    def run(self) -> None:
        """Draw, then vary towards the parts that lack members."""
        self._add([self.space.canonical(self.space.sample(self.rng)) for _ in range(self.n + 64)])
        for turn in range(_MOST_ROUNDS):
            good = self._good()
            targets = self._targets(good)
            if not targets or (turn >= _ROUNDS and len(good) >= self.n):
                return
            members = list(self.costs)
            logs = np.log(np.array(list(self.costs.values()), dtype=np.float64))
            over = np.maximum(logs - np.log(self.limits), 0).sum(1)
            tried = []
            for target, count in targets:
                nearest = _smallest(np.abs(logs[:, 1] - target) + over, _PARENTS)
                for parent in self.rng.choice(nearest, count):
                    one = members[parent]
                    for _ in range(self.rng.integers(1, _STEPS + 1)):
                        one = self.space.mutate(one, self.rng)
                    tried.append(self.space.canonical(one))
            self._add(tried)

    def _good(self) -> np.ndarray:
        """Return float (n,) log MACs of the members within the limits."""
        costs = np.array(list(self.costs.values()), dtype=np.float64)
        logs: np.ndarray = np.log(costs[(costs <= self.limits).all(1), 1])
        return logs

    def _targets(self, good: np.ndarray) -> list[tuple[float, int]]:
        """Return log MACs that lack members, and how many to try for each."""
        low = np.log(self.space.smallest(self.classes).macs)
        high = max(good.max(initial=low), low + 1e-6)
        bins = min(self.n, _BINS)
        lacking = np.ceil(self.n / bins) - np.bincount(
            _parts(good, low, high, bins), minlength=bins
        )
        centres = low + (np.arange(bins) + 0.5) * (high - low) / bins
        targets = [
            (float(centre), int(2 * lack))
            for centre, lack in zip(centres, lacking, strict=True)
            if lack > 0
        ]
        beyond = min(high + _BEYOND, np.log(self.limits[1]))
        if targets and beyond > high:
            targets.append((beyond, 2 * _PARENTS))
        return targets
