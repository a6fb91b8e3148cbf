"""Images squashed to squares, as the frozen protocol ``standalone-v1`` has them.

Its rows would mean something else with any other resize, so cells are searched for, measured and
described on squashed images. All else keeps the ratio of the sides:
:func:`metad2a.datasets.decode.square`, :class:`metad2a.datasets.batches.Batches`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from metad2a.datasets.base import ImageDataset
from metad2a.datasets.decode import UnreadableImage


def pixels(
    dataset: ImageDataset, indices: Sequence[int] | np.ndarray, resolution: int
) -> tuple[np.ndarray, np.ndarray]:
    """Decode images and squash them to squares, leaving unreadable ones out.

    Args:
        dataset: where they come from.
        indices: int (m,), any order.
        resolution: side of the squares, in pixels; an image of this size stays untouched.

    Returns:
        uint8 (n, resolution, resolution, 3) RGB, and int64 (n,): the indices kept, n <= m, both
        in the order of ``indices``.
    """
    wanted = np.asarray(indices, dtype=np.int64)
    out = np.empty((len(wanted), resolution, resolution, 3), dtype=np.uint8)
    readable = np.zeros(len(wanted), dtype=bool)
    # In the order of storage, so that a Parquet row group is read once.
    for row in np.argsort(wanted, kind="stable"):
        try:
            image, _ = dataset.reduced(int(wanted[row]), 2 * resolution)
        except UnreadableImage:
            continue
        out[row] = resize(image, resolution, resolution)
        readable[row] = True
    if readable.all():
        return out, wanted
    return out[readable], wanted[readable]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resample uint8 (h, w, 3) bilinearly, with antialiasing, to (height, width, 3)."""
    if image.shape[:2] == (height, width):
        return image
    resized = Image.fromarray(image).resize(
        (width, height), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    return np.array(resized)
