"""MdeNAS: a distribution over operations that learns from the order of accuracies and visits.

Source: Zheng et al., "Multinomial Distribution Learning for Effective Neural Architecture Search",
ICCV 2019. A path is drawn from the distribution, trained for a while and judged. An operation that
does better than another one of its slot though it was visited no more often takes probability from
it: early ranks are final ranks ("performance ranking hypothesis"). The update, the rate, and a
warm-up that visits every operation once, are those of XNAS, as the authors released no search code.
They report 2.55 % test error on CIFAR-10, and 2.40 % in the first preprint.

Two things differ. A pass of some steps takes the place of a training epoch, since budgets are of
time. And an operation's value is its mean rank among the paths of its time, not the accuracy of its
last path. As shared weights improve, late accuracies are higher whatever the operation; and one
path tells more about the operations of all other slots than about one. ``faithful`` restores this.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metad2a.spaces import Architecture
from metad2a.spaces.supernets.gates import Gates
from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.gradient.differentiable import DifferentiableMethod
from search.gradient.two_path import draw_path
from search.methods.fairnas import fair_paths
from search.scores.base import Evaluator

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


@METHODS.register("mdenas")
class MdeNas(DifferentiableMethod):
    """Multinomial distribution learning (Zheng et al., ICCV 2019).

    Args:
        passes: paths trained and judged over the whole budget; fewer where it has fewer steps.
        rate: probability that one comparison of two operations moves.
        faithful: compare the accuracies of last paths, as published.
    """

    # The optimiser is that of the weight-sharing baselines of NAS-Bench-201 (Dong and Yang, 2020).
    training = Training(nesterov=True, weight_decay=5e-4)

    def __init__(self, passes: int = 100, rate: float = 0.01, faithful: bool = False) -> None:
        self.passes, self.rate, self.faithful = passes, rate, faithful

    def begin(self, run: Run) -> None:
        """Start from equal probabilities, and line up the paths of the warm-up."""
        self.multinomial = Multinomial(run.subspace.mask, self.rate, raw=self.faithful)
        self.lined_up = fair_paths(run.subspace.mask, run.rng)
        self.path: Architecture | None = None
        self.number = -1  # of the present pass
        self._judge: Evaluator | None = None

    def step(self, run: Run) -> float:
        """Train the present path; where its pass is over, judge it first and draw the next."""
        number = int(run.fraction * self.passes)
        if self.path is None or number != self.number:
            if self.path is not None:
                self._judged(run, self.path)
            self.path, self.number = self._next(run), number
        return run.train_weights(run.batch(), [Gates.path(self.path, len(run.space.operations))])

    def _judged(self, run: Run, path: Architecture) -> None:
        if self._judge is None:
            self._judge = run.evaluator("batch", run.few_images())
        self.multinomial.record(path, float(self._judge.score([path])[0]))
        if not self.lined_up:
            self.multinomial.learn()

    def _next(self, run: Run) -> Architecture:
        if self.lined_up:
            return self.lined_up.pop(0)
        return self.multinomial.draw(run.subspace.mask, run.rng)

    def slot_scores(self, run: Run) -> np.ndarray:
        """Return float64 (slots, operations): the probabilities, of which some may be zero."""
        return self.multinomial.allowed(run.subspace.mask)

    def tensors(self) -> dict[str, Tensor]:
        """Return the distribution, and what it was learnt from."""
        return self.multinomial.tensors()

    def facts(self) -> dict[str, Any]:
        """Return the present pass, its path, and the paths of the warm-up that are left."""
        return {"number": self.number, "path": self.path, "lined_up": self.lined_up}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        self.multinomial.load(tensors)
        self.number = facts["number"]
        self.path = None if facts["path"] is None else tuple(facts["path"])
        self.lined_up = [tuple(path) for path in facts["lined_up"]]
