"""Images and labels in memory: ``(images, labels)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.arrays import array_to_rgb, as_numpy, check_shape, check_values
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.decode import UnreadableImage, to_rgb
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.levels import Spread, levels_of, spread_of
from metad2a.errors import InputError


class ArrayDataset(ImageDataset):
    """Images as one array, or as a list of arrays or Pillow images of several sizes.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels: uint8, bool, or
            any other numbers from 0 on, whose black and white are those of all images together
            (:mod:`metad2a.datasets.levels`). Of two layouts that fit, tensors are taken as
            (N, C, H, W).
        labels: see :func:`metad2a.datasets.labels.encode_labels`.
        classes: names that integer labels index.

    Raises:
        InputError: shapes, values or labels that cannot be understood.
    """

    def __init__(self, images: Any, labels: Any, classes: Sequence[str] | None = None) -> None:
        self.name, self.form = "arrays", ArrayForm.name
        self._channels_first = hasattr(images, "detach")
        self._images: Sequence[np.ndarray | Image.Image] | np.ndarray
        if isinstance(images, (list, tuple)):
            self._channels_first = any(hasattr(image, "detach") for image in images)
            # A Pillow image may still have to be read from its file, so it waits for its turn.
            self._images = [
                image if isinstance(image, Image.Image) else as_numpy(image, "Images")
                for image in images
            ]
        else:
            self._images = as_numpy(images, "Images")
            if self._images.ndim not in (3, 4):
                raise InputError(
                    f"Images have shape {self._images.shape}; give (N, H, W), "
                    "(N, H, W, C) or (N, C, H, W)."
                )
        self.labels, self.classes = encode_labels(labels, classes)
        self.split = np.zeros(len(self.labels), dtype=np.int8)
        if len(self._images) != len(self.labels):
            raise InputError(
                f"{len(self._images):,} images but {len(self.labels):,} labels. "
                "Give one label an image."
            )
        blocks = (
            [self._images]
            if isinstance(self._images, np.ndarray)
            else [image for image in self._images if not isinstance(image, Image.Image)]
        )
        try:
            for image in self._images:
                if not isinstance(image, Image.Image):
                    check_shape(image.shape)
            for block in blocks:
                if block.size:
                    check_values(block)
        except UnreadableImage as error:
            raise InputError(
                f"The images hold {error}. Give values from 0 on, before any normalisation, with "
                "1, 3 or 4 channels."
            ) from error
        if isinstance(self._images, np.ndarray) and self._images.dtype != np.uint8:
            found = spread_of(self._images)
            self.decided = levels_of([] if found is None else [found])

    def spread(self, index: int) -> Spread | None:
        """Measure an image with more than 8 bits; None for any other."""
        image = self._images[index]
        if not isinstance(image, Image.Image):
            return None if image.dtype == np.uint8 else spread_of(image)
        return spread_of(np.asarray(image)) if image.mode[0] in "IF" else None

    def image(self, index: int) -> np.ndarray:
        """Return an image as uint8 (height, width, 3), RGB."""
        image = self._images[index]
        if isinstance(image, Image.Image):
            return to_rgb(image, self.levels)
        return array_to_rgb(image, self.levels(), self._channels_first)

    def locate(self, index: int) -> str:
        """Return the position in the arrays."""
        return f"image {index}"


class ArrayForm(DatasetForm):
    """A tuple of images and labels, with or without class names."""

    name = "arrays"
    wanted = "arrays as (images, labels)"

    def accepts(self, source: Any) -> bool:
        """Whether it is a pair, or a triple whose last is the class names."""
        return isinstance(source, (tuple, list)) and len(source) in (2, 3)

    def open(self, source: Sequence[Any]) -> ArrayDataset:
        """Check shapes, values and labels."""
        return ArrayDataset(*source)


FORMS.register(ArrayForm.name)(ArrayForm())
