"""Trained networks as they are handed out: plain modules that take images from 0 to 1."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


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
