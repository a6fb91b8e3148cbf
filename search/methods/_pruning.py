"""Progressive pruning: a supernet turns into one network, one slot after another.

Source: SSWP-NAS (2022), whose last phase freezes one part after another, in the order of the data's
flow, to its most probable operation, and whose export replaces skips and pools of which a cell has
more than two by the best operation with parameters.
"""

from __future__ import annotations

import numpy as np

from metad2a.spaces import Architecture, WeightSharing
from search.gradient.group_dropout import groups
from search.subspace.subspace import Subspace

_DECIDED = 50.0  # in log p: only a limit on costs may turn a decision
_MOST = 2  # skips, and pools, in each of them


class Pruning:
    """What was decided so far, about operations of a space with log-probabilities.

    Those are float64 (slots, operations) in all methods.
    """

    def __init__(self, space: WeightSharing) -> None:
        self.space = space
        self.frozen: list[int] = []
        """The operations of the slots from the first on."""
        self.replaced: list[int] = []
        """Slots whose skip or pool was one too many."""
        self._none = np.array([name == "none" for name in space.operations])
        self._parametric = groups(space.operations)[0]

    @property
    def complete(self) -> bool:
        """Whether all slots are frozen."""
        return len(self.frozen) == self.space.slots

    def running(self, mask: np.ndarray) -> np.ndarray:
        """Return which of the allowed operations may still run, bool (slots, operations).

        ``none`` runs only where nothing else is allowed, and in a frozen slot nothing else does.
        """
        running: np.ndarray = np.where(
            (mask & ~self._none).any(1, keepdims=True), mask & ~self._none, mask
        )
        for slot, operation in enumerate(self.frozen):
            running[slot] = np.arange(running.shape[1]) == operation
        return running

    def scores(self, logs: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Return the log-probabilities as scores that name the winner, as decided.

        Those of ``none`` come after the last of their slot, whatever they are.
        """
        last = np.where(self._none, np.inf, logs).min(1, keepdims=True) - 1
        logs = np.where(self._none, last, logs)
        scores = logs.copy()
        for slot, operation in enumerate(self.frozen):
            scores[slot] -= _DECIDED
            scores[slot, operation] = logs[slot, operation]
        for slot in self.replaced:  # the edge stays as strong as it was
            other = mask[slot] & self._parametric
            rise = logs[slot, self.frozen[slot]] - logs[slot, other].max()
            scores[slot] = np.where(other, logs[slot] + rise, logs[slot] - _DECIDED)
        return scores

    def best(self, logs: np.ndarray, subspace: Subspace) -> Architecture:
        """Return the winner among the members of a subspace."""
        return subspace.best(self.scores(logs, subspace.mask))[0]

    def freeze(self, logs: np.ndarray, subspace: Subspace) -> None:
        """Freeze the next slot to the operation that the winner has there.

        On an edge that the winner does not use it is the most probable one.
        """
        slot = len(self.frozen)
        running = self.running(subspace.mask)[slot]
        operation = self.best(logs, subspace)[slot]
        if not running[operation]:
            operation = int(np.where(running, logs[slot], -np.inf).argmax())
        self.frozen.append(operation)

    def limit(self, logs: np.ndarray, subspace: Subspace) -> None:
        """Replace the weakest skips and pools of the winner's cells until there are few enough.

        Tight limits on costs may leave more of them.
        """
        if self.space.left_over is None:  # a small cell, every edge of which is used
            return
        for cell in self.space.cell_types.values():
            for kind in ("skip", "pool"):
                while True:
                    best = self.best(logs, subspace)
                    found = [s for s in cell if kind in self.space.operations[best[s]]]
                    other = [
                        s
                        for s in found
                        if s not in self.replaced and (subspace.mask[s] & self._parametric).any()
                    ]
                    if len(found) <= _MOST or not other:
                        break
                    self.replaced.append(min(other, key=lambda s: logs[s, best[s]]))
