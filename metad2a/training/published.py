"""Training as the literature does it: crops, mirrors and cutout, drop path, a second classifier.

Sources: Liu, Simonyan and Yang, "DARTS: Differentiable Architecture Search", ICLR 2019; DeVries and
Taylor, "Improved Regularization of Convolutional Neural Networks with Cutout", 2017; drop path as
Larsson et al., "FractalNet", ICLR 2017, for each image of its own. Whether images are mirrored is
found out, not assumed; the last images of an epoch that fill no batch are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metad2a.training.augment import random_crop
from metad2a.training.loop import Training

if TYPE_CHECKING:
    from metad2a.protocol import Published


class PublishedTraining(Training):
    """A network with an auxiliary classifier on its way through a :class:`Published` recipe."""

    recipe: Published

    def _begun_optimiser(self) -> torch.optim.Optimizer:
        """Decay all weights alike, norms and biases too."""
        group = {
            "params": self.parameters,
            "weight_decay": self.recipe.weight_decay,
            "share": 1.0,
        }
        return torch.optim.SGD([group], self.recipe.rate, momentum=0.9)

    def _augmented(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        return cropped(x, rng, self.recipe.padding, self.recipe.cutout, self.flip)

    def step(self) -> float:
        """Take one step with the drop path of its epoch; return its loss.

        Raises:
            MetaD2AError: the loss is no longer a number.
        """
        epoch = self.done // self.steps_per_epoch
        self.network.drop_path = self.recipe.drop_path * epoch / self.recipe.epochs
        device = self.place.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            # What is dropped depends on the step's number alone, so that a stopped training goes on.
            torch.manual_seed(self.seed * 1_000_003 + self.done)
            return super().step()

    def _loss(self, logits: Any, labels: Tensor) -> Tensor:
        first, second = logits
        main: Tensor = self.loss(first.float(), labels)
        auxiliary: Tensor = self.loss(second.float(), labels)
        return main + self.recipe.auxiliary * auxiliary


def cropped(
    images: Tensor, rng: np.random.Generator, padding: int, cutout: int, flip: bool
) -> Tensor:
    """Crop each image at random out of itself with a border, perhaps mirror it, and blank a square.

    Args:
        images: float (n, 3, side, side), normalised, so that zero is the mean colour.
        rng: source of all draws; how many it gives depends on n and ``flip`` alone.
        padding: pixels of zeros on each side.
        cutout: side of the square in pixels, whose centre lies anywhere in the image.
        flip: mirror every second image, at random, from left to right.

    Returns:
        The same shape, dtype and device, in channels_last memory order.
    """
    crops = random_crop(images, rng, padding, flip)
    count, _, _, side = images.shape
    middles = rng.integers(0, side, (2, count, 1))
    rows, columns = np.abs(np.arange(side) + 0.5 - middles) <= cutout / 2
    kept = torch.from_numpy(~(rows[:, :, None] & columns[:, None, :])).to(images.device)
    return crops * kept[:, None]
