"""Arrays stored under names, as in ``.npz`` and HDF5: which are images, labels and class names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metad2a.datasets.archive import most_unpacked
from metad2a.datasets.forms.arrays import ArrayDataset
from metad2a.datasets.layout import SPLITS
from metad2a.errors import InputError

_IMAGES = ("images", "image", "imgs", "img", "pixels", "x", "inputs", "data", "features")
"""Words in the names of images, the surest first."""
_LABELS = frozenset(("labels", "label", "y", "targets", "target", "lab", "class", "classes"))
_LISTED = 8


@dataclass(frozen=True)
class Part:
    """Images and labels of one side of a set."""

    images: np.ndarray
    """As :class:`metad2a.datasets.forms.arrays.ArrayDataset` takes them."""
    labels: np.ndarray | Sequence[Any]
    side: int
    """0 for training or unspecified, 1 for validation or test."""


@dataclass(frozen=True)
class Stored:
    """An array that has not been read yet."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], np.ndarray]

    @property
    def bytes(self) -> int:
        """Bytes in memory."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


def open_parts(
    name: str, form: str, parts: Sequence[Part], classes: Sequence[str] | None = None
) -> ArrayDataset:
    """Return a dataset of the images of all sides, those for training first.

    Raises:
        InputError: their shapes, values or labels cannot be understood.
    """
    parts = sorted(parts, key=lambda part: part.side)
    shapes = {part.images.shape[1:] for part in parts}
    images = (
        np.concatenate([part.images for part in parts])
        if len(shapes) == 1
        else [image for part in parts for image in part.images]
    )
    labels = np.concatenate([np.asarray(part.labels) for part in parts])
    sides = np.repeat([part.side for part in parts], [len(part.labels) for part in parts])
    dataset = ArrayDataset(images, labels, classes, sides)
    dataset.name, dataset.form = name, form
    return dataset


def open_stored(
    name: str, form: str, arrays: Mapping[str, Stored], file_bytes: int | None
) -> ArrayDataset:
    """Return the dataset that arrays with names make.

    The keys of MedMNIST (``train_images``, ``train_labels``, ``val_images``, ...), of Keras
    (``x_train``, ``y_train``, ...) and plain ones (``images``, ``labels``; ``X``, ``y``) are known,
    and ``class_names``; of two arrays without such names the one with labels is the flat one.

    Args:
        name: of the dataset.
        form: of the file.
        arrays: what the file holds.
        file_bytes: its size, on which depends how much may come out of it; None: all is there.

    Raises:
        InputError: no images with labels are found, or there is too much of them.
    """
    roles = {key: _role(key, array) for key, array in arrays.items()}
    pairs: dict[str, list[str]] = {}
    for side in dict.fromkeys(_side(key) for key in arrays):
        found = [
            [key for key in arrays if _side(key) == side and roles[key] == role]
            for role in ("images", "labels")
        ]
        if found[0] and len(found[1]) == 1:
            pairs[side] = [min(found[0], key=_sure), found[1][0]]
    if not pairs and len(arrays) == 2:
        flat, deep = sorted(arrays, key=lambda key: len(arrays[key].shape))
        if len(arrays[flat].shape) == 1 < len(arrays[deep].shape):
            pairs[""] = [deep, flat]
    if not pairs:
        listed = ", ".join(f"{key!r} {array.shape}" for key, array in arrays.items())
        raise InputError(
            f"Its arrays are {listed[:300] or 'none'}: which are images and labels is not clear. "
            "Name them images and labels, or train_images, train_labels, test_images and "
            "test_labels."
        )
    names = [key for key, role in roles.items() if role == "names"]
    if len(names) > 1:
        names = [key for key in names if set(_words(key)) & _LABELS]
    used = [*(key for pair in pairs.values() for key in pair), *names]
    size = sum(arrays[key].bytes for key in used)
    most = size if file_bytes is None else most_unpacked(file_bytes)
    if size > most:
        raise InputError(
            f"Its arrays have {size / 1e6:,.0f} MB, more than the limit of {most / 1e6:,.0f} MB "
            "for a file of its size. Leave images out."
        )
    parts = [
        Part(arrays[images].read(), _texts(arrays[labels].read()), SPLITS.get(side, 0))
        for side, (images, labels) in pairs.items()
    ]
    classes = [str(one) for one in _texts(arrays[names[0]].read())] if len(names) == 1 else None
    dataset = open_parts(name, form, parts, classes)
    left = [key for key in arrays if key not in used]
    if left:
        dataset.notes += (f"Arrays that are not used: {', '.join(map(repr, left[:_LISTED]))}.",)
    return dataset


def _words(key: str) -> list[str]:
    last = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", key.rpartition("/")[2])
    return re.findall(r"[a-z]+", last.lower())


def _side(key: str) -> str:
    """Return the word of a side in a name or in the folders above it; none where there is none."""
    words = [*_words(key), *re.findall(r"[a-z]+", key.lower())]
    return next((word for word in words if word in SPLITS), "")


def _role(key: str, array: Stored) -> str | None:
    words = set(_words(key))
    if "names" in words and len(array.shape) == 1:
        return "names"
    if words & _LABELS and len(array.shape) in (1, 2):
        return "labels"
    return "images" if words & set(_IMAGES) and len(array.shape) > 1 else None


def _sure(key: str) -> int:
    return min(_IMAGES.index(word) for word in _words(key) if word in _IMAGES)


def _texts(values: np.ndarray) -> np.ndarray:
    """Return texts that are stored as bytes as texts, and other values as they are."""
    if values.dtype.kind not in "SO":
        return values
    plain = [one.decode("utf-8", "replace") if isinstance(one, bytes) else one for one in values]
    return np.array(plain, dtype=object)
