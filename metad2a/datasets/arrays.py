"""Images and labels that are arrays: numpy, torch, lists; any usual layout and value range."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.decode import UnreadableImage, to_rgb
from metad2a.datasets.levels import Levels
from metad2a.errors import InputError

_CHANNELS = (1, 3, 4)


def as_numpy(values: Any, what: str) -> np.ndarray:
    """Return an array, a tensor of any device, or nested lists as a numpy array.

    Raises:
        InputError: ``what`` (a plural noun) cannot be made into one array.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu()
    try:
        return np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{what} cannot be read as one array ({str(error)[:120]}). "
            "Give numpy arrays or torch tensors."
        ) from error


def check_values(array: np.ndarray) -> None:
    """Refuse values that are no picture: not finite, negative, or of a type without an order.

    Raises:
        UnreadableImage: they are.
    """
    if array.dtype.kind not in "biuf":
        raise UnreadableImage(f"pixels of type {array.dtype}")
    if array.dtype == np.uint8:
        return
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableImage("pixel values that are not finite")
    if low < 0:
        raise UnreadableImage(
            f"negative pixel values, down to {low:g}: leave Normalize out of the transforms, as "
            "networks here normalise by themselves"
        )


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse what is neither (H, W), (H, W, C) nor (C, H, W) with 1, 3 or 4 channels.

    Raises:
        UnreadableImage: the shape is of no image.
    """
    channels = len(shape) == 2 or (
        len(shape) == 3 and (shape[0] in _CHANNELS or shape[2] in _CHANNELS)
    )
    if not channels or 0 in shape:
        raise UnreadableImage(f"an array of shape {tuple(shape)}")


def array_to_rgb(array: np.ndarray, levels: Levels, channels_first: bool) -> np.ndarray:
    """Convert one image to uint8 (H, W, 3); alpha goes on white.

    Args:
        array: (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels.
        levels: which values become 0 and 255; those of uint8 are 0 and 255.
        channels_first: which layout to believe where both would fit.

    Raises:
        UnreadableImage: the shape is of no image.
    """
    check_shape(array.shape)
    if array.ndim == 2:
        array = array[:, :, None]
    elif array.shape[0] in _CHANNELS and (channels_first or array.shape[2] not in _CHANNELS):
        array = array.transpose(1, 2, 0)
    if array.dtype != np.uint8:
        array = levels.eight_bits(array)
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    if array.shape[2] == 4:
        array = to_rgb(Image.fromarray(np.ascontiguousarray(array)))
    return np.array(array, order="C")
