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
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from metad2a._files import write_file
from metad2a.errors import MetaD2AError
from metad2a.protocol import FINE_TUNE, FineTune
from metad2a.settings import cache_folder

if TYPE_CHECKING:
    from metad2a.model.landmarks import Landmarks
    from metad2a.spaces import Architecture, SearchSpace
    from metad2a.training.device import DevicePlan

RATES = (5e-4, 1e-3, 2e-3, 4e-3)
"""Peak rates among which is chosen, beside the frozen network."""
FROZEN = {0: 1.0, 2: 0.62, 3: 0.5}
"""First stages that stay frozen, and what a training step costs then, as a share of the whole. Early
stages are the dearest and change least, and steps are what is short."""
TRAINING_COST = (2.0, 350.0)
"""A training step's time over a forward pass's, of the same images: a constant, and what is divided
by the resolution. Small images in batches of 16 leave a processor idle (7 to 8 times as long at 64
px, 5.6 at 96, 4.2 at 128; two cores)."""
EPOCHS = (1.0, 40.0)
"""Fewer epochs are not worth the step, more are not needed."""
LEARNT = (64, 5)
"""Least resolution, in pixels, and stages of the networks whose trainings were mostly learnt from. What
is expected of others is a guess, and the best of hundreds of guesses is too good to be true."""
CLOSE = 6.0
"""Points by which a frozen network may be expected to lie behind and still be tried first."""
CHEAP, HALF = 0.3, 0.5
"""Share of the time that a frozen network may take that is tried first, and that one may take that
is expected to be best and leaves the rest to another attempt."""


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


@dataclass(frozen=True)
class Plan:
    """One attempt."""

    architecture: Architecture
    recipe: FineTune
    """Its epochs are those that are foreseen."""
    expected: float | None
    """Accuracy in percent."""
    interval: tuple[float, float] | None
    reason: str


@dataclass(frozen=True)
class Time:
    """What there is and what things take here."""

    seconds: float
    """For everything that is still to be done."""
    macs_per_second: float
    """Multiply-adds of forward passes, measured on this machine."""
    images: int
    """That train."""
    judged: int
    """Images that are judged, once."""

    def frozen(self, macs: int) -> float:
        """Return the seconds of a frozen network: one pass over all images."""
        return (self.images + self.judged) * macs / self.macs_per_second

    def recipes(self, macs: int, stages: int, resolution: int) -> list[FineTune]:
        """Return the ways to spend the time on a network of so many multiply-adds and stages.

        Beside the frozen network: each rate with as many epochs as there is time for, after the
        passes that the closed forms and the judgement take; none where there is too little.
        """
        ways = []
        if self.frozen(macs) <= self.seconds:
            ways.append(dataclasses.replace(FINE_TUNE, rate=0.0, epochs=0.0))
        times = TRAINING_COST[0] + TRAINING_COST[1] / resolution
        each = times * macs * self.images / self.macs_per_second
        for frozen, share in FROZEN.items():
            if frozen and frozen >= stages:
                continue
            # The closed form at the end, and what comes out of the frozen stages.
            passes = 1 + (FINE_TUNE.copies if frozen else 0)
            left = self.seconds - self.frozen(macs)
            left -= passes * self.images * macs / self.macs_per_second
            epochs = min(left / (share * each), EPOCHS[1])
            if epochs >= EPOCHS[0]:
                ways += [
                    dataclasses.replace(FINE_TUNE, rate=rate, epochs=epochs, frozen_stages=frozen)
                    for rate in RATES
                ]
        return ways


def _typical(space: SearchSpace) -> Architecture:
    """Return the network by which a machine's pace is measured: of full depth, of middling cost.

    Early stages are slower by their multiply-adds than the rest, so that shallow networks would
    make the machine look slow.
    """
    pool = space.anchors() or space.pool(16, np.random.default_rng(0))
    depth = max(space.depth_in_stages(one) for one in pool)
    deep = [one for one in pool if space.depth_in_stages(one) == depth]
    costs = space.costs(np.asarray(deep), 10)[:, 1]
    return deep[int(np.argsort(costs)[len(costs) // 2])]


def pace(space: SearchSpace, place: DevicePlan) -> float:
    """Measure multiply-adds a second of forward passes of a network of the space, in a second."""
    import torch

    architecture = _typical(space)
    network = place.place(space.build(architecture, 10)).eval()
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
    """Return what :func:`pace` found when it was first asked on this machine.

    What is expected of a network depends on it, and the same question must have the same answer
    tomorrow. It is kept in the cache folder; where that cannot be written it is measured each time.
    """
    import torch

    folder = cache_folder()
    if folder is None:
        return pace(space, place)
    path = folder / "pace.json"
    network = f"{space.name} {space.format(_typical(space))}"
    key = f"{network} {place.device} {torch.get_num_threads()} torch {torch.__version__}"
    known: dict[str, float] = {}
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(known, dict) or not isinstance(known.get(key), float):
        known = {**(known if isinstance(known, dict) else {}), key: pace(space, place)}
        with contextlib.suppress(OSError, MetaD2AError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, json.dumps(known).encode())
    return known[key]


def choose(
    space: SearchSpace,
    outlook: Outlook,
    landmarks: Landmarks,
    clock: Time,
    classes: int,
    architectures: Sequence[Architecture],
) -> list[Plan]:
    """Return one or two attempts, in the order in which they are made.

    Args:
        space: where the networks are from.
        outlook: what is expected.
        landmarks: of the dataset.
        clock: what there is time for.
        classes: of the dataset.
        architectures: those that may be taken: one where the user chose, else members that obey
            his limits.
    """
    pairs: list[tuple[Architecture, FineTune]] = []
    costs = space.costs(np.asarray(architectures), classes)[:, 1]
    sizes = [(space.resolution(one), space.depth_in_stages(one)) for one in architectures]
    known = [side >= LEARNT[0] and depth >= LEARNT[1] for side, depth in sizes]
    trained = known if any(known) else [True] * len(known)
    for architecture, macs, (side, depth), learns in zip(
        architectures, costs.tolist(), sizes, trained, strict=True
    ):
        ways = clock.recipes(macs, depth, side)
        pairs += [(architecture, recipe) for recipe in ways if learns or recipe.rate == 0]
    if not pairs:  # the cheapest, with what time there is
        cheapest = architectures[int(costs.argmin())]
        pairs = [(cheapest, dataclasses.replace(FINE_TUNE, rate=0.0, epochs=0.0))]
    answer = outlook.predict(
        landmarks, space, [a for a, _ in pairs], [r for _, r in pairs], classes, clock.images
    )
    mean = np.asarray(answer.mean)

    def plan(at: int, reason: str) -> Plan:
        interval = (float(answer.low[at]), float(answer.high[at]))
        return Plan(*pairs[at], float(mean[at]), interval, reason)

    best = int(mean.argmax())
    frozen = np.array([recipe.rate == 0 for _, recipe in pairs])
    cost = np.array([clock.frozen(macs) for macs in _macs(space, pairs, classes)])
    close = mean >= mean[best] - CLOSE
    told = f"the best expected of {len(pairs):,} ways to spend this time"
    if frozen[best]:
        attempts = [plan(best, f"frozen, {told}")]
        others = ~frozen & close
        if others.any() and cost[best] <= HALF * clock.seconds:
            second = int(np.where(others, mean, -np.inf).argmax())
            attempts.append(plan(second, "fine-tuned in the time that is left"))
        return attempts
    attempts = [plan(best, f"fine-tuned, {told}")]
    worth = frozen & close & (cost <= CHEAP * clock.seconds)
    if worth.any():
        first = int(np.where(worth, mean, -np.inf).argmax())
        attempts.insert(0, plan(first, "frozen, since that is quickly known and may suffice"))
    return attempts


def _macs(
    space: SearchSpace, pairs: Sequence[tuple[Architecture, FineTune]], classes: int
) -> list[int]:
    rows = np.array([architecture for architecture, _ in pairs])
    found: list[int] = space.costs(rows, classes)[:, 1].tolist()
    return found
