"""Evaluators: scores that rank architectures without training each; one file each.

``evaluator("rebn", context)`` makes one; names joined by ``+`` make their rank sum.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from metad2a.errors import InputError
from metad2a.registry import Registry
from metad2a.spaces import Architecture, WeightSharing
from metad2a.training.device import DevicePlan
from search.data import TaskData


class Evaluator(ABC):
    """Scores architectures; higher is better."""

    relative: bool = False
    """Whether scores depend on the other architectures of the same call."""

    @abstractmethod
    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) scores, never NaN; ``-inf`` where an architecture has none."""


@dataclass(frozen=True)
class SharedWeights:
    """A supernet as it is, and as it was at its base time (the angle's W0)."""

    network: nn.Module
    initial: nn.Module
    plan: DevicePlan


@dataclass(frozen=True)
class Context:
    """What an evaluator may draw on."""

    space: WeightSharing
    data: TaskData
    supernet: SharedWeights | None = None
    """Needed by the evaluators that read shared weights."""
    device: str = "cpu"
    seed: int = 0
    images: int | None = None
    """Most images of either side that may pass for one architecture, where time is short; as many
    as an evaluator takes where None."""

    def trained(self) -> SharedWeights:
        """Return the supernet.

        Raises:
            InputError: there is none.
        """
        if self.supernet is None:
            raise InputError(
                "This evaluator reads shared weights and the context has no supernet: "
                "train one with search.search, or use a "
                "training-free evaluator such as 'naswot'."
            )
        return self.supernet


EVALUATORS: Registry[Callable[[Context], Evaluator]] = Registry("evaluator", "search.scores")
"""Evaluator classes by name."""


def evaluator(names: str, context: Context) -> Evaluator:
    """Make an evaluator by name, or the rank sum of several (``"angle+rebn"``).

    Raises:
        InputError: a name is unknown, or the context lacks what the evaluator needs.
    """
    parts = [EVALUATORS.get(name)(context) for name in names.split("+")]
    return parts[0] if len(parts) == 1 else RankSum(parts)


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Return float64 (n,) ranks of float (n,) values, 1 for the least; ties share their mean."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks


class RankSum(Evaluator):
    """Adds up the ranks that other evaluators give; each architecture is scored by them once.

    Ranks make scores of any unit comparable. Angle and re-calibrated accuracy together rank better
    than either alone in the arrays published with Hu et al., "Angle-based Search Space Shrinking
    for Neural Architecture Search" (ABS), ECCV 2020.
    """

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
