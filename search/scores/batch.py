"""Accuracy of children with batch statistics: one mini-batch, no re-calibration.

Source: Dong et al., "NATS-Bench", TPAMI 2021, whose weight-sharing baselines judge a child on one
validation batch with the statistics of that batch. The cheapest judgement there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from metad2a.spaces import Architecture
from search.scores.base import EVALUATORS, Context, Evaluator

BATCH = 512


class BatchAccuracy(Evaluator):
    """Fraction of right answers (0..1) on one batch, normalised by the batch itself."""

    def __init__(self, context: Context) -> None:
        shared = context.trained()
        self.network, self.plan = shared.network, shared.plan
        data = context.data
        count = min(BATCH, context.images or BATCH)
        order = np.random.default_rng(context.seed).permutation(len(data.test_y))
        chosen = torch.from_numpy(order[:count])
        self.x = data.standardised(data.test_x[chosen], self.plan.device)
        self.y = data.test_y[chosen].to(self.plan.device)

    @torch.no_grad()
    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) accuracies, 0..1."""
        values = []
        for architecture in architectures:
            with self.plan.autocast():
                logits = self.network(self.x, architecture)
            values.append(float((logits.argmax(1) == self.y).double().mean()))
        return np.array(values, dtype=np.float64)


EVALUATORS.register("batch")(BatchAccuracy)
