"""Candidates scored without training, one a step: best-of-N search, and the start of another one.

Source: Mellor et al., "Neural Architecture Search without Training" (NASWOT), ICML 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metad2a.spaces import Architecture
from search.engine.method import Ranking
from search.engine.run import Run
from search.sampling.candidates import unseen
from search.scores.base import Evaluator
from search.scores.zero_cost import IMAGES


class Screening:
    """The NASWOT scores of all candidates so far: suggestions first, then random ones."""

    def __init__(self) -> None:
        self._scores: dict[Architecture, float] = {}
        self._seen: set[Architecture] = set()
        self._evaluator: Evaluator | None = None

    def step(self, run: Run) -> float:
        """Score one more candidate; returns minus the best score so far, which falls as a loss."""
        candidate = unseen(run, self._seen, lambda: run.subspace.sample(run.rng))
        self._seen.add(run.space.canonical(candidate))
        self._scores[candidate] = float(self.score(run, [candidate])[0])
        run.images += min(IMAGES, len(run.train_y))
        return -max(self._scores.values())

    def score(self, run: Run, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) scores; ``-inf`` for dead or degenerate networks."""
        if self._evaluator is None:
            self._evaluator = run.evaluator("naswot")
        return self._evaluator.score(architectures)

    def best(self, count: int) -> Ranking:
        """Return up to ``count`` candidates with their scores, best first."""
        return sorted(self._scores.items(), key=lambda pair: -pair[1])[:count]

    def facts(self) -> list[Any]:
        """Return the JSON form of all scores."""
        return list(self._scores.items())

    def restore(self, run: Run, facts: list[Any]) -> None:
        """Take over what :meth:`facts` returned."""
        self._scores = {tuple(architecture): score for architecture, score in facts}
        self._seen = {run.space.canonical(architecture) for architecture in self._scores}
