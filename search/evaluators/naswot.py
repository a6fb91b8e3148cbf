"""Score of an untrained network by how differently it cuts up a mini-batch.

Source: Mellor et al., "Neural Architecture Search without Training" (NASWOT), ICML 2021.
Each architecture starts from the same seed and sees the same images, in training mode and with one
output unit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metad2a.spaces import Architecture
from search.device import seeded
from search.evaluators import EVALUATORS, Context, Evaluator
from search.training_free import scores

BATCH = 64
CHANNELS = 16
CELLS = 1


class Naswot(Evaluator):
    """Log-determinant of the kernel of binary activation codes."""

    def __init__(self, context: Context) -> None:
        self.space, self.seed = context.space, context.seed
        # On the CPU: a score is milliseconds of small matrices in float64.
        images, _ = context.data.normalised("train")
        self.images = images[np.random.default_rng(context.seed).permutation(len(images))[:BATCH]]

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) log-determinants; ``-inf`` for dead or degenerate networks."""
        values = np.full(len(architectures), -np.inf)
        for row, architecture in enumerate(architectures):
            if self.space.is_connected(architecture):
                with seeded(self.seed):
                    network = self.space.build(architecture, 1, channels=CHANNELS, cells=CELLS)
                value = scores(network, self.images, self.seed)["naswot"]
                values[row] = value if np.isfinite(value) else -np.inf
        return values


EVALUATORS.register("naswot")(Naswot)
