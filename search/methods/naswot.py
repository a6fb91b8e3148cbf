"""NASWOT: the best of random candidates by a score of their untrained networks.

Source: Mellor et al., "Neural Architecture Search without Training", ICML 2021, algorithm 1. A
candidate's score is the log-determinant of the kernel of its activation codes on one mini-batch
(``search.scores.zero_cost``). The paper compares 10 to 1000 candidates; here there are as many as
the budget allows, and no network is scored twice. AREA, the paper's variant that goes on to train,
is the option ``screening`` of the method ``evolution``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from metad2a.spaces import Architecture, SearchSpace
from search.engine.method import METHODS, Method, Ranking
from search.engine.run import Run
from search.sampling.screening import Screening

_TOLD = 10  # architectures named at the end


@METHODS.register("naswot")
class Naswot(Method):
    """NASWOT: scores of untrained networks (Mellor et al., ICML 2021)."""

    shared_training = False
    population = True
    protocol = "not measured"

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "it scores networks by their random weights, and these have trained ones; use 'random' "
                "or 'sandwich'."
            )
            if space.pretrained
            else None
        )

    def judging(self, seconds: float) -> float:
        """Return none: the scores are there."""
        return 0.0

    def begin(self, run: Run) -> None:
        """Start with no candidate."""
        self.screening, self._run = Screening(), run

    def step(self, run: Run) -> float:
        """Score one candidate; the loss is minus the best score so far."""
        return self.screening.step(run)

    def score(self, run: Run, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) scores; ``-inf`` for dead or degenerate networks."""
        return self.screening.score(run, architectures)

    def derive(self, run: Run) -> Ranking:
        """Return the best candidates, of which there is one at least."""
        if not self.screening.best(1):
            self.screening.step(run)
        return self.screening.best(_TOLD)

    def facts(self) -> dict[str, Any]:
        """Return all scores."""
        return {"scores": self.screening.facts()}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        self.screening.restore(self._run, facts["scores"])
