"""Random search: the baseline that every method has to beat.

Architectures are drawn at random, trained alone for equal parts of the budget, and the one of the
highest accuracy on held-out images wins. Li and Talwalkar, "Random Search and Reproducibility for
Neural Architecture Search", UAI 2019, show how strong this is.
"""

from __future__ import annotations

from metad2a.spaces import Architecture
from search.engine.method import METHODS
from search.engine.run import Run
from search.sampling.trials import StandaloneMethod


@METHODS.register("random")
class RandomSearch(StandaloneMethod):
    """Random search with stand-alone trainings (Li and Talwalkar, UAI 2019)."""

    def __init__(self, trainings: int = 10) -> None:
        super().__init__(trainings)

    def propose(self, run: Run) -> Architecture:
        """Draw uniformly from what limits allow."""
        return run.subspace.sample(run.rng)
