"""Labels from one small fair-path supernet for each task.

Cheap, and poor teachers alone: a supernet that is stopped early ranks what learns fast. They are
stored as what they are, under protocols of their own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from metad2a.protocol import Protocol
from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskImages
from search.labellers.base import LABELLERS, Labeller, Measurement
from search.scores.angle import Angle
from search.scores.base import Context
from search.scores.rebn import BATCH, BATCHES, ReBNAccuracy
from search.searching import Search
from search.subspace.weight_sharing import sharing

STEPS = 120
_TRAINING = (
    f"{STEPS} steps of strictly fair paths (FairNAS), batch 64, 16 channels, one cell a stage, "
    "SGD nesterov 0.9, learning rate 0.025 to 0.001 along a cosine, weight decay 5e-4, random "
    "crops, at the task's own resolution"
)
ACCURACY = Protocol(
    "supernet-fair-v1",
    "accuracy",
    f"Test accuracy (0..1) with shared weights after {_TRAINING}; batch norm re-calibrated for "
    f"each child on up to {BATCHES} batches of {BATCH} training images.",
)
ANGLE = Protocol(
    "angle-v1",
    "score",
    f"Angle (radians) between shared weights at initialisation and after {_TRAINING}.",
)


class SupernetLabeller(Labeller):
    """Trains one supernet on the task, then reads every architecture off it."""

    protocols = (ACCURACY, ANGLE)
    shared = True

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield re-calibrated accuracy and angle of each architecture; a dead cell has no angle.

        The seconds of a measurement hold an equal share of the training's, split between the two.
        """
        if not architectures:
            return
        space = sharing(space)
        data = images.data
        started = time.perf_counter()
        # The method's settings are the protocols': a test holds them together.
        budget = STEPS * len(space.operations) * min(64, len(data.train_y))
        search = Search(
            data,
            space.name,
            "fairnas",
            seed=seed,
            device=device,
            images=budget,
            channels=16,
            cells=1,
            options={"fairnas.population": 1, "fairnas.generations": 1},
        )
        trained = search.conduct().run.shared()
        context = Context(space, data, trained, device, seed)
        accuracy = ReBNAccuracy(context)
        angles = Angle(context).score(architectures)
        share = (time.perf_counter() - started) / (2 * len(architectures))
        for architecture, angle in zip(architectures, angles, strict=True):
            started = time.perf_counter()
            value = float(accuracy.score([architecture])[0])
            seconds = share + time.perf_counter() - started
            yield Measurement(ACCURACY.name, architecture, seed, value, seconds)
            if np.isfinite(angle):
                yield Measurement(ANGLE.name, architecture, seed, float(angle), share)


LABELLERS.register("supernet")(SupernetLabeller())
