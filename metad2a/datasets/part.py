"""Some images of a dataset as a dataset of their own, its classes numbered anew."""

from __future__ import annotations

import numpy as np

from metad2a.datasets.base import EncodedDataset, ImageDataset
from metad2a.datasets.levels import Levels, Spread
from metad2a.settings import LIMITS

_LISTED = 5


class Part(ImageDataset):
    """Images of another dataset; classes without any are left out.

    Args:
        dataset: the other one, which is closed with this one.
        indices: int64 (n,), which of its images, ascending.
        note: what is said of the others.
    """

    def __init__(self, dataset: ImageDataset, indices: np.ndarray, note: str) -> None:
        self.name, self.form = dataset.name, dataset.form
        self.unused, self.layouts, self.kinds = dataset.unused, dataset.layouts, dict(dataset.kinds)
        self.threads, self.limits = dataset.threads, dataset.limits
        self.notes = (*dataset.notes, note)
        present, self.labels = np.unique(dataset.labels[indices], return_inverse=True)
        self.labels = self.labels.astype(np.int64)
        self.classes = tuple(dataset.classes[label] for label in present)
        self.split = dataset.split[indices]
        self._dataset, self._indices = dataset, indices

    def image(self, index: int) -> np.ndarray:
        """Decode an image to uint8 (height, width, 3), RGB."""
        return self._dataset.image(int(self._indices[index]))

    def reduced(self, index: int, side: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode an image as the other dataset does."""
        return self._dataset.reduced(int(self._indices[index]), side)

    def spread(self, index: int) -> Spread | None:
        """Measure the values of an image with more than 8 bits; None for any other."""
        return self._dataset.spread(int(self._indices[index]))

    def levels(self) -> Levels:
        """Return black and white of the images with more than 8 bits."""
        self.decided = self._dataset.levels()
        return self.decided

    def content(self, index: int) -> bytes:
        """Return the bytes that identify an image."""
        return self._dataset.content(int(self._indices[index]))

    def locate(self, index: int) -> str:
        """Return the name that the other dataset gives the image."""
        return self._dataset.locate(int(self._indices[index]))

    def shuffled(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the order in which the images are best visited."""
        return self._dataset.shuffled(self._indices[indices], rng)

    def close(self) -> None:
        """Close the other dataset."""
        self._dataset.close()


class EncodedPart(Part, EncodedDataset):
    """Image files of another dataset."""

    def __init__(self, dataset: EncodedDataset, indices: np.ndarray, note: str) -> None:
        super().__init__(dataset, indices, note)
        self._files = dataset

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        return self._files.encoded(int(self._indices[index]))


def without_thin(dataset: ImageDataset) -> ImageDataset:
    """Return a dataset without its classes of too few images, if that leaves enough classes."""
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    least = LIMITS.min_class_images
    thin = np.flatnonzero(counts < least)
    if not len(thin) or len(counts) - len(thin) < LIMITS.min_classes:
        return dataset
    listed = ", ".join(repr(dataset.classes[label]) for label in thin[:_LISTED])
    more = f" and {len(thin) - _LISTED:,} more" if len(thin) > _LISTED else ""
    note = (
        f"Warning: left out for having fewer than {least} images: "
        f"{'class' if len(thin) == 1 else 'classes'} {listed}{more}."
    )
    kept = np.flatnonzero(~np.isin(dataset.labels, thin))
    if isinstance(dataset, EncodedDataset):
        return EncodedPart(dataset, kept, note)
    return Part(dataset, kept, note)
