"""The rank sum of several evaluators.

Ranks make scores of any unit comparable. Angle and re-calibrated accuracy together rank better
than either alone in the arrays published with Hu et al., "Angle-based Search Space Shrinking for
Neural Architecture Search" (ABS), ECCV 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metad2a.spaces import Architecture
from search.evaluators import Evaluator


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return float64 (n,) ranks of float (n,) values, 1 for the least; ties share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


class RankSum(Evaluator):
    """Adds up the ranks that other evaluators give; each architecture is scored by them once."""

    relative = True

    def __init__(self, evaluators: Sequence[Evaluator]) -> None:
        self.evaluators = tuple(evaluators)
        self._known: dict[Architecture, np.ndarray] = {}

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) sums of ranks among ``architectures``."""
        new = list(dict.fromkeys(a for a in architectures if a not in self._known))
        if new:
            parts = np.stack([part.score(new) for part in self.evaluators], axis=1)
            self._known.update(zip(new, parts, strict=True))
        total = np.zeros(len(architectures))
        for column in range(len(self.evaluators)):
            total += average_ranks(np.array([self._known[a][column] for a in architectures]))
        return total
