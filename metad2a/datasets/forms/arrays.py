"""Images and labels in memory: ``(images, labels)``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.arrays import array_to_rgb, as_numpy, check_shape, check_values
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.decode import UnreadableImage, to_rgb
from metad2a.datasets.labels import read_labels
from metad2a.datasets.levels import Spread, levels_of, spread_of
from metad2a.errors import InputError
from metad2a.settings import LIMITS


class ArrayDataset(ImageDataset):
    """Images as one array, or as a list of arrays or Pillow images of several sizes.

    Args:
        images: (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels: uint8, bool, or
            any other numbers from 0 on, whose black and white are those of all images together
            (:mod:`metad2a.datasets.levels`). Of two layouts that fit, tensors are taken as
            (N, C, H, W). Flat rows (N, S*S) are gray squares, and (N, 3*S*S) one channel after the
            other, as in CIFAR.
        labels: see :func:`metad2a.datasets.labels.read_labels`; images without one are left out.
        classes: names that integer labels index, as a list or a mapping from or to the integers.
        sides: int (N,), 1 for images that are for validation or test; None: 0 for all.

    Raises:
        InputError: shapes, values or labels that cannot be understood.
    """

    def __init__(
        self,
        images: Any,
        labels: Any,
        classes: Sequence[str] | Mapping[Any, Any] | None = None,
        sides: np.ndarray | None = None,
    ) -> None:
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
            if self._images.ndim == 2:
                self._images = self._squares(self._images)
            if self._images.ndim not in (3, 4):
                raise InputError(
                    f"Images have shape {self._images.shape}; give (N, H, W), "
                    "(N, H, W, C) or (N, C, H, W)."
                )
        found = read_labels(labels, class_names(classes))
        count = len(labels)
        if len(self._images) != count:
            raise InputError(
                f"{len(self._images):,} images but {count:,} labels. Give one label an image."
            )
        self._kept = found.kept
        self.labels, self.classes = found.labels, found.classes
        self.notes = (*self.notes, *found.notes)
        of_all = np.zeros(count, dtype=np.int8) if sides is None else np.asarray(sides, np.int8)
        self.split = of_all[found.kept]
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
            whole_set = spread_of(self._images)
            self.decided = levels_of([] if whole_set is None else [whole_set])

    def _squares(self, rows: np.ndarray) -> np.ndarray:
        """Return flat rows as pictures, where their length is that of a square one."""
        width = rows.shape[1]
        for channels in (1, 3):
            side = math.isqrt(width // channels)
            if side >= LIMITS.min_side and channels * side * side == width:
                order = "" if channels == 1 else ", one channel after the other"
                self.notes = (f"Rows of {width:,} numbers are read as {side}x{side} px{order}.",)
                return rows.reshape(-1, *((3,) if channels == 3 else ()), side, side)
        return rows

    def spread(self, index: int) -> Spread | None:
        """Measure an image with more than 8 bits; None for any other."""
        image = self._images[self._kept[index]]
        if not isinstance(image, Image.Image):
            return None if image.dtype == np.uint8 else spread_of(image)
        return spread_of(np.asarray(image)) if image.mode[0] in "IF" else None

    def image(self, index: int) -> np.ndarray:
        """Return an image as uint8 (height, width, 3), RGB."""
        image = self._images[self._kept[index]]
        if isinstance(image, Image.Image):
            return to_rgb(image, self.levels)
        return array_to_rgb(image, self.levels(), self._channels_first)

    def locate(self, index: int) -> str:
        """Return the position in the arrays."""
        return f"image {self._kept[index]}"


def class_names(classes: Any) -> list[str] | None:
    """Return class names by their index: of a list, or of ``{"cat": 0}`` or ``{0: "cat"}``."""
    if classes is None:
        return None
    if isinstance(classes, Mapping):
        if all(isinstance(key, str) for key in classes):
            classes = {index: name for name, index in classes.items()}
        try:
            classes = [classes[index] for index in range(len(classes))]
        except KeyError:
            return None  # They do not count the classes from 0.
    return [str(name) for name in classes]


class ArrayForm(DatasetForm):
    """A tuple of images and labels, with or without class names, or one such pair a side."""

    name = "arrays"
    wanted = "arrays as (images, labels), or ((images, labels), (test images, test labels))"
    general = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a pair, or a triple whose last is the class names."""
        return isinstance(source, (tuple, list)) and len(source) in (2, 3)

    def open(self, source: Sequence[Any]) -> ArrayDataset:
        """Check shapes, values and labels."""
        if not all(_is_pair(part) for part in source):
            return ArrayDataset(*source)
        images = [as_numpy(part[0], "Images") for part in source]
        labels = [as_numpy(part[1], "Labels") for part in source]
        sides = np.repeat([0, *([1] * (len(source) - 1))], [len(part) for part in labels])
        if len({part.shape[1:] for part in images}) > 1:
            return ArrayDataset(
                [i for part in images for i in part], np.concatenate(labels), None, sides
            )
        return ArrayDataset(np.concatenate(images), np.concatenate(labels), None, sides)


def _is_pair(part: Any) -> bool:
    """Whether something is the images and labels of one side, as Keras gives them."""
    return (
        isinstance(part, (tuple, list))
        and len(part) == 2
        and all(hasattr(one, "shape") for one in part)
        and len(part[0].shape) > 1
        and len(part[1].shape) in (1, 2)
        and len(part[0]) == len(part[1])
    )


FORMS.register(ArrayForm.name)(ArrayForm())
