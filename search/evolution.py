"""Evolution over any evaluator, under any constraint.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling" (SPOS),
ECCV 2020, section "Evolutionary Architecture Search": the best so far are parents; each new
generation is made of mutants, of crosses, and of random architectures for the rest. No network is
visited twice, where isomorphic architectures are one network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metad2a.errors import BudgetError, InputError
from metad2a.spaces import Architecture, SearchSpace
from search.evaluators import Evaluator

_ATTEMPTS = 1000  # draws for each wanted architecture before a proposer gives up


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
            raise InputError(f"mutations={self.mutations} and crossovers={self.crossovers} must be "
                             "0 or more.")
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
    space: SearchSpace,
    evaluator: Evaluator,
    rng: np.random.Generator,
    config: EvolutionConfig | None = None,
    feasible: Callable[[Architecture], bool] | None = None,
) -> EvolutionResult:
    """Search for the architecture with the highest score.

    It ends early when no unseen feasible architecture can be found.

    Args:
        space: what is searched; only connected architectures are visited.
        evaluator: what is maximised.
        rng: the only source of chance.
        config: sizes; those of SPOS where None.
        feasible: whether an architecture obeys the user's limits; all do where None.

    Raises:
        BudgetError: no random architecture obeys ``feasible``.
    """
    sizes = config or EvolutionConfig()
    seen: set[Architecture] = set()
    history: list[tuple[Architecture, float]] = []

    def collect(count: int, propose: Callable[[], Architecture]) -> list[Architecture]:
        """Return up to ``count`` new feasible architectures within a bounded number of draws."""
        found: list[Architecture] = []
        for _ in range(_ATTEMPTS * count):
            if len(found) == count:
                break
            candidate = propose()
            form = space.canonical(candidate)
            if form in seen or not space.is_connected(candidate):
                continue
            if feasible is None or feasible(candidate):
                seen.add(form)
                found.append(candidate)
        return found

    for _ in range(sizes.generations):
        fresh: list[Architecture] = []
        if history:
            # A stable sort: of equals, the one found first.
            parents = [a for a, _ in sorted(history, key=lambda h: -h[1])[: sizes.parents]]

            def parent(pool: list[Architecture] = parents) -> Architecture:
                return pool[int(rng.integers(len(pool)))]

            fresh += collect(sizes.mutations, lambda: space.mutate(parent(), rng))
            fresh += collect(sizes.crossovers, lambda: space.cross(parent(), parent(), rng))
        fresh += collect(sizes.population - len(fresh), lambda: space.sample(rng))
        if not fresh:
            break
        if evaluator.relative:  # what was visited before has another score in new company
            fresh, history = [a for a, _ in history] + fresh, []
        scores = evaluator.score(fresh)
        history += [(a, float(s)) for a, s in zip(fresh, scores, strict=True)]
    if not history:
        raise BudgetError(f"None of {_ATTEMPTS * sizes.population:,} random architectures of the "
                          f"space {space.name!r} obeys the constraint. Loosen it; "
                          "SearchSpace.smallest names the least parameters and MACs.")
    return EvolutionResult(max(history, key=lambda h: h[1])[0], tuple(history))
