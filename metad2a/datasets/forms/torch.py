"""A map-style torch or torchvision ``Dataset`` of (image, label) pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.arrays import array_to_rgb, as_numpy, check_values
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.decode import UnreadableImage, to_rgb
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.levels import EIGHT_BITS, Spread, spread_of
from metad2a.errors import InputError

MOST_ITEMS = 10_000_000
"""Items of a dataset; one without end claims more."""


class TorchDataset(ImageDataset):
    """The items of a torch ``Dataset``; labels come without decoding where it lists them.

    Transforms of the dataset are applied, so a random one makes images differ between calls.
    """

    threads = False  # Nobody has written a dataset of their own for that.

    def __init__(self, dataset: Any) -> None:
        self.name, self.form = type(dataset).__name__, TorchForm.name
        self._dataset = dataset
        count = _length(dataset)
        labels = _listed_labels(dataset)
        if labels is None:
            labels = as_numpy([self._label(i) for i in range(count)], "Labels")
        names = _class_names(dataset)
        if (
            len(labels)
            and names is not None
            and not (labels.dtype.kind in "iu" and labels.min() >= 0 and labels.max() < len(names))
        ):
            names = None
        self.labels, self.classes = encode_labels(labels, names)
        if len(self.labels) != count:
            raise InputError(
                f"{self.name} lists {len(self.labels):,} labels for {count:,} "
                "items. Give (images, labels) instead."
            )
        self.split = np.zeros(len(self.labels), dtype=np.int8)

    def _item(self, index: int) -> tuple[Any, Any]:
        """Return an item's image and label, the label as a plain value."""
        item = self._dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            held = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
            raise InputError(
                f"Item {index} of {self.name} is a {type(item).__name__}{held}; "
                "expected a pair (image, label)."
            )
        image, label = item
        return image, label.item() if hasattr(label, "item") and np.size(label) == 1 else label

    def _label(self, index: int) -> Any:
        try:
            return self._item(index)[1]
        except InputError:
            raise
        except Exception as error:  # Whatever the user's own code raises.
            raise InputError(
                f"{self.name} lists no labels (.targets, .labels or .samples), and reading item "
                f"{index} for its label raised {type(error).__name__}: {str(error)[:100]}. Mend "
                "the item, or give the dataset an attribute 'targets'."
            ) from error

    def image(self, index: int) -> np.ndarray:
        """Fetch an item's image as uint8 (height, width, 3), RGB."""
        image = self._fetched(index)
        if isinstance(image, Image.Image):
            return to_rgb(image, self.levels)
        array = _array(image)
        levels = EIGHT_BITS if array.dtype == np.uint8 else self.levels()
        return array_to_rgb(array, levels, hasattr(image, "detach"))

    def spread(self, index: int) -> Spread | None:
        """Measure an image with more than 8 bits; None for any other."""
        image = self._fetched(index)
        if isinstance(image, Image.Image):
            return spread_of(np.asarray(image)) if image.mode[0] in "IF" else None
        array = _array(image)
        return None if array.dtype == np.uint8 else spread_of(array)

    def _fetched(self, index: int) -> Any:
        try:
            image = self._item(index)[0]
        except InputError:
            raise
        except Exception as error:  # Whatever the user's own code raises.
            raise UnreadableImage(f"reading it raised {type(error).__name__}") from error
        return image

    def locate(self, index: int) -> str:
        """Return the position in the dataset."""
        return f"item {index}"


def _array(image: Any) -> np.ndarray:
    array = as_numpy(image, "Images")
    if not array.size:
        raise UnreadableImage("empty array")
    check_values(array)
    return array


def _length(dataset: Any) -> int:
    """Return the number of items, or refuse a dataset that has none or claims no end of them."""
    try:
        count = len(dataset)
    except Exception as error:  # Whatever the user's own code raises.
        raise InputError(
            f"{type(dataset).__name__} has no length, so it cannot be sampled. Give "
            "it __len__ and items by index, or give (images, labels)."
        ) from error
    if count > MOST_ITEMS:
        raise InputError(
            f"{type(dataset).__name__} claims {count:,} items, more than the limit of "
            f"{MOST_ITEMS:,}. Give a torch.utils.data.Subset of it."
        )
    return count


def _listed_labels(dataset: Any) -> np.ndarray | None:
    """Return the labels that a dataset, or the one below a subset, lists without decoding."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        below = _listed_labels(dataset.dataset)
        return None if below is None else below[np.asarray(dataset.indices, dtype=np.int64)]
    listed = next(
        (
            getattr(dataset, name)
            for name in ("targets", "labels")
            if getattr(dataset, name, None) is not None
        ),
        None,
    )
    if listed is None and isinstance(getattr(dataset, "samples", None), list):
        listed = [sample[1] for sample in dataset.samples]
    if listed is None:
        return None
    transform = getattr(dataset, "target_transform", None)
    if transform is not None:
        listed = [transform(label) for label in listed]
    return as_numpy(listed, "Labels")


def _class_names(dataset: Any) -> list[str] | None:
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    names = getattr(dataset, "classes", None)
    return [str(name) for name in names] if isinstance(names, (list, tuple)) else None


class TorchForm(DatasetForm):
    """A torch ``Dataset``, or what has a length and items and is no path, array or collection."""

    name = "torch dataset"
    wanted = "a map-style torch Dataset of (image, label)"
    general = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a ``Dataset``, iterable ones included, or has a length and items."""
        other = (str, bytes, Path, tuple, list, Mapping, np.ndarray)
        if isinstance(source, other) or hasattr(source, "detach"):
            return False
        return all(hasattr(source, name) for name in ("__len__", "__getitem__")) or any(
            base.__module__ == "torch.utils.data.dataset" for base in type(source).__mro__
        )

    def open(self, source: Any) -> TorchDataset:
        """Read the labels."""
        return TorchDataset(source)


FORMS.register(TorchForm.name)(TorchForm())
