"""A map-style torch or torchvision ``Dataset``, or the ``DataLoader`` of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.arrays import array_to_rgb, as_numpy, check_values
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.columns import image_column, label_column
from metad2a.datasets.decode import UnreadableImage, to_rgb
from metad2a.datasets.forms.arrays import class_names
from metad2a.datasets.labels import read_labels
from metad2a.datasets.levels import EIGHT_BITS, Spread, spread_of
from metad2a.errors import InputError

MOST_ITEMS = 10_000_000
"""Items of a dataset; one without end claims more."""


class TorchDataset(ImageDataset):
    """The items of a torch ``Dataset``; labels come without decoding where it lists them.

    An item is a pair (image, label), perhaps with more behind it, or a dict of both. Transforms of
    the dataset are applied, so a random one makes images differ between calls.
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
        if names is not None and not _indexes(labels, names):
            names = None
        found = read_labels(labels, names)
        if len(labels) != count:
            raise InputError(
                f"{self.name} lists {len(labels):,} labels for {count:,} "
                "items. Give (images, labels) instead."
            )
        self._kept = found.kept
        self.labels, self.classes, self.notes = found.labels, found.classes, found.notes
        self.split = np.zeros(len(self.labels), dtype=np.int8)

    def _item(self, index: int) -> tuple[Any, Any]:
        """Return an item's image and label, the label as a plain value."""
        item = self._dataset[index]
        if isinstance(item, Mapping):
            image, label = self._of_dict(index, item)
        elif isinstance(item, (tuple, list)) and len(item) > 1:
            image, label, *_ = item
        else:
            held = f" of {len(item)}" if isinstance(item, (tuple, list)) else ""
            raise InputError(
                f"Item {index} of {self.name} is a {type(item).__name__}{held}; "
                "expected a pair (image, label)."
            )
        return image, label.item() if hasattr(label, "item") and np.size(label) == 1 else label

    def _of_dict(self, index: int, item: Mapping[Any, Any]) -> tuple[Any, Any]:
        """Return the image and the label of an item that is a dict, by the names of its keys."""
        pictures = [key for key, value in item.items() if np.ndim(_plain(value)) > 1]
        others = {str(key): _kind(value) for key, value in item.items() if key not in pictures}
        label, _ = label_column(others)
        if not pictures or label is None:
            raise InputError(
                f"Item {index} of {self.name} is a dict with the keys "
                f"{', '.join(map(repr, item))}; expected 'image' and 'label'."
            )
        return item[image_column(pictures)], item[label]

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
            image = self._item(int(self._kept[index]))[0]
        except InputError:
            raise
        except Exception as error:  # Whatever the user's own code raises.
            raise UnreadableImage(f"reading it raised {type(error).__name__}") from error
        return image

    def locate(self, index: int) -> str:
        """Return the position in the dataset."""
        return f"item {self._kept[index]}"


def _plain(value: Any) -> Any:
    """Return what NumPy tells the dimensions of: a Pillow image as one of two."""
    return np.empty((1, 1)) if isinstance(value, Image.Image) else value


def _kind(value: Any) -> str:
    """Return the kind of a value as :func:`metad2a.datasets.columns.label_column` knows it."""
    if isinstance(value, str):
        return "text"
    if np.size(value) > 1:
        return "several"
    return "integer" if isinstance(value, (int, np.integer)) or hasattr(value, "item") else "other"


def _indexes(labels: np.ndarray, names: list[str]) -> bool:
    """Whether labels are indices of names; -1 is none of them."""
    whole = labels.ndim == 1 and len(labels) > 0 and labels.dtype.kind in "iu"
    return whole and bool(labels.min() >= -1 and labels.max() < len(names))


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
    if isinstance(getattr(dataset, "datasets", None), list):  # several, one after the other
        parts = [_listed_labels(one) for one in dataset.datasets]
        if not parts or any(part is None for part in parts):
            return None
        return np.concatenate([part for part in parts if part is not None])
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
    """Return the class names of a dataset, or of the one below, or of several that are alike."""
    while not hasattr(dataset, "classes") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    if not hasattr(dataset, "classes") and isinstance(getattr(dataset, "datasets", None), list):
        found = [_class_names(one) for one in dataset.datasets]
        return found[0] if found and all(one == found[0] for one in found) else None
    names = getattr(dataset, "classes", None)
    return class_names(names) if isinstance(names, (list, tuple, Mapping)) else None


class TorchForm(DatasetForm):
    """A torch ``Dataset`` or ``DataLoader``, or what has a length and items and is none else.

    Of a loader the dataset is taken: batches and their order are made here.
    """

    name = "torch dataset"
    wanted = "a map-style torch Dataset of (image, label), or its DataLoader"
    general = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a ``Dataset``, iterable ones included, or has a length and items."""
        other = (str, bytes, Path, tuple, list, Mapping, np.ndarray)
        if isinstance(source, other) or hasattr(source, "detach"):
            return False
        return all(hasattr(source, name) for name in ("__len__", "__getitem__")) or any(
            base.__module__.startswith(("torch.utils.data.dataset", "torch.utils.data.dataloader"))
            for base in type(source).__mro__
        )

    def open(self, source: Any) -> TorchDataset:
        """Read the labels."""
        loader = hasattr(source, "dataset") and hasattr(source, "batch_sampler")
        return TorchDataset(source.dataset if loader else source)


FORMS.register(TorchForm.name)(TorchForm())
