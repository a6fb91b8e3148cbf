"""Strict fairness: every operation of every slot is on exactly one path of each step.

Source: Chu, Zhang, Xu, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural
Architecture Search", ICCV 2021, section "Strict Fairness" and its training algorithm. A path that
``none`` cuts gives its other operations no gradient, so with ``none`` in the space fairness holds
for being sampled; the published space has no such operation.
"""

from __future__ import annotations

import numpy as np

from metad2a.spaces import Architecture, SearchSpace
from search.samplers import SAMPLERS, Sampler


class FairPermutation(Sampler):
    """As many paths as there are operations, by one random permutation a slot."""

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        """Return m paths; path k takes the k-th operation of each slot's permutation."""
        count = len(space.operations)
        orders = rng.permuted(np.tile(np.arange(count), (space.slots, 1)), axis=1)
        return [tuple(int(op) for op in orders[:, k]) for k in range(count)]


SAMPLERS.register("fair")(FairPermutation())
