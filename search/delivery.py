"""Trained networks as searches hand them out: float32 modules that take images from 0 to 1."""

from __future__ import annotations

import copy

from torch import nn

from metad2a.export.delivered import Delivered
from search.data import TaskData


def deliver(network: nn.Module, data: TaskData) -> Delivered:
    """Return a copy on the CPU, in float32 and evaluation mode, that takes images from 0 to 1."""
    plain = copy.deepcopy(network).float().cpu()
    mean, deviation = (value.flatten().tolist() for value in data.statistics())
    return Delivered(plain, mean, deviation).eval()
