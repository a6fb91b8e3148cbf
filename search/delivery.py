"""Trained networks as searches hand them out: float32 modules that take images from 0 to 1."""

from __future__ import annotations

import copy

import torch
from torch import nn

from metad2a.export.delivered import Delivered
from search.data import TaskData

_BATCH = 500


def deliver(network: nn.Module, data: TaskData) -> Delivered:
    """Return a copy on the CPU, in float32 and evaluation mode, that takes images from 0 to 1."""
    plain = copy.deepcopy(network).float().cpu()
    mean, deviation = (value.flatten().tolist() for value in data.statistics())
    return Delivered(plain, mean, deviation).eval()


@torch.no_grad()
def delivered_accuracy(network: Delivered, data: TaskData) -> float:
    """Return the fraction (0..1) of the held-out images that a delivered network gets right."""
    right = 0
    batches = zip(data.test_x.split(_BATCH), data.test_y.split(_BATCH), strict=True)
    for images, labels in batches:
        right += int((network(images.float() / 255).argmax(1) == labels).sum())
    return right / len(data.test_y)
