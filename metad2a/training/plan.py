"""What the minutes are spent on: network, resolution and recipe are chosen together.

Under a minute or two the dataset decides, by tens of points: some images want a frozen network at
224 px with a classifier in closed form, others a few stages at 64 px trained hard. Options are
members of the space that keep their weights whole, each with a few rates and as many epochs as the
time gives; a model of what fine-tuned networks reach (:mod:`metad2a.model.performance`) says what to
expect of each, from the dataset's landmarks.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from metad2a.protocol import FINE_TUNE, FineTune

if TYPE_CHECKING:
    from metad2a.model.landmarks import Landmarks
    from metad2a.spaces import Architecture, SearchSpace
    from metad2a.training.device import DevicePlan

RATES = (5e-4, 1e-3, 2e-3)
"""Peak rates that are tried on paper beside the frozen network."""
TRAINING_COST = 4.8
"""A training step's time over a forward pass's, of the same images (4.5 to 5.1 measured)."""
EPOCHS = (0.5, 40.0)
"""Fewer epochs are not worth the step, more are not needed."""
CLOSE = 4.0
"""Points by which a frozen network may be expected to lie behind and still be tried first."""
CHEAP = 0.4
"""Share of the time that a frozen network tried first may take."""


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

    def epochs(self, macs: int) -> float:
        """Return how many epochs of training there is time for, beside the passes that a closed
        form and the judgement take."""
        left = self.seconds - self.frozen(macs)
        return left * self.macs_per_second / (TRAINING_COST * macs * self.images)


def pace(space: SearchSpace, place: DevicePlan) -> float:
    """Measure multiply-adds a second of forward passes of a network of the space, in a second."""
    import torch

    rng = np.random.default_rng(0)
    pool = space.anchors() or space.pool(16, rng)
    costs = space.costs(np.asarray(pool), 10)[:, 1]
    architecture = pool[int(np.argsort(costs)[len(costs) * 2 // 3])]
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
    for architecture, macs in zip(architectures, costs.tolist(), strict=True):
        if clock.frozen(macs) <= clock.seconds:
            pairs.append((architecture, dataclasses.replace(FINE_TUNE, rate=0.0, epochs=0.0)))
        epochs = min(clock.epochs(macs), EPOCHS[1])
        if epochs >= EPOCHS[0]:
            pairs += [
                (architecture, dataclasses.replace(FINE_TUNE, rate=rate, epochs=epochs))
                for rate in RATES
            ]
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
    attempts: list[Plan] = []
    if frozen.any():
        cost = np.array([clock.frozen(space.cost(a, classes).macs) for a, _ in pairs])
        worth = frozen & (cost <= CHEAP * clock.seconds) & (mean >= mean[best] - CLOSE)
        if not frozen[best] and worth.any():
            first = int(np.where(worth, mean, -np.inf).argmax())
            attempts.append(plan(first, "frozen, since that is quickly known and may suffice"))
            # What it takes is gone from the other's time; its epochs are counted when it begins.
    reason = "frozen network" if frozen[best] else "fine-tuned"
    attempts.append(
        plan(best, f"{reason}, the best expected of {len(pairs):,} ways to spend this time")
    )
    if frozen[best] and (~frozen).any():
        second = int(np.where(frozen, -np.inf, mean).argmax())
        if mean[second] >= mean[best] - CLOSE and cost_left(clock, space, pairs[best][0], classes):
            attempts.append(plan(second, "fine-tuned with the time that is left"))
    return attempts


def cost_left(clock: Time, space: SearchSpace, architecture: Architecture, classes: int) -> bool:
    """Return whether a frozen network leaves half of the time to something else."""
    return clock.frozen(space.cost(architecture, classes).macs) <= 0.5 * clock.seconds
