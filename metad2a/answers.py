"""A dataset as a model sees it: which networks it proposes, and what it expects of them.

Spaces of cells are answered by MetaD2A's generator and predictor, spaces with pretrained weights by
landmarks and what fine-tuned networks reached elsewhere. Both answer the same questions.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class Result:
    """What a network reached on the dataset itself."""

    architecture: Architecture
    """Canonical."""
    accuracy: float
    """In percent."""
    recipe: FineTune | None = None
    """How it was trained; None: in the best way for it that is known."""
    judged: int | None = None
    """Images on which that was measured; None: those of the dataset's test side."""


class Answers(ABC):
    """What a model says of one dataset. ``seed`` is of all draws."""

    space: SearchSpace
    dataset: ImageDataset
    protocol: str
    """What the accuracies are of."""
    report: DatasetReport
    results: tuple[Result, ...] = ()
    """What networks reached on the dataset, as far as is known; one for each network."""
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
    def given(self, results: Sequence[Result]) -> Answers:
        """Return what is said once these results are known, and those known before.

        A later result of the same network takes the place of the earlier one.
        """

    @abstractmethod
    def noise(self, accuracy: float) -> float:
        """Return by how many points a second training of a network of this accuracy differs."""

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

    def _within(
        self, members: Sequence[Architecture], max_params: int | None, max_macs: int | None
    ) -> np.ndarray:
        """Return int (m, slots), the members that keep to limits."""
        rows = np.array(members, dtype=np.int64).reshape(-1, self.space.slots)
        fits = self.space.feasible(rows, len(self.dataset.classes), max_params, max_macs)
        kept: np.ndarray = rows[fits]
        return kept

    def _with_known(
        self, members: np.ndarray, max_params: int | None, max_macs: int | None
    ) -> np.ndarray:
        """Add the networks whose results are known, where they keep to limits, each once."""
        known = self._within([one.architecture for one in self.results], max_params, max_macs)
        rows = dict.fromkeys(map(tuple, [*members.tolist(), *known.tolist()]))
        return np.array(list(rows), dtype=np.int64).reshape(-1, self.space.slots)

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
        found = self._with_known(found, max_params, max_macs)
        self.among = max(self.among, len(found))
        return found

    def expect(self, architectures: np.ndarray) -> Expectation:
        """Predict accuracies under the model's protocol, or as those were trained that are known."""
        from metad2a.model.landmarks import at_chance
        from metad2a.model.results import conditioned

        if self.description is None:
            raise InputError("The dataset is not described.")
        if self.description.chance and not self.results:
            seen = self.description.labels.numpy()
            largest, guess = (np.bincount(x).max() / len(x) for x in (self.dataset.labels, seen))
            mean, low, high, note = at_chance(len(architectures), largest, guess, len(seen))
            return Expectation(mean, low, high, note=note)
        if not self.results:
            answer = self.model.predict_described(self.description, architectures)
            return Expectation(answer.mean, answer.low, answer.high)
        known = self.space.as_array([one.architecture for one in self.results])
        return Expectation(
            *conditioned(
                self.model.seen(self.description, architectures),
                self.model.seen(self.description, known),
                np.array([one.accuracy for one in self.results]),
                np.array([one.judged or self._judged for one in self.results]),
            )
        )

    def given(self, results: Sequence[Result]) -> CellAnswers:
        """Expect of others what these results say of them."""
        other = copy.copy(self)
        other.results = _joined(self.results, results)
        return other

    def noise(self, accuracy: float) -> float:
        """Say what cells' trainings differ by, which depends on how far from the ends they are."""
        from metad2a.model.results import NOISE

        return NOISE * accuracy * (100 - accuracy) / 100

    @property
    def _judged(self) -> int:
        """Images of the test side, or of what is held out where there is none."""
        return int(np.count_nonzero(self.dataset.split)) or max(1, len(self.dataset) // 5)

    def ranked(self, expectation: Expectation, costs: np.ndarray, k: int) -> list[int]:
        """Take those predicted best."""
        order: list[int] = (-expectation.mean).argsort(kind="stable")[:k].tolist()
        return order

    def meaning(self) -> str:
        """Name the protocol, or the results."""
        if self.results:
            return (
                "Accuracy is the test accuracy expected of a network that is trained as "
                f"{_those(len(self.results))} known here."
            )
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
    _first: Performance = field(init=False)
    """The model before any result was known."""
    _judged: int = field(init=False)
    """Images of the test side."""
    _asked: dict[tuple[Architecture, FineTune], float] = field(init=False)
    """What the model said of pairs: each round of proposals asks about all again, and so does the ranking."""

    def __post_init__(self) -> None:
        from metad2a.model import landmarks
        from metad2a.training.plan import Time
        from metad2a.training.sides import split

        sides = split(self.dataset, self.seed)
        known = np.sort(np.concatenate([sides.train, sides.choice]))
        test = sides.test if sides.own_test else None
        self.landmarks, self.report = landmarks.described(self.dataset, known, self.seed, test)
        self.clock = Time(
            60.0 * self.minutes,
            self._pace(self.space),
            len(sides.train),
            len(sides.test) + len(sides.choice),
        )
        self._first, self._judged, self._asked = self.model, len(sides.test), {}

    def in_space(self, space: SearchSpace) -> PieceAnswers:
        """Return the same for another space with pretrained weights; the images are not read again."""
        other = copy.copy(self)
        other.space, other.model, other.results, other._asked = space, self._first, (), {}
        other.clock = replace(self.clock, macs_per_second=self._pace(space))
        return other

    @staticmethod
    def _pace(space: SearchSpace) -> float:
        from metad2a.training.device import plan as device_plan
        from metad2a.training.plan import usual_pace

        return usual_pace(space, device_plan("cpu"))

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
            means, _ = self._best([tuple(row) for row in members.tolist()])
            best = (-means).argsort(kind="stable")[:PARENTS]
            children = [
                space.mutate(tuple(members[parent].tolist()), rng)
                for parent in best
                for _ in range(CHILDREN)
            ]
            known = dict.fromkeys([*map(tuple, members.tolist()), *children])
            members = self._within(list(known), max_params, max_macs)
        return self._with_known(members, max_params, max_macs)

    def expect(self, architectures: np.ndarray) -> Expectation:
        """Expect of each network what the best recipe for the time gives."""
        rows = [tuple(row) for row in np.asarray(architectures).tolist()]
        _, recipes = self._best(rows)
        answer = self.model.predict(*self._about(rows, recipes))
        return Expectation(answer.mean, answer.low, answer.high, tuple(recipes), answer.note)

    def _best(self, rows: Sequence[Architecture]) -> tuple[np.ndarray, list[FineTune]]:
        """Return the mean expected of each network by the best recipe for it, and the recipes."""
        from metad2a.training.plan import ways

        pairs = ways(self.space, self.clock, rows, len(self.dataset.classes))
        # A network too large for the time is expected frozen all the same.
        pairs += [
            (number, PROBE.recipe) for number in set(range(len(rows))) - {n for n, _ in pairs}
        ]
        owner = np.array([number for number, _ in pairs], dtype=np.int64)
        recipes = [recipe for _, recipe in pairs]
        means = self._means([(rows[number], recipe) for number, recipe in pairs])
        order = np.lexsort((-means, owner))  # stable: of equals the first
        best = order[np.searchsorted(owner[order], np.arange(len(rows)))]
        return means[best], [recipes[at] for at in best]

    def _means(self, pairs: Sequence[tuple[Architecture, FineTune]]) -> np.ndarray:
        """Return the means expected of pairs, of which those that were asked before are remembered."""
        asked = self._asked
        if new := [pair for pair in pairs if pair not in asked]:
            rows, recipes = zip(*new, strict=True)
            asked.update(zip(new, self.model.means(*self._about(rows, recipes)), strict=True))
        return np.array([asked[pair] for pair in pairs])

    def _about(
        self, rows: Sequence[Architecture], recipes: Sequence[FineTune]
    ) -> tuple[Landmarks, SearchSpace, Sequence[Architecture], Sequence[FineTune], int, int]:
        """Return what the model is asked about pairs of network and recipe."""
        if self.landmarks is None:
            raise InputError("The dataset has no landmarks.")
        classes, images = len(self.dataset.classes), self.clock.images
        return self.landmarks, self.space, rows, recipes, classes, images

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

    def given(self, results: Sequence[Result]) -> PieceAnswers:
        """Let the model know these results."""
        other = copy.copy(self)
        other.results = _joined(self.results, results)
        other.model, other._asked = self._first, {}
        _, ways = other._best([one.architecture for one in other.results])
        for judged in sorted({one.judged or self._judged for one in other.results}):
            mine = [
                i for i, one in enumerate(other.results) if (one.judged or self._judged) == judged
            ]
            other.model = other.model.given(
                *self._about(
                    [other.results[i].architecture for i in mine],
                    [other.results[i].recipe or ways[i] for i in mine],
                ),
                [other.results[i].accuracy for i in mine],
                judged,
            )
        other._asked = {}
        return other

    def noise(self, accuracy: float) -> float:
        """Return :data:`TIED`."""
        return TIED

    def meaning(self) -> str:
        """Name the time."""
        known = (
            f" What {_those(len(self.results))} known here is part of it." if self.results else ""
        )
        return (
            "Accuracy is what `metad2a train` is expected to reach on test images in "
            f"{self.minutes:g} minutes on this machine, from pretrained weights.{known}"
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


def _joined(known: Sequence[Result], new: Sequence[Result]) -> tuple[Result, ...]:
    return tuple({one.architecture: one for one in (*known, *new)}.values())


def _those(count: int) -> str:
    return (
        "the one network whose result is"
        if count == 1
        else f"the {count} networks whose results are"
    )
