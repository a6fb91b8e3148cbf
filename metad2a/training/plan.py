"""What the minutes are spent on: network, resolution and recipe are chosen together.

Under a minute or two the dataset decides, by tens of points: some images want a frozen network at
224 px with a classifier in closed form, others a few stages at 64 px trained hard. Options are
members of the space that keep their weights whole, each with a few rates and as many epochs as the
time gives; a model of what fine-tuned networks reach (:mod:`metad2a.model.performance`) says what to
expect of each, from the dataset's landmarks.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from metad2a._files import write_file
from metad2a.errors import MetaD2AError
from metad2a.protocol import FINE_TUNE, PROBE, FineTune
from metad2a.settings import cache_folder

if TYPE_CHECKING:
    from metad2a.model.landmarks import Landmarks
    from metad2a.spaces import Architecture, SearchSpace
    from metad2a.training.device import DevicePlan

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
"""Peak rates among which is chosen, beside the frozen network."""
FROZEN = {
    0: (1.0, 0.0, 0.0),
    2: (0.66, 0.11, 0.41),
    3: (0.5, 0.13, 0.5),
}
"""First stages that stay frozen; what a training step costs then, as a share of the whole, in a
network of five stages, and what each further one adds; and how much of a forward pass they are. Early
stages are the dearest and change least, and steps are what is short. With five stages frozen steps cost
a fifth, and what is expected of so many of them was never measured (67.9 expected, 44.1 reached)."""
EARLY = 0.17
"""By how much each stage that a network lacks makes its multiply-adds slower on average: early stages
have the most pixels and the fewest channels."""
TRAINING_COST = (3.0, 292.0)
"""A training step's time over that of a pass that only looks, of as many multiply-adds at middling
resolution: a constant, and what is divided by the resolution. Small images in batches of 16 leave a
processor idle (6.8 to 8.6 times as long at 64 px, 5 to 6.2 at 96, 5 to 5.7 at 128; two cores)."""
LARGE = (128, 0.0026)
"""By how much each further pixel of the side, above so many, makes a pass that only looks slower by its
multiply-adds: the maps no longer stay in a processor's cache (37 to 29 picoseconds at 224 and 128 px)."""
PASSES = 1.6
"""Forward passes over the training images that a training takes beside its steps and one pass: the
classifier in closed form at the end, and looks at the images that choices are made by."""
EPOCHS = (1.0, 40.0)
"""Fewer epochs are not worth the step, more are not needed."""
LEARNT = (64, 5)
"""Least resolution, in pixels, and stages of the networks whose trainings were mostly learnt from. What
is expected of others is a guess, and the best of hundreds of guesses is too good to be true."""
LONG = 3.0
"""Epochs of some whole network after which none with fewer blocks is taken. In the same time a whole
one was better wherever one had as many: 53 playing cards after a minute 67.2 and 62.0 to 63.7, after
five 72.6 and 67.5 to 69.6; characters 92.5 and 90.6; flowers 75.3 and 71.3."""
FASTER = 1.25
"""Times as fast that a machine must turn out to be, for its known pace to be of a time of other work."""
UNSURE = 6.0
"""Points by which the expected difference of two networks on a dataset is off (docs/training.md)."""
WORTH = 0.1
"""Points that a second attempt must promise."""
_COMPARED = 12
"""Frozen networks, the best expected, of which it is asked what the time after them is worth."""


class Outlook(Protocol):
    """What is expected of networks on a dataset: see ``metad2a.model.performance``."""

    def predict(
        self,
        landmarks: Landmarks,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        recipes: Sequence[FineTune],
        classes: int,
        images: int,
    ) -> Any:
        """Return ``mean``, ``low`` and ``high``, percent, of pairs of network and recipe."""

    def means(
        self,
        landmarks: Landmarks,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        recipes: Sequence[FineTune],
        classes: int,
        images: int,
    ) -> np.ndarray:
        """Return the means alone, which takes less time."""

    def given(
        self,
        landmarks: Landmarks,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        recipes: Sequence[FineTune],
        classes: int,
        images: int,
        accuracies: Sequence[float],
        judged: int,
    ) -> Outlook:
        """Return the outlook that knows results, in percent of ``judged`` images."""


@dataclass(frozen=True)
class Plan:
    """One attempt."""

    architecture: Architecture
    recipe: FineTune
    """Its epochs are those that are foreseen."""
    expected: float | None
    """Accuracy in percent on images like those that train: decisions go by it."""
    reason: str
    predicted: float | None = None
    """Accuracy in percent on the test side, which may be of another kind."""
    interval: tuple[float, float] | None = None
    """Bounds of the 90 % interval of that."""


@dataclass(frozen=True)
class Time:
    """What there is and what things take here."""

    seconds: float
    """For everything that is still to be done."""
    macs_per_second: float
    """Multiply-adds of passes that only look, measured on this machine."""
    images: int
    """That train."""
    judged: int
    """Images that are judged, once."""

    def frozen(self, work: float, resolution: int) -> float:
        """Return the seconds of a frozen network: one pass over all images."""
        slower = 1 + LARGE[1] * max(0, resolution - LARGE[0])
        return (self.images + self.judged) * work * slower / self.macs_per_second

    def recipes(self, work: float, stages: int, resolution: int) -> list[FineTune]:
        """Return the ways to spend the time on a network of so much work (:func:`works`) and stages.

        Beside the frozen network: each rate with as many epochs as there is time for, after the
        passes that the closed forms and the judgement take; none where there is too little.
        """
        ways, once = [], self.frozen(work, resolution)
        if once <= self.seconds:
            ways.append(PROBE.recipe)
        forward = work * self.images / self.macs_per_second
        times = TRAINING_COST[0] + TRAINING_COST[1] / resolution
        for frozen, (share, more, part) in FROZEN.items():
            if frozen and frozen >= stages:
                continue
            passes = PASSES + FINE_TUNE.copies * part  # What comes out of the frozen ones is kept.
            left = self.seconds - once - passes * forward
            step = (share + more * max(0, stages - 5)) * times
            epochs = min(left / (step * forward), EPOCHS[1])
            if epochs >= EPOCHS[0]:
                ways += [FineTune(rate=rate, epochs=epochs, frozen_stages=frozen) for rate in RATES]
        return ways


@lru_cache(maxsize=8)
def _deepest(space: SearchSpace) -> tuple[list[Architecture], int]:
    """Return members of full depth, and how many stages they have."""
    pool = space.anchors() or space.pool(16, np.random.default_rng(0))
    depth = max(space.depth_in_stages(one) for one in pool)
    return [one for one in pool if space.depth_in_stages(one) == depth], depth


def works(space: SearchSpace, architectures: Sequence[Architecture], classes: int) -> np.ndarray:
    """Return float64 (n,): multiply-adds, as many as take as long in a network of full depth."""
    _, depth = _deepest(space)
    missing = np.array([depth - space.depth_in_stages(one) for one in architectures])
    macs: np.ndarray = space.costs(np.asarray(architectures), classes)[:, 1]
    return macs * (1 + EARLY * missing)


def _typical(space: SearchSpace) -> Architecture:
    """Return the network by which a machine's pace is measured: of full depth, of middling cost.

    Early stages are slower by their multiply-adds than the rest, so that shallow networks would
    make the machine look slow.
    """
    deep, _ = _deepest(space)
    costs = space.costs(np.asarray(deep), 10)[:, 1]
    return deep[int(np.argsort(costs)[len(costs) // 2])]


def pace(space: SearchSpace, place: DevicePlan) -> float:
    """Measure multiply-adds a second of passes that only look, of a network of the space."""
    import torch

    from metad2a.spaces._folding import folded

    architecture = _typical(space)
    network = folded(place.place(space.build(architecture, 10)).eval())
    side = space.resolution(architecture)
    x = torch.zeros(16, 3, side, side, device=place.device)
    x = x.contiguous(memory_format=place.memory_format)
    best = float("inf")
    with torch.no_grad(), place.autocast():
        for _ in range(3):
            start = time.perf_counter()
            network(x)
            if place.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
    return 16 * space.cost(architecture, 10).macs / best


def usual_pace(space: SearchSpace, place: DevicePlan) -> float:
    """Return what :func:`pace` has found on this machine, undisturbed.

    What is expected of a network depends on it, and the same question must have the same answer
    tomorrow, so that it is kept in the cache folder. What else runs while it is measured makes it
    smaller, never larger: it is replaced by what is :data:`FASTER`.
    """
    import torch

    found = pace(space, place)
    folder = cache_folder()
    if folder is None:
        return found
    path = folder / "pace.json"
    network = f"{space.name} {space.format(_typical(space))}"
    key = f"folded {network} {place.device} {torch.get_num_threads()} torch {torch.__version__}"
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(known, dict):
        known = {}
    before = known.get(key)
    if isinstance(before, float) and found < FASTER * before:
        return before
    with contextlib.suppress(OSError, MetaD2AError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, json.dumps({**known, key: found}).encode())
    return found


def admissible(
    space: SearchSpace,
    classes: int,
    seed: int,
    max_params: int | None,
    max_macs: int | None,
    *,
    cut: bool,
    drawn: int,
) -> list[Architecture]:
    """Return networks within limits: those that keep their weights whole, where there are any.

    Args:
        space: of the networks.
        classes: of the dataset.
        seed: of the draws.
        max_params: most trainable parameters.
        max_macs: most multiply-adds of one image.
        cut: with one block a stage too.
        drawn: how many others come in their place.

    Raises:
        BudgetError: a limit is below the smallest network.
    """
    found = space.anchors(cut=cut)
    if found:
        fits = space.feasible(np.asarray(found), classes, max_params, max_macs)
        found = [one for one, fit in zip(found, fits, strict=True) if fit]
    return found or space.pool(drawn, np.random.default_rng(seed), classes, max_params, max_macs)


def ways(
    space: SearchSpace, clock: Time, architectures: Sequence[Architecture], classes: int
) -> list[tuple[int, FineTune]]:
    """Return the ways to spend the time: positions in ``architectures``, each with a recipe.

    Networks below :data:`LEARNT` are only taken frozen, unless all of them are.
    """
    work = works(space, architectures, classes).tolist()
    sizes = [(space.resolution(one), space.depth_in_stages(one)) for one in architectures]
    learnt = [side >= LEARNT[0] and depth >= LEARNT[1] for side, depth in sizes]
    trained = learnt if any(learnt) else [True] * len(learnt)
    return [
        (number, recipe)
        for number, (takes, (side, depth)) in enumerate(zip(work, sizes, strict=True))
        for recipe in clock.recipes(takes, depth, side)
        if trained[number] or recipe.rate == 0
    ]


@dataclass(frozen=True)
class Planner:
    """What is expected of every way to spend the time on one dataset, and what is best begun with.

    Nothing is chosen by the test side, not even by its images without their labels: only what is
    predicted of a plan that was chosen is.
    """

    space: SearchSpace
    """Where the networks are from."""
    outlook: Outlook
    landmarks: Landmarks
    """Of the dataset, the test side included."""
    clock: Time
    """What there is time for."""
    classes: int
    """Of the dataset."""
    architectures: Sequence[Architecture]
    """Those that may be taken: one where the user chose, else members that obey his limits."""

    def expected(
        self, pairs: Sequence[tuple[Architecture, FineTune]], reason: str, outlook: Outlook
    ) -> list[Plan]:
        """Return pairs of network and recipe with what is expected of them."""
        means = outlook.means(*self._about(self.landmarks.of_training(), pairs))
        return [Plan(*pair, float(mean), reason) for pair, mean in zip(pairs, means, strict=True)]

    def told(self, plan: Plan, outlook: Outlook) -> Plan:
        """Return a plan with what is predicted of it on the test side."""
        answer = outlook.predict(*self._about(self.landmarks, [(plan.architecture, plan.recipe)]))
        mean, low, high = (float(one[0]) for one in (answer.mean, answer.low, answer.high))
        return dataclasses.replace(plan, predicted=mean, interval=(low, high))

    def _about(
        self, landmarks: Landmarks, pairs: Sequence[tuple[Architecture, FineTune]]
    ) -> tuple[Landmarks, SearchSpace, list[Architecture], list[FineTune], int, int]:
        """Return what an outlook is asked about pairs of network and recipe."""
        architectures = [architecture for architecture, _ in pairs]
        recipes = [recipe for _, recipe in pairs]
        return landmarks, self.space, architectures, recipes, self.classes, self.clock.images

    def _ways(self, seconds: float, reason: str, outlook: Outlook) -> list[Plan]:
        clock = dataclasses.replace(self.clock, seconds=seconds)
        found = self._not_short_of_time(ways(self.space, clock, self.architectures, self.classes))
        pairs = [(self.architectures[number], recipe) for number, recipe in found]
        return self.expected(pairs, reason, outlook) if pairs else []

    def _not_short_of_time(self, found: list[tuple[int, FineTune]]) -> list[tuple[int, FineTune]]:
        """Leave out trainings of cut networks where there is time for the whole ones."""
        whole = self._whole
        if all(recipe.epochs < LONG or number != whole[number] for number, recipe in found):
            return found
        return [
            (number, recipe)
            for number, recipe in found
            if recipe.rate == 0 or number == whole[number]
        ]

    @cached_property
    def _whole(self) -> list[int]:
        """Of each network the place of the one of most work that is as deep, at its resolution."""
        work = works(self.space, self.architectures, self.classes)
        sizes = [
            (self.space.resolution(one), self.space.depth_in_stages(one))
            for one in self.architectures
        ]
        largest: dict[tuple[int, int], int] = {}
        for number, size in enumerate(sizes):
            if size not in largest or work[number] > work[largest[size]]:
                largest[size] = number
        return [largest[size] for size in sizes]

    def exits(self, architecture: Architecture) -> list[Architecture]:
        """Return what one pass of a frozen network gives: itself, and shorter ones admitted."""
        shorter = self.space.shorter(architecture)
        return [architecture, *(one for one in shorter if one in self.architectures)]

    def first(self) -> list[Plan]:
        """Return one or two attempts, in the order in which they are to be made.

        A frozen network costs one pass and is known for certain; what time it leaves may be worth
        less to the training after it. Whichever promises most, trained at once, frozen alone, or
        frozen first, is taken, where the better of two attempts is kept.
        """
        found = self._ways(self.clock.seconds, "", self.outlook)
        if not found:  # the cheapest, with what time there is
            costs = self.space.costs(np.asarray(self.architectures), self.classes)[:, 1]
            cheapest = self.architectures[int(costs.argmin())]
            found = self.expected([(cheapest, PROBE.recipe)], "", self.outlook)
        told = f"the best expected of {len(found):,} ways to spend this time"
        frozen = {plan.architecture: plan for plan in found if plan.recipe.rate == 0}
        promised: list[tuple[float, list[Plan]]] = []
        trained = [plan for plan in found if plan.recipe.rate]
        if trained:
            plan = max(trained, key=_mean)
            promised.append(
                (_mean(plan), [dataclasses.replace(plan, reason=f"fine-tuned, {told}")])
            )
        # A pass of a longer network costs little more, and has the shorter ones on its way.
        on_the_way = {one for longer in frozen for one in self.space.shorter(longer)}
        groups = []
        for architecture in frozen.keys() - on_the_way:
            best = max(
                (frozen[one] for one in self.exits(architecture) if one in frozen), key=_mean
            )
            groups.append((_mean(best), dataclasses.replace(best, architecture=architecture)))
        # Of equals the shortest pass.
        work = dict(
            zip(frozen, works(self.space, list(frozen), self.classes).tolist(), strict=True)
        )
        groups.sort(key=lambda pair: (-pair[0], work[pair[1].architecture]))
        for alone, plan in groups[:_COMPARED]:
            left = self.clock.seconds - self.clock.frozen(
                work[plan.architecture], self.space.resolution(plan.architecture)
            )
            second = self._trained(left, self.outlook)
            both = alone if second is None else better_of_two(alone, _mean(second))
            if second is None or both - alone <= WORTH:
                attempt = dataclasses.replace(plan, reason=f"frozen, {told}")
                promised.append((alone, [attempt]))
                continue
            attempt = dataclasses.replace(
                plan, reason="frozen, since that is quickly known and may suffice"
            )
            promised.append((both - WORTH, [attempt, second]))
        _, plans = max(promised, key=lambda pair: pair[0])
        return [self.told(plan, self.outlook) for plan in plans]

    def then(
        self,
        seconds: float,
        tried: Sequence[Architecture],
        accuracies: Sequence[float],
        judged: int,
    ) -> Plan | None:
        """Return what the rest of the time is worth spending on, after frozen networks are known.

        Args:
            seconds: that are left.
            tried: frozen networks.
            accuracies: of them, percent, each image left out of the classifier that judged it.
            judged: images.
        """
        pairs = [(architecture, PROBE.recipe) for architecture in tried]
        known = self.outlook.given(
            *self._about(self.landmarks.of_training(), pairs), accuracies, judged
        )
        second = self._trained(seconds, known)
        reached = max(accuracies)
        if second is None or better_of_two(reached, _mean(second)) - reached <= WORTH:
            return None
        return self.told(second, known)

    def _trained(self, seconds: float, outlook: Outlook) -> Plan | None:
        """Return the best expected training for so many seconds, if there is time for one."""
        found = self._ways(seconds, "fine-tuned in the time that is left", outlook)
        return max((plan for plan in found if plan.recipe.rate), key=_mean, default=None)


def _mean(plan: Plan) -> float:
    return -math.inf if plan.expected is None else plan.expected


def better_of_two(one: float, other: float) -> float:
    """Return what the better of two attempts is expected to reach, whose expectations may err.

    The mean of the larger of two normal variables (Clark, "The greatest of a finite set of random
    variables", Operations Research 1961), whose difference is off by :data:`UNSURE` points.
    """
    z = (one - other) / UNSURE
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = (1 + math.erf(z / math.sqrt(2))) / 2
    return one * below + other * (1 - below) + UNSURE * density
