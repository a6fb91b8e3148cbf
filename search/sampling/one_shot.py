"""What SPOS and FairNAS share: children of a trained supernet are judged, not alphas, and evolved.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling" (SPOS),
ECCV 2020, section "Evolutionary Architecture Search": the best so far are parents; each new
generation is made of mutants, of crosses, and of random architectures for the rest. No network is
visited twice, where isomorphic architectures are one network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces import Architecture
from search.engine.method import Method, Ranking
from search.engine.run import Run
from search.scores.base import Evaluator
from search.subspace.subspace import Subspace

_EVOLUTION = 0.3  # fraction of the time
_TOLD = 10  # architectures named at the end
_CHILDREN = 10  # for which there is to be time, with fewer images for each if need be
_PROBE, _FEWEST = 16, 32  # images that tell how long a child takes, and that it has at least
_ATTEMPTS = 100  # draws for each wanted architecture before a proposer gives up


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


@dataclass(frozen=True)
class EvolutionConfig:
    """Sizes of an evolution; the defaults are those of SPOS."""

    population: int = 50
    """Architectures scored a generation."""
    generations: int = 20
    parents: int = 10
    """How many of the best so far have offspring."""
    mutations: int = 25
    """Mutants a generation, each with one slot changed."""
    crossovers: int = 25
    """Crosses a generation, each slot from either parent. What is left is drawn at random."""

    def __post_init__(self) -> None:
        for name in ("population", "generations", "parents"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be 1 or more.")
        if min(self.mutations, self.crossovers) < 0:
            raise InputError(
                f"mutations={self.mutations} and crossovers={self.crossovers} must be 0 or more."
            )
        if self.mutations + self.crossovers > self.population:
            raise InputError(
                f"mutations={self.mutations} and crossovers={self.crossovers} exceed "
                f"population={self.population}; lower them."
            )


@dataclass(frozen=True)
class EvolutionResult:
    """The best architecture, and all that were visited with their scores, in order of visit."""

    best: Architecture
    history: tuple[tuple[Architecture, float], ...]


def evolve(
    subspace: Subspace,
    evaluator: Evaluator,
    rng: np.random.Generator,
    config: EvolutionConfig | None = None,
    *,
    initial: Sequence[Architecture] = (),
    should_stop: Callable[[], bool] | None = None,
) -> EvolutionResult:
    """Search for the architecture with the highest score.

    It ends early when no unseen member of the subspace can be found.

    Args:
        subspace: what is searched; only its members are visited, so limits hold.
        evaluator: what is maximised.
        rng: the only source of chance.
        config: sizes; those of SPOS where None.
        initial: members of the first generation; it is filled up at random.
        should_stop: asked before each architecture but the first; the first True ends the
            evolution.
    """
    sizes = config or EvolutionConfig()
    space, seen = subspace.space, set[Architecture]()
    history: list[tuple[Architecture, float]] = []

    def admit(candidate: Architecture) -> bool:
        """Whether a candidate is a member that was not visited; it counts as visited then."""
        form = space.canonical(candidate)
        new = form not in seen and subspace.contains(candidate)
        if new:
            seen.add(form)
        return new

    def collect(count: int, propose: Callable[[], Architecture]) -> list[Architecture]:
        """Return up to ``count`` new members within a bounded number of draws."""
        found: list[Architecture] = []
        for _ in range(_ATTEMPTS * count):
            if len(found) == count:
                break
            candidate = propose()
            if admit(candidate):
                found.append(candidate)
        return found

    def stopped() -> bool:
        return bool(history) and should_stop is not None and should_stop()

    fresh = [one for one in initial if admit(one)][: sizes.population]
    for _ in range(sizes.generations):
        if history:
            # A stable sort: of equals, the one found first.
            parents = [a for a, _ in sorted(history, key=lambda h: -h[1])[: sizes.parents]]

            def parent(pool: list[Architecture] = parents) -> Architecture:
                return pool[int(rng.integers(len(pool)))]

            fresh += collect(sizes.mutations, lambda: subspace.mutate(parent(), rng))
            fresh += collect(sizes.crossovers, lambda: subspace.cross(parent(), parent(), rng))
        fresh += collect(sizes.population - len(fresh), lambda: subspace.sample(rng))
        if not fresh:
            break
        ended = False
        for one in fresh:
            ended = stopped()
            if ended:
                break
            history.append((one, float(evaluator.score([one])[0])))
        if evaluator.relative:  # what was visited before has another score in new company
            visited = [a for a, _ in history]
            history = list(zip(visited, map(float, evaluator.score(visited)), strict=True))
        fresh = []
        if ended or stopped():
            break
    return EvolutionResult(max(history, key=lambda h: h[1])[0], tuple(history))
