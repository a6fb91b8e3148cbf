"""Regularised evolution: of a few trained architectures the best has a child, and the oldest dies.

Source: Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI 2019,
algorithm 1: the parent is the best of a sample, drawn with replacement, of the population; the
child is a mutant of it, trained from scratch; and death goes by age, so that only what does well
again and again survives. Population and sample are those of NAS-Bench-201's baseline "REA" (Dong
and Yang, ICLR 2020, and its code). No network is trained twice while there are others.

With ``screening`` the first population is the best of random candidates by their NASWOT score:
AREA (Mellor et al., ICML 2021).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from metad2a.errors import InputError
from metad2a.spaces import Architecture, SearchSpace
from search.engine.method import METHODS
from search.engine.run import Run
from search.sampling.screening import Screening
from search.sampling.trials import StandaloneMethod


@METHODS.register("evolution")
class Evolution(StandaloneMethod):
    """Aging evolution with stand-alone trainings (Real et al., AAAI 2019).

    Args:
        trainings: among how many the budget is divided.
        population: architectures that are alive.
        sample: how many of them compete to be the parent.
        screening: how many of the trainings give their part of the budget to NASWOT scores, of
            which the best make the first population.
    """

    def __init__(
        self, trainings: int = 30, population: int = 10, sample: int = 3, screening: int = 0
    ) -> None:
        super().__init__(trainings)
        if min(population, sample) < 1:
            raise InputError(f"population={population} and sample={sample} must be 1 or more.")
        if not 0 <= screening < trainings:
            raise InputError(
                f"screening={screening} must be 0 or more and leave some of the "
                f"trainings={trainings}."
            )
        self.alive, self.sample, self.parts = population, sample, screening

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse scores of random weights where networks begin pretrained."""
        return (
            "screening scores networks by their random weights, and these have trained ones; leave it 0."
            if space.pretrained and self.parts
            else None
        )

    def begin(self, run: Run) -> None:
        """Start with nobody."""
        super().begin(run)
        self.screening = Screening()

    def step(self, run: Run) -> float:
        """Score a candidate while there is time for that, else train."""
        if run.fraction * self.trainings < self.parts:
            return self.screening.step(run)
        return super().step(run)

    def propose(self, run: Run) -> Architecture:
        """Return a first inhabitant, or a mutant of the best of a sample of those alive."""
        if len(self.results) < self.alive:
            trained = {architecture for architecture, _ in self.results}
            left = (a for a, _ in self.screening.best(self.alive) if a not in trained)
            return next(left, None) or run.subspace.sample(run.rng)
        # With a birth and a death in each cycle, those alive are the youngest.
        alive = self.results[-self.alive :]
        sample = [alive[i] for i in run.rng.integers(len(alive), size=self.sample)]
        parent, _ = max(sample, key=lambda result: result[1])
        return run.subspace.mutate(parent, run.rng)

    def facts(self) -> dict[str, Any]:
        """Return what is trained, and the scores of candidates."""
        return {**super().facts(), "scores": self.screening.facts()}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        super().restore(tensors, facts)
        self.screening.restore(self._run, facts["scores"])
