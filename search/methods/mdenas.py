"""MdeNAS: a distribution over operations that learns from the order of accuracies and visits.

Source: Zheng et al., "Multinomial Distribution Learning for Effective Neural Architecture Search",
ICCV 2019. A path is drawn from the distribution, trained for a while and judged. An operation that
does better than another one of its slot though it was visited no more often takes probability from
it: early ranks are final ranks ("performance ranking hypothesis"). The rule's rate, and a warm-up
that visits every operation once, are those of XNAS, as the authors released no search code. They
report 2.55 % test error on CIFAR-10, and 2.40 % in the first preprint.

Two things differ. A pass of some steps takes the place of a training epoch, since budgets are of
time. And as shared weights improve, late visits look better whatever the operation: so an accuracy
counts by its rank among the latest ones, and raw only where ``faithful``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metad2a.spaces import Architecture
from metad2a.spaces.gates import Gates
from search.differentiable import DifferentiableMethod
from search.evaluators import Evaluator
from search.method import METHODS, Training
from search.methods.fairnas import fair_paths
from search.run import Run
from search.two_path import draw_path

_WINDOW = 20  # passes among which an accuracy is ranked


@METHODS.register("mdenas")
class MdeNas(DifferentiableMethod):
    """Multinomial distribution learning (Zheng et al., ICCV 2019).

    Args:
        passes: paths trained and judged over the whole budget; fewer where it has fewer steps.
        rate: probability that one comparison moves.
        faithful: compare raw accuracies, as published.
    """

    # The optimiser is that of the weight-sharing baselines of NAS-Bench-201 (Dong and Yang, 2020).
    training = Training(nesterov=True, weight_decay=5e-4)

    def __init__(self, passes: int = 100, rate: float = 0.01, faithful: bool = False) -> None:
        self.passes, self.rate, self.faithful = passes, rate, faithful

    def begin(self, run: Run) -> None:
        """Start from equal probabilities, and line up the paths of the warm-up."""
        mask = run.subspace.mask
        self.probabilities = mask / mask.sum(1, keepdims=True)
        self.visits = np.zeros(mask.shape, dtype=np.int64)
        self.values = np.zeros(mask.shape)
        self.lined_up = fair_paths(mask, run.rng)
        self.recent: list[float] = []
        self.path: Architecture | None = None
        self.number = -1  # of the present pass
        self._judge: Evaluator | None = None

    def step(self, run: Run) -> float:
        """Train the present path; where its pass is over, judge it first and draw the next."""
        number = int(run.fraction * self.passes)
        if self.path is None or number != self.number:
            if self.path is not None:
                self._learn(run, self.path)
            self.path, self.number = self._draw(run), number
        return run.train_weights(run.batch(), [Gates.path(self.path, len(run.space.operations))])

    def _draw(self, run: Run) -> Architecture:
        if self.lined_up:
            return self.lined_up.pop(0)
        return tuple(int(op) for op in draw_path(self._allowed(run), run.rng).argmax(1))

    def _allowed(self, run: Run) -> np.ndarray:
        """Return float64 (slots, operations): the probabilities of what may still be used."""
        mask = run.subspace.mask
        kept = np.where(mask, self.probabilities, 0.0)
        lost = kept.sum(1, keepdims=True) == 0  # all of a slot's mass was on forbidden operations
        kept = np.where(lost, mask, kept)
        found: np.ndarray = kept / kept.sum(1, keepdims=True)
        return found

    def _learn(self, run: Run, path: Architecture) -> None:
        if self._judge is None:
            self._judge = run.evaluator("batch")
        accuracy = float(self._judge.score([path])[0])
        self.recent = [*self.recent, accuracy][-_WINDOW:]
        taken = np.arange(run.space.slots), np.array(path)
        self.visits[taken] += 1
        self.values[taken] = accuracy if self.faithful else rank(self.recent)
        if not self.lined_up:
            learn(self.probabilities, self.visits, self.values, self.rate)

    def slot_scores(self, run: Run) -> np.ndarray:
        """Return float64 (slots, operations): p itself, as some of it may be zero."""
        return self._allowed(run)

    def tensors(self) -> dict[str, Tensor]:
        """Return the probabilities, and the visits and values behind them."""
        return {name: torch.from_numpy(getattr(self, name).copy())
                for name in ("probabilities", "visits", "values")}

    def facts(self) -> dict[str, Any]:
        """Return the present pass, the paths of the warm-up that are left, and late accuracies."""
        return {"number": self.number, "path": self.path, "lined_up": self.lined_up,
                "recent": self.recent}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        for name, value in tensors.items():
            setattr(self, name, value.numpy().copy())
        self.number, self.recent = facts["number"], facts["recent"]
        self.path = None if facts["path"] is None else tuple(facts["path"])
        self.lined_up = [tuple(path) for path in facts["lined_up"]]


def rank(accuracies: list[float]) -> float:
    """Return the rank of the last accuracy among all of them, from 0 (worst) to 1; ties halved."""
    if len(accuracies) == 1:
        return 0.5
    *others, last = accuracies
    below = sum((other < last) + 0.5 * (other == last) for other in others)
    return below / len(others)


def learn(
    probabilities: np.ndarray, visits: np.ndarray, values: np.ndarray, rate: float
) -> None:
    """Compare the operations of each slot in pairs and move probability, in place.

    Of operations i and j, i takes ``rate`` from j where it was visited no more often and has the
    greater value, or all of what j has if that is less.

    Args:
        probabilities: float64 (slots, operations), rows that sum to one.
        visits: int64 (slots, operations); operations that were never visited are left out.
        values: float64 (slots, operations), of the last visit to each.
        rate: what one comparison moves.
    """
    for p, visited, value in zip(probabilities, visits, values, strict=True):
        known = np.flatnonzero(visited)
        for i in known:
            for j in known:
                if visited[i] <= visited[j] and value[i] > value[j]:
                    moved = min(rate, p[j])
                    p[i] += moved
                    p[j] -= moved
