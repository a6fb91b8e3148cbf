"""One uniform path a step.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling" (SPOS),
ECCV 2020, section "Single Path Supernet and Uniform Sampling".
"""

from __future__ import annotations

import numpy as np

from metad2a.spaces import Architecture, SearchSpace
from search.samplers import SAMPLERS, Sampler


class Uniform(Sampler):
    """One path, every slot uniform and independent."""

    def paths(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        """Return a single path."""
        return [space.sample(rng)]


SAMPLERS.register("uniform")(Uniform())
