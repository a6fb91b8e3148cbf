"""A ``Dataset`` or ``DatasetDict`` of the Hugging Face library ``datasets``, which is not imported.

It is known by what it can do, so only those who have the library need it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset, read_image_file
from metad2a.datasets.columns import image_column, label_column
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.forms.parquet import split_of
from metad2a.datasets.labels import read_labels
from metad2a.errors import InputError

_ATTRIBUTES = ("features", "column_names", "cast_column", "with_format")


class HuggingFaceDataset(EncodedDataset):
    """The rows of one or several splits: a column of type ``Image``, and one of labels.

    Formats and transforms of the dataset are not applied: images are the stored files.

    Args:
        parts: datasets by the name of their split; a dataset alone has the name ``""``.

    Raises:
        InputError: a column is missing, splits are unlike, or the dataset is streamed.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.form = HuggingFaceForm.name
        parts = {str(name): parts[name] for name in sorted(parts, key=lambda n: split_of(str(n)))}
        self._splits: list[str] = []
        self._parts: list[Any] = []
        self._columns: list[str] = []
        labels: list[np.ndarray] = []
        names: list[list[str] | None] = []
        notes: list[str] = []
        without: list[tuple[str, str]] = []
        for split, part in parts.items():
            where = f"The split {split!r} of the dataset" if split else "The dataset"
            if not hasattr(part, "__len__"):
                raise InputError(
                    f"{where} is streamed and cannot be sampled. Load it without streaming=True."
                )
            image, label, chosen = _columns(where, part.features)
            if label is None:
                without.append((where, ", ".join(part.features)))
                continue
            self._splits.append(split)
            notes += [note for note in chosen if note not in notes]
            plain = part.with_format(None)
            stored = plain.select_columns([image])
            # The files as they are: decoding is for us, with our limits.
            self._parts.append(stored.cast_column(image, type(part.features[image])(decode=False)))
            self._columns.append(image)
            labels.append(np.fromiter(plain[label][:], dtype=object))
            names.append(getattr(part.features[label], "names", None))
            if names[-1] != names[0]:
                raise InputError(
                    f"{where} has other class names than the split "
                    f"{self._splits[0]!r}. Cast them alike."
                )
        if without:
            where, columns = without[0]
            if not self._parts:
                raise InputError(
                    f"{where} has no label column (ClassLabel, integers or strings, called "
                    f"'label'); its columns are {columns}. Rename or add the right one."
                )
            notes += [f"{where} has no label column and is left out." for where, _ in without]
        self.name = str(getattr(self._parts[0].info, "dataset_name", None) or "dataset")
        found = read_labels(np.concatenate(labels), names[0])
        self._kept = found.kept
        self.labels, self.classes = found.labels, found.classes
        self.notes = (*notes, *found.notes)
        counts = [len(part) for part in labels]
        self._starts = np.cumsum([0, *counts])
        sides = [split_of(split) for split in self._splits]
        self.split = np.repeat(sides, counts).astype(np.int8)[found.kept]

    def _place(self, index: int) -> tuple[int, int]:
        row = int(self._kept[index])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image, from the table or from the local file that it names."""
        part, row = self._place(index)
        try:
            value = self._parts[part][row][self._columns[part]] or {}
        except Exception as error:  # Whatever the library raises on a damaged table.
            raise UnreadableImage(f"reading its row raised {type(error).__name__}") from error
        if value.get("bytes"):
            return bytes(value["bytes"])
        path = value.get("path")
        if not path:
            raise UnreadableImage("no image in the row")
        if "://" in path:
            raise UnreadableImage("stored elsewhere; download it first")
        return read_image_file(Path(path), self.limits)

    def locate(self, index: int) -> str:
        """Return the split and the row in it, counted from 0."""
        part, row = self._place(index)
        return f"{self._splits[part]}:{row}" if self._splits[part] else f"row {row}"


def _columns(
    where: str, features: Mapping[str, Any] | None
) -> tuple[str, str | None, tuple[str, ...]]:
    """Return the names of the image column and of the label column, and how it was chosen."""
    features = features or {}
    images = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if not images:
        raise InputError(
            f"{where} has no column of type Image; its columns are {', '.join(features) or 'none'}. "
            "Cast the right one: dataset.cast_column(name, datasets.Image())."
        )
    named = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    kinds = {name: _kind(features[name]) for name in features if name not in images}
    label, notes = label_column(kinds, named)
    return image_column(images), label, notes


def _kind(feature: Any) -> str:
    """Return the kind of a column as :func:`metad2a.datasets.columns.label_column` knows it."""
    dtype = str(getattr(feature, "dtype", ""))
    if isinstance(feature, (list, tuple)) or type(feature).__name__ in ("List", "Sequence"):
        return "several"
    if dtype.startswith(("int", "uint", "bool")):
        return "integer"
    if dtype.startswith("float"):
        return "float"
    return "text" if dtype.startswith(("string", "large_s")) else "other"


def _is_dataset(source: Any) -> bool:
    return all(hasattr(source, name) for name in _ATTRIBUTES)


class HuggingFaceForm(DatasetForm):
    """What has features and columns, or a mapping of split names to such."""

    name = "hugging face dataset"
    wanted = "a Hugging Face Dataset or DatasetDict with an Image column and labels"

    def accepts(self, source: Any) -> bool:
        """Whether it is one of them; torch's form, which is asked later, would take it too."""
        if isinstance(source, Mapping):
            return bool(source) and all(_is_dataset(part) for part in source.values())
        return _is_dataset(source)

    def open(self, source: Any) -> HuggingFaceDataset:
        """Read the labels of all splits, in the order train, others, test."""
        return HuggingFaceDataset(source if isinstance(source, Mapping) else {"": source})


FORMS.register(HuggingFaceForm.name)(HuggingFaceForm())
