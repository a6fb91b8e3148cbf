"""A dataset as a model sees it: which networks it proposes, and what it expects of them.

Spaces of cells are answered by MetaD2A's generator and predictor, spaces with pretrained weights by
landmarks and what fine-tuned networks reached elsewhere. Both answer the same questions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from metad2a.errors import InputError
from metad2a.protocol import FINE_TUNE_NAME, PROBE, FineTune
from metad2a.spaces import Architecture, SearchSpace
from metad2a.spaces.sketch import Cell

if TYPE_CHECKING:
    from metad2a.datasets import DatasetReport, ImageDataset
    from metad2a.model.description import Description
    from metad2a.model.known import Neighbourhood
    from metad2a.model.landmarks import Landmarks
    from metad2a.model.metad2a import MetaD2A
    from metad2a.model.performance import Performance
    from metad2a.training.plan import Time

POOL = 192
"""Members drawn beside those that keep their weights whole."""
ROUNDS, PARENTS, CHILDREN = 2, 16, 6
"""How often the best so far are mutated, how many of them, into how many."""


@dataclass(frozen=True)
class Expectation:
    """What is expected of n networks: percent, float64 (n,) each."""

    mean: np.ndarray
    low: np.ndarray
    """Lower bound of the 90 % interval."""
    high: np.ndarray
    recipes: tuple[FineTune, ...] = ()
    """The best way to train each of them; empty where there is one way only."""
    note: str = ""
    """What holds for all of them and must be known."""


class Answers(ABC):
    """What a model says of one dataset. ``seed`` is of all draws."""

    space: SearchSpace
    protocol: str
    """What the accuracies are of."""
    report: DatasetReport
    neighbourhood: Neighbourhood | None = None
    """Where the dataset lies among those that were learnt from, where that is known."""
    landmarks: Landmarks | None = None
    description: Description | None = None

    @abstractmethod
    def propose(
        self, n: int, max_params: int | None = None, max_macs: int | None = None
    ) -> np.ndarray:
        """Return int (m, slots) distinct members within limits, about ``n`` of them.

        Raises:
            BudgetError: a limit is below the smallest network.
        """

    @abstractmethod
    def expect(self, architectures: np.ndarray) -> Expectation:
        """Return what int (n, slots) architectures are expected to reach."""

    @abstractmethod
    def ranked(self, expectation: Expectation, costs: np.ndarray, k: int) -> list[int]:
        """Return at most ``k`` networks to show, by their numbers, the best first.

        Args:
            expectation: of n networks.
            costs: int (n, 2), their parameters and MACs.
            k: how many.
        """

    @abstractmethod
    def meaning(self) -> str:
        """Return what the accuracies are of, in a sentence."""

    @abstractmethod
    def reason(self, place: int, architecture: Architecture, recipe: FineTune | None) -> str:
        """Return why a network is where it is in the list; ``place`` 1 is the first."""


@dataclass
class CellAnswers(Answers):
    """MetaD2A's, in the space that it was trained for."""

    model: MetaD2A
    dataset: ImageDataset
    seed: int
    among: int = 0

    def __post_init__(self) -> None:
        from metad2a.model.description import describe
        from metad2a.model.known import embed, neighbourhood

        self.space, self.protocol = self.model.space, self.model.protocol
        self.description, self.report = describe(self.dataset, self.seed)
        self.neighbourhood = neighbourhood(
            self.model.learnt_from,
            embed(self.model.predictor, self.description),
            self.model.protocol,
        )

    def propose(
        self, n: int, max_params: int | None = None, max_macs: int | None = None
    ) -> np.ndarray:
        """Generate for the dataset and the limits."""
        if self.description is None:
            raise InputError("The dataset is not described.")
        found = self.model.generate_described(
            self.description, n, self.seed, len(self.dataset.classes), max_params, max_macs
        )
        self.among = max(self.among, len(found))
        return found

    def expect(self, architectures: np.ndarray) -> Expectation:
        """Predict accuracies under the model's protocol."""
        if self.description is None:
            raise InputError("The dataset is not described.")
        answer = self.model.predict_described(self.description, architectures)
        return Expectation(answer.mean, answer.low, answer.high)

    def ranked(self, expectation: Expectation, costs: np.ndarray, k: int) -> list[int]:
        """Take those predicted best."""
        order: list[int] = (-expectation.mean).argsort(kind="stable")[:k].tolist()
        return order

    def meaning(self) -> str:
        """Name the protocol."""
        return f"Accuracy is the expected test accuracy under the protocol {self.protocol}."

    def reason(self, place: int, architecture: Architecture, recipe: FineTune | None) -> str:
        """Name rank and operations."""
        cells = [one for one in self.space.sketch(architecture) if isinstance(one, Cell)]
        names = [edge.label for cell in cells for edge in cell.edges if edge.shown]
        parts = ", ".join(f"{count} × {name}" for name, count in Counter(names).most_common())
        rank = "best" if place == 1 else f"number {place}"
        return f"predicted {rank} of {self.among:,} networks generated for this dataset; its cell has {parts}"


@dataclass
class PieceAnswers(Answers):
    """Of networks with pretrained weights, for the minutes that training may take on this machine."""

    space: SearchSpace
    model: Performance
    dataset: ImageDataset
    seed: int
    minutes: float
    protocol: str = FINE_TUNE_NAME
    clock: Time = field(init=False)

    def __post_init__(self) -> None:
        from metad2a.model import landmarks
        from metad2a.training.device import plan as device_plan
        from metad2a.training.plan import Time, usual_pace
        from metad2a.training.sides import split

        sides = split(self.dataset, self.seed)
        known = np.sort(np.concatenate([sides.train, sides.choice]))
        self.landmarks, self.report = landmarks.described(self.dataset, known, self.seed)
        self.clock = Time(
            60.0 * self.minutes,
            usual_pace(self.space, device_plan("cpu")),
            len(sides.train),
            len(sides.test) + len(sides.choice),
        )

    def propose(
        self, n: int, max_params: int | None = None, max_macs: int | None = None
    ) -> np.ndarray:
        """Take what keeps its weights whole, a pool spread over cost, and mutants of the best."""
        space, classes = self.space, len(self.dataset.classes)
        rng = np.random.default_rng([self.seed, 23])
        found = dict.fromkeys(space.anchors(cut=True))
        found |= dict.fromkeys(space.pool(min(n, POOL), rng, classes, max_params, max_macs))
        members = self._within(list(found), max_params, max_macs)
        for _ in range(ROUNDS):
            best = (-self.expect(members).mean).argsort(kind="stable")[:PARENTS]
            children = [
                space.mutate(tuple(members[parent].tolist()), rng)
                for parent in best
                for _ in range(CHILDREN)
            ]
            known = dict.fromkeys([*map(tuple, members.tolist()), *children])
            members = self._within(list(known), max_params, max_macs)
        return members

    def _within(
        self, members: list[Architecture], max_params: int | None, max_macs: int | None
    ) -> np.ndarray:
        rows = np.array(members, dtype=np.int64)
        fits = self.space.feasible(rows, len(self.dataset.classes), max_params, max_macs)
        kept: np.ndarray = rows[fits]
        return kept

    def expect(self, architectures: np.ndarray) -> Expectation:
        """Expect of each network what the best recipe for the time gives."""
        from metad2a.training.plan import ways

        if self.landmarks is None:
            raise InputError("The dataset has no landmarks.")
        classes = len(self.dataset.classes)
        rows = [tuple(row) for row in np.asarray(architectures).tolist()]
        pairs = ways(self.space, self.clock, rows, classes)
        # A network too large for the time is expected frozen all the same.
        pairs += [
            (number, PROBE.recipe) for number in set(range(len(rows))) - {n for n, _ in pairs}
        ]
        owner = [number for number, _ in pairs]
        networks = [rows[number] for number in owner]
        recipes = [recipe for _, recipe in pairs]
        answer = self.model.predict(
            self.landmarks, self.space, networks, recipes, classes, self.clock.images
        )
        best = np.full(len(rows), -1)
        for at, number in enumerate(owner):
            if best[number] < 0 or answer.mean[at] > answer.mean[best[number]]:
                best[number] = at
        return Expectation(
            answer.mean[best],
            answer.low[best],
            answer.high[best],
            tuple(recipes[at] for at in best),
            answer.note,
        )

    def ranked(self, expectation: Expectation, costs: np.ndarray, k: int) -> list[int]:
        """Take the best, then the best of at most half its work, of half of that, and so on.

        Networks that hardly differ say nothing new; what a user wants to know is what less work
        costs him. Of networks within :data:`TIED` points the one of the least work is taken.
        """
        chosen: list[int] = []
        left = np.arange(len(costs))
        while len(left) and len(chosen) < k:
            mean = expectation.mean[left]
            tied = left[mean >= mean.max() - TIED]
            one = int(tied[np.lexsort((-expectation.mean[tied], costs[tied, 1]))[0]])
            chosen.append(one)
            left = left[costs[left, 1] <= costs[one, 1] / 2]
        return chosen

    def meaning(self) -> str:
        """Name the time."""
        return (
            "Accuracy is what `metad2a train` is expected to reach on test images in "
            f"{self.minutes:g} minutes on this machine, from pretrained weights."
        )

    def reason(self, place: int, architecture: Architecture, recipe: FineTune | None) -> str:
        """Say how it is trained, and what it is beside the first."""
        way = (
            "frozen, with a classifier in closed form"
            if recipe is None or recipe.rate == 0
            else f"fine-tuned at a rate of {recipe.rate:g} for about {recipe.epochs:.0f} epochs"
        )
        head = (
            f"expected to be best after {self.minutes:g} minutes here"
            if place == 1
            else "expected to be best of at most half the work of the one before"
        )
        return f"{head}: {way}"


TIED = 0.5
"""Points within which networks are called equal: less than a second training differs by."""
