"""Random views of images, for learning without labels; whole mini-batches as tensors.

Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations"
(SimCLR), ICML 2020, appendix A, with the rates that SSWP-NAS uses on CIFAR: a random resized crop,
a flip, colour jitter (.8, .8, .8, .2) with probability .3, grayscale .2, and a 3x3 blur of sigma 1
to 2 with probability .2.

The images are standardised per channel, not pixels in 0 to 1, so the colours are changed there.
Brightness scales about what black has become, which equals scaling the pixels; contrast scales
about the image's mean luminance; saturation, hue and grayscale are linear maps of the channels, by
the weights that luminance has for pixels. Nothing is clipped, and the order is always the same.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the image, width to height
_FLIP, _JITTER, _GRAY, _BLUR = 0.5, 0.3, 0.2, 0.2  # how often each happens
_STRENGTH, _HUE = 0.8, 0.2  # factors are 1 +- the first, turns of the colour circle +- the second
_SIGMA = (1.0, 2.0)  # pixels
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_TO_YIQ = np.array([_LUMINANCE, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])


def two_views(images: Tensor, black: Tensor, rng: np.random.Generator) -> Tensor:
    """Return float (2n, 3, side, side): rows i and i + n are independent views of image i.

    Args:
        images: float (n, 3, side, side), standardised.
        black: float (3,) on the CPU, what black has become in each channel.
        rng: source of all choices.
    """
    x = _crop(images.contiguous().repeat(2, 1, 1, 1), rng)  # plain order is faster here
    return _blur(_recolour(x, black, rng), rng).contiguous(memory_format=torch.channels_last)


def _crop(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Resize a random rectangle of each image to the full side, half of them mirrored."""
    count = len(x)
    area = rng.uniform(*_AREA, count)
    ratio = np.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), count))
    width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
    mirror = np.where(rng.random(count) < _FLIP, -1, 1)
    maps = np.zeros((count, 2, 3))  # from the crop's coordinates, -1 to 1, to the image's
    maps[:, 0, 0], maps[:, 0, 2] = width * mirror, rng.uniform(-1, 1, count) * (1 - width)
    maps[:, 1, 1], maps[:, 1, 2] = height, rng.uniform(-1, 1, count) * (1 - height)
    grid = F.affine_grid(_like(maps, x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _recolour(x: Tensor, black: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of some images, and make some gray.

    One after another they are one affine map of the three channels, A x + b, in each image.
    """
    count, luminance = len(x), np.array(_LUMINANCE)
    jittered, gray = rng.random(count) < _JITTER, rng.random(count) < _GRAY
    factors = rng.uniform(1 - _STRENGTH, 1 + _STRENGTH, (3, count, 1))
    bright, contrast, saturation = np.where(jittered[:, None], factors, 1.0)
    turn = np.where(jittered, rng.uniform(-_HUE, _HUE, count), 0.0)
    lifted = (1 - bright) * black.numpy()  # (count, 3): what brightness adds
    means = bright * x.mean((2, 3)).cpu().numpy() + lifted
    added = contrast * lifted + (1 - contrast) * (means @ luminance)[:, None]
    colour = np.where(gray[:, None], 0.0, saturation)[:, :, None]
    mixed = (colour * np.eye(3) + (1 - colour) * luminance) @ _hue(turn)
    linear = (bright * contrast)[:, :, None] * mixed
    return torch.baddbmm(_like(mixed @ added[:, :, None], x), _like(linear, x), x.flatten(2)).view(
        x.shape
    )


def _hue(turn: np.ndarray) -> np.ndarray:
    """Return float (n, 3, 3): rotations of the colour plane of YIQ by (n,) shares of a circle."""
    rotation = np.tile(np.eye(3), (len(turn), 1, 1))
    cosine, sine = np.cos(2 * math.pi * turn), np.sin(2 * math.pi * turn)
    rotation[:, 1, 1], rotation[:, 1, 2] = cosine, -sine
    rotation[:, 2, 1], rotation[:, 2, 2] = sine, cosine
    rotations: np.ndarray = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return rotations


def _blur(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur some images by a Gaussian kernel of 3x3 pixels."""
    chosen = torch.from_numpy(np.flatnonzero(rng.random(len(x)) < _BLUR)).to(x.device)
    side = np.exp(-0.5 / rng.uniform(*_SIGMA, len(chosen)) ** 2)  # against 1 in the centre
    outer = _like(side / (1 + 2 * side), x).view(-1, 1, 1, 1)
    picked = x[chosen]
    rows = F.pad(picked, (0, 0, 1, 1), mode="replicate")
    picked = outer * (rows[:, :, :-2] + rows[:, :, 2:]) + (1 - 2 * outer) * picked
    columns = F.pad(picked, (1, 1, 0, 0), mode="replicate")
    picked = outer * (columns[..., :-2] + columns[..., 2:]) + (1 - 2 * outer) * picked
    return x.index_copy(0, chosen, picked)


def _like(values: np.ndarray, x: Tensor) -> Tensor:
    return torch.from_numpy(values).to(device=x.device, dtype=x.dtype)
