"""Score of an untrained network by how differently it cuts up a mini-batch.

Source: Mellor et al., "Neural Architecture Search without Training" (NASWOT), ICML 2021.
Each architecture starts from the same seed and sees the same images, without augmentation, in
training mode and with one output unit. In float32 throughout, so that a score does not depend on
what the processor can do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces import Architecture
from metad2a.training.device import plan, seeded
from search.evaluators import EVALUATORS, Context, Evaluator
from search.training_free import naswot

IMAGES = 128
"""Images in the mini-batch; all where there are fewer."""


class Naswot(Evaluator):
    """Log-determinant of the kernel of binary activation codes.

    Args:
        context: neither labels nor shared weights are used.
        macro: ``channels`` and ``cells`` of the networks; where None, what a supernet of the space
            has on this device.

    Raises:
        InputError: fewer than two different training images were drawn.
    """

    def __init__(self, context: Context, macro: Mapping[str, Any] | None = None) -> None:
        self.space, self.seed, self.place = context.space, context.seed, plan(context.device)
        on_cpu = self.place.device.type == "cpu"
        usual = self.space.search_macro if on_cpu else self.space.published_macro
        self.macro = usual if macro is None else macro
        data = context.data
        drawn = np.random.default_rng(self.seed).permutation(len(data.train_x))[:IMAGES]
        # No network can tell copies of an image apart, and one pair makes every kernel singular.
        _, first = np.unique(data.train_x[drawn].flatten(1).numpy(), axis=0, return_index=True)
        if len(first) < 2:
            raise InputError(
                f"NASWOT asks how well images are told apart, and the "
                f"{len(drawn)} training images drawn are all the same; 2 different "
                "ones are needed. Add images, or use another evaluator."
            )
        chosen = drawn[np.sort(first)]
        batch = replace(data, train_x=data.train_x[chosen], train_y=data.train_y[chosen])
        self.images, _ = batch.normalised("train", self.place.device)

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) log-determinants; ``-inf`` for dead or degenerate networks."""
        values = np.full(len(architectures), -np.inf)
        connected = self.space.connected(self.space.as_array(architectures))
        for row in np.flatnonzero(connected).tolist():
            with seeded(self.seed):
                network = self.space.build(architectures[row], 1, **self.macro)
            values[row] = naswot(self.place.place(network), self.images)
        return values


EVALUATORS.register("naswot")(Naswot)
