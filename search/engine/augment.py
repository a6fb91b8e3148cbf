"""Augmentation of whole mini-batches as tensors, on whatever device they lie."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def random_crop(images: Tensor, rng: np.random.Generator, flip: bool = False) -> Tensor:
    """Crop each image at random out of itself padded by an eighth of its side with zeros.

    Args:
        images: float (n, 3, side, side), standardised, so that zero is the mean colour.
        rng: source of the offsets.
        flip: mirror every second image, at random, from left to right.

    Returns:
        The same shape and dtype, in channels_last memory order.
    """
    count, _, _, side = images.shape
    pad = side // 8
    rows, columns = (
        torch.from_numpy(rng.integers(0, 2 * pad + 1, (2, count, 1))) + torch.arange(side)
    ).to(images.device)
    if flip:
        mirrored = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    every = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (pad, pad, pad, pad))
    # Indices around a slice put the channels last: (n, side, side, 3).
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
