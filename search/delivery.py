"""Trained networks as they are handed out: plain float32 modules that take images from 0 to 1."""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import Tensor, nn

from search.data import TaskData

_BATCH = 500


class StandardisedNetwork(nn.Module):
    """A trained network behind the standardisation that it was trained with.

    ``side`` is the height and width, in pixels, of the images that it was trained on.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, deviation: Tensor, side: int) -> None:
        super().__init__()
        self.network, self.side = network, side
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (batch, 3, side, side), 0..1, to logits (batch, classes)."""
        return cast(Tensor, self.network((x - self.mean) / self.deviation))


def deliver(network: nn.Module, data: TaskData) -> StandardisedNetwork:
    """Return a copy on the CPU, in float32 and evaluation mode, that takes images from 0 to 1."""
    plain = copy.deepcopy(network).float().cpu()
    mean, deviation = data.statistics()
    return StandardisedNetwork(plain, mean, deviation, data.train_x.shape[-1]).eval()


@torch.no_grad()
def delivered_accuracy(network: StandardisedNetwork, data: TaskData) -> float:
    """Return the fraction (0..1) of the held-out images that a delivered network gets right."""
    right = 0
    batches = zip(data.test_x.split(_BATCH), data.test_y.split(_BATCH), strict=True)
    for images, labels in batches:
        right += int((network(images.float() / 255).argmax(1) == labels).sum())
    return right / len(data.test_y)
