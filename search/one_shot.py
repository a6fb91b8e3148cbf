"""What SPOS and FairNAS share: children of a trained supernet are judged, not alphas.

Source: Guo et al., SPOS, ECCV 2020, section "Evolutionary Architecture Search".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from metad2a.spaces import Architecture
from search.evolution import EvolutionConfig, evolve
from search.method import Method, Ranking
from search.run import Run

_EVOLUTION = 0.3  # fraction of the time
_TOLD = 10  # architectures named at the end
_CHILDREN = 10  # for which there is to be time, with fewer images for each if need be
_PROBE, _FEWEST = 16, 32  # images that tell how long a child takes, and that it has at least


class OneShotMethod(Method):
    """A supernet trained on paths; its children are judged and evolved.

    Args:
        evaluator: what judges children, ``"rebn"``, ``"angle"`` or ``"angle+rebn"``.
        population: architectures a generation.
        generations: how many; time may end the evolution before.
    """

    population = True

    def __init__(
        self, evaluator: str = "rebn", population: int = 50, generations: int = 20
    ) -> None:
        self.evaluator = evaluator
        half = population // 2
        self.sizes = EvolutionConfig(
            population, generations, parents=min(10, population), mutations=half, crossovers=half
        )

    def judging(self, seconds: float) -> float:
        """Return the time for the evolution."""
        return _EVOLUTION * seconds

    def begin(self, run: Run) -> None:
        """Start from the supernet as it is; all training images train weights."""

    def initial(self, run: Run) -> list[Architecture]:
        """Return what the first generation begins with."""
        return list(run.warm)

    def subnets(self, run: Run, count: int) -> list[Architecture]:
        """Return the best children of a short evolution, as Curriculum-NAS does for SPOS."""
        sizes = EvolutionConfig(2 * count, 2, count, count, count)
        judge = run.evaluator("batch", run.few_images())
        found = evolve(run.subspace, judge, run.rng, sizes, should_stop=run.training_over)
        return [a for a, _ in sorted(found.history, key=lambda pair: -pair[1])[:count]]

    def score(self, run: Run, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) scores by the evaluator."""
        return run.evaluator(self.evaluator).score(architectures)

    def derive(self, run: Run) -> Ranking:
        """Evolve children until the time or the generations are used up."""
        if not run.has_supernet:  # cancelled before the first step
            run.renew()
        judge = run.evaluator(self.evaluator, self._images(run))
        asked = [run.budget.elapsed]

        def should_stop() -> bool:
            asked.append(run.budget.elapsed)
            # As long as the last child took, once for the next and once for the winner's accuracy.
            # Between generations it is asked twice in a row.
            took = max(later - before for before, later in pairwise(asked[-3:]))
            return run.stopped(ahead=2 * took)

        found = evolve(
            run.subspace,
            judge,
            run.rng,
            self.sizes,
            initial=self.initial(run),
            should_stop=should_stop,
        )
        return sorted(found.history, key=lambda pair: -pair[1])[:_TOLD]

    def _images(self, run: Run) -> int | None:
        """Return how many images may pass for a child, so that there is time for some children."""
        if run.budget.seconds is None:
            return None
        probe, began = run.evaluator(self.evaluator, _PROBE), run.budget.elapsed
        probe.score([run.subspace.sample(run.rng)])
        took = run.budget.elapsed - began
        left = max(0.0, run.budget.seconds - run.budget.elapsed)
        return max(_FEWEST, int(_PROBE * left / _CHILDREN / max(took, 1e-6)))
