"""Accuracy of children with inherited weights and their own batch-norm statistics.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling" (SPOS),
ECCV 2020, section "Evolutionary Architecture Search": before a child is judged, the statistics of
its batch norms are recalculated on training images. They start from nothing for each child, as an
exact average over batches of equal size, so no child sees what another one left behind.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.spaces import Architecture
from search.scores.base import EVALUATORS, Context, Evaluator

BATCH = 128
BATCHES = 4
_SMALL_BATCH = 32  # where seconds count
_TEST_BATCH = 512


class ReBNAccuracy(Evaluator):
    """Fraction of right answers (0..1) on the test side after re-calibration on training images."""

    def __init__(self, context: Context) -> None:
        trained = context.trained()
        self.plan = trained.plan
        # A copy, so that the supernet keeps its own statistics and mode.
        self.network = copy.deepcopy(trained.network).requires_grad_(False)
        self.norms = [m for m in self.network.modules() if isinstance(m, nn.BatchNorm2d)]
        for norm in self.norms:
            norm.momentum = None  # cumulative average, every batch with the same weight
        self.data = data = context.data
        self.test_x, self.test_y = data.test_x, data.test_y
        rng, count = np.random.default_rng(context.seed), len(data.train_x)
        order = rng.permutation(count)
        if context.images is not None:
            count = min(count, context.images)
            some = torch.from_numpy(rng.permutation(len(data.test_y))[: context.images])
            self.test_x, self.test_y = data.test_x[some], data.test_y[some]
        size = min(BATCH, count)
        chosen = torch.from_numpy(order[: size * min(BATCHES, count // size)])
        # All images in float32 would be gigabytes, and are seldom wanted at once.
        images = self.data.standardised(self.data.train_x[chosen], self.plan.device)
        self.calibration = images.split(size)

    @torch.no_grad()
    def calibrate(self, architecture: Architecture, seconds: float = math.inf) -> None:
        """Give the batch norms on the child's path its own statistics.

        Args:
            architecture: the child.
            seconds: after which no further batch of training images is begun; batches are small
                then.
        """
        began = time.monotonic()
        for norm in self.norms:
            norm.reset_running_stats()
        self.network.train()
        batches = list(self.calibration)
        if seconds < math.inf:
            batches = [part for images in batches for part in images.split(_SMALL_BATCH)]
        for images in batches:
            with self.plan.autocast():
                self.network(images, architecture)
            if time.monotonic() - began > seconds:
                break
        self.network.eval()

    @torch.no_grad()
    def logits(self, images: Tensor, architecture: Architecture) -> Tensor:
        """Return float32 (n, classes) of the child that was calibrated last, for uint8 images."""
        with self.plan.autocast():
            found = self.network(self.data.standardised(images, self.plan.device), architecture)
        return cast(Tensor, found).float()

    def _accuracy(self, architecture: Architecture) -> float:
        self.calibrate(architecture)
        right = 0
        batches = zip(self.test_x.split(_TEST_BATCH), self.test_y.split(_TEST_BATCH), strict=True)
        for images, labels in batches:
            right += int((self.logits(images, architecture).argmax(1).cpu() == labels).sum())
        return right / len(self.test_y)

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) accuracies, 0..1."""
        return np.array([self._accuracy(a) for a in architectures], dtype=np.float64)


EVALUATORS.register("rebn")(ReBNAccuracy)
