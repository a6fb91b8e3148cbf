"""Path samplers: which architectures a training step of a supernet goes through; one file each."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from metad2a.registry import Registry
from metad2a.spaces import Architecture, SearchSpace

__all__ = ["SAMPLERS", "Sampler"]


class Sampler(ABC):
    """Draws the paths of one training step."""

    @abstractmethod
    def paths(self, space: SearchSpace, rng: np.random.Generator) -> list[Architecture]:
        """Return the paths of one step: their gradients are summed, then the optimiser steps."""


SAMPLERS: Registry[Sampler] = Registry("path sampler", "search.samplers")
"""Samplers by name."""
