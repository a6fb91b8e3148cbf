"""A multinomial distribution over the operations of each slot, learnt from what paths achieve.

Source: Zheng et al., "Multinomial Distribution Learning for Effective Neural Architecture Search"
(MdeNAS), ICCV 2019, in the form in which XNAS has its update.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metad2a.spaces import Architecture
from search.two_path import draw_path

_WINDOW = 20  # paths among which an accuracy is ranked


class Multinomial:
    """Probabilities of operations, with the visits and values that they are learnt from.

    Args:
        mask: bool (slots, operations), what is allowed at the start; probabilities begin equal.
        rate: probability that one comparison of two operations moves.
        raw: whether an operation's value is the accuracy of its last path. By default it is the
            mean, over its visits, of the path's rank among the latest paths.
    """

    def __init__(self, mask: np.ndarray, rate: float, raw: bool = False) -> None:
        self.rate, self.raw = rate, raw
        self.probabilities = mask / mask.sum(1, keepdims=True)
        self.visits = np.zeros(mask.shape, dtype=np.int64)
        self.values = np.zeros(mask.shape)
        self.recent: list[float] = []
        """Accuracies of the latest paths."""

    def allowed(self, mask: np.ndarray) -> np.ndarray:
        """Return float64 (slots, operations): the probabilities of what may still be used."""
        kept = np.where(mask, self.probabilities, 0.0)
        kept = np.where(kept.any(1, keepdims=True), kept, mask)  # all mass was on what is forbidden
        found: np.ndarray = kept / kept.sum(1, keepdims=True)
        return found

    def draw(self, mask: np.ndarray, rng: np.random.Generator) -> Architecture:
        """Draw a path of allowed operations."""
        return tuple(int(op) for op in draw_path(self.allowed(mask), rng).argmax(1))

    def record(self, path: Architecture, accuracy: float) -> None:
        """Take note of the accuracy (0..1) of a path."""
        self.recent = [*self.recent, accuracy][-_WINDOW:]
        taken = np.arange(len(path)), np.array(path)
        self.visits[taken] += 1
        if self.raw:
            self.values[taken] = accuracy
        else:
            self.values[taken] += (rank(self.recent) - self.values[taken]) / self.visits[taken]

    def learn(self) -> None:
        """Compare the operations of each slot in pairs, and move probability.

        Of two operations that were visited, the one that was visited no more often and has the
        greater value takes ``rate`` from the other, or all that this one has where it is less.
        """
        for p, visits, values in zip(self.probabilities, self.visits, self.values, strict=True):
            known = np.flatnonzero(visits)
            for i in known:
                for j in known:
                    if visits[i] <= visits[j] and values[i] > values[j]:
                        moved = min(self.rate, p[j])
                        p[i] += moved
                        p[j] -= moved

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold, as float64 and int64."""
        return {
            "probabilities": torch.from_numpy(self.probabilities.copy()),
            "visits": torch.from_numpy(self.visits.copy()),
            "values": torch.from_numpy(self.values.copy()),
            "recent": torch.tensor(self.recent, dtype=torch.float64),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        self.probabilities, self.visits, self.values = (
            tensors[name].numpy().copy() for name in ("probabilities", "visits", "values")
        )
        self.recent = tensors["recent"].tolist()


def rank(accuracies: list[float]) -> float:
    """Return the rank of the last accuracy among all of them, from 0 (worst) to 1 (best).

    Ties count half; one alone has the rank 0.5.
    """
    *others, last = accuracies
    below = sum((other < last) + 0.5 * (other == last) for other in others)
    return float(below / len(others)) if others else 0.5
