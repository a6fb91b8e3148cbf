"""Accuracy of children with inherited weights and their own batch-norm statistics.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling" (SPOS),
ECCV 2020, section "Evolutionary Architecture Search": before a child is judged, the statistics of
its batch norms are recalculated on training images. They start from nothing for each child, as an
exact average over batches of equal size, so no child sees what another one left behind.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from metad2a.spaces import Architecture
from search.evaluators import EVALUATORS, Context, Evaluator

BATCH = 128
BATCHES = 4
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
        images, _ = context.data.normalised("train", self.plan.device)
        size = min(BATCH, len(images))
        count = min(BATCHES, len(images) // size)
        order = np.random.default_rng(context.seed).permutation(len(images))[: size * count]
        self.calibration = images[torch.from_numpy(order).to(images.device)].split(size)
        self.test_x, self.test_y = context.data.normalised("test", self.plan.device)

    @torch.no_grad()
    def calibrate(self, architecture: Architecture) -> None:
        """Give the batch norms on the child's path its own statistics."""
        for norm in self.norms:
            norm.reset_running_stats()
        self.network.train()
        for images in self.calibration:
            with self.plan.autocast():
                self.network(images, architecture)
        self.network.eval()

    @torch.no_grad()
    def _accuracy(self, architecture: Architecture) -> float:
        self.calibrate(architecture)
        right = 0
        batches = zip(self.test_x.split(_TEST_BATCH), self.test_y.split(_TEST_BATCH), strict=True)
        for images, labels in batches:
            with self.plan.autocast():
                logits = self.network(images, architecture)
            right += int((logits.argmax(1) == labels).sum())
        return right / len(self.test_y)

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) accuracies, 0..1."""
        return np.array([self._accuracy(a) for a in architectures], dtype=np.float64)


EVALUATORS.register("rebn")(ReBNAccuracy)
