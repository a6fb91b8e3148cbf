"""Augmentation of mini-batches on the device that they lie on: every image in its own way.

:func:`augment` is for pretrained networks. A window of random size, shape and place is enlarged to the whole image, as in the random resized
crops of Szegedy et al., "Going Deeper with Convolutions" (CVPR 2015), but with a bound on how little
is left: small datasets lose more by crops that miss the object than they gain. The window may leave
the image a little; what lies outside is zero, which is what convolutions pad with. Draws come from
NumPy's generator, so that they are the same on any device.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

ASPECT = 0.15
"""Largest logarithm of what a window's width is stretched, and its height shrunk, by."""
SHIFT = 0.04
"""How far a window may leave the image on one side, as a share of the image's side."""


def random_crop(
    images: Tensor, rng: np.random.Generator, padding: int | None = None, flip: bool = False
) -> Tensor:
    """Crop each image at random out of itself with a border of zeros.

    Args:
        images: float (n, 3, side, side), standardised, so that zero is the mean colour.
        rng: source of all draws; how many it gives depends on n and ``flip`` alone.
        padding: pixels of the border; None: an eighth of the side.
        flip: mirror every second image, at random, from left to right.

    Returns:
        The same shape and dtype, in channels_last memory order.
    """
    count, _, _, side = images.shape
    padding = side // 8 if padding is None else padding
    rows, columns = (
        torch.from_numpy(rng.integers(0, 2 * padding + 1, (2, count, 1))) + torch.arange(side)
    ).to(images.device)
    if flip:
        mirrored = torch.from_numpy(rng.random(count) < 0.5).to(images.device)
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    every = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (padding,) * 4)
    # Indices around a slice put the channels last: (n, side, side, 3).
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def augment(
    images: Tensor, rng: np.random.Generator, flip: bool = False, zoom: float = 0.7
) -> Tensor:
    """Cut a random window out of each image, enlarged to the whole, and perhaps mirror it.

    Args:
        images: float (n, 3, side, side), normalised, so that zero is the colour of padding.
        rng: source of all draws; how many it gives depends on n alone.
        flip: mirror every second image, at random, from left to right.
        zoom: least side of a window as a share of the image's, 0 (excluded) to 1.

    Returns:
        The same shape, dtype and device, in channels_last memory order; interpolated bilinearly.
    """
    count, _, side, _ = images.shape
    size, stretch, mirror = rng.random((3, count))
    place = rng.uniform(-1, 1, (2, count))
    # In the units of grid_sample: an image reaches from -1 to 1.
    factor = np.exp(ASPECT * (2 * stretch - 1))
    scale = np.minimum((zoom + (1 - zoom) * size) * np.stack([factor, 1 / factor]), 1.0)
    centre = place * (1 - scale + 2 * SHIFT)
    if flip:
        scale[0] *= np.where(mirror < 0.5, -1.0, 1.0)
    scales, centres = torch.from_numpy(np.stack([scale, centre])).float().to(images.device)
    # As affine_grid without rotation, at a tenth of its time.
    line = (torch.arange(side, device=images.device) + 0.5) * (2 / side) - 1
    x, y = scales[:, :, None] * line + centres[:, :, None]
    grid = torch.empty(count, side, side, 2, device=images.device)
    grid[..., 0] = x[:, None, :]
    grid[..., 1] = y[:, :, None]
    cut = F.grid_sample(images, grid.to(images.dtype), padding_mode="zeros", align_corners=False)
    return cut.contiguous(memory_format=torch.channels_last)
