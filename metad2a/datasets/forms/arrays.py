"""Images and labels in memory: ``(images, labels)``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.arrays import array_to_rgb, as_numpy, check_shape, white_value
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.decode import UnreadableImage, to_rgb
from metad2a.datasets.labels import encode_labels
from metad2a.errors import InputError


class ArrayDataset(ImageDataset):
    """Images as one array, or as a list of arrays or Pillow images of several sizes.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels: uint8, uint16,
            other integers 0..255, bool, floats 0..1 or 0..255. The range is that of all images
            together. Of two layouts that fit, tensors are taken as (N, C, H, W).
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
        self._white = 255.0
        blocks = (
            [self._images]
            if isinstance(self._images, np.ndarray)
            else [image for image in self._images if not isinstance(image, Image.Image)]
        )
        try:
            for image in self._images:
                if not isinstance(image, Image.Image):
                    check_shape(image.shape)
            whites = [white_value(block) for block in blocks if len(block)]
        except UnreadableImage as error:
            raise InputError(
                f"The images hold {error}. Give 0 to 255, or floats 0 to 1, before any "
                "normalisation, with 1, 3 or 4 channels."
            ) from error
        if whites:
            self._white = max(whites)

    def image(self, index: int) -> np.ndarray:
        """Return an image as uint8 (height, width, 3), RGB."""
        image = self._images[index]
        if isinstance(image, Image.Image):
            return to_rgb(image)
        return array_to_rgb(image, self._white, self._channels_first)

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
