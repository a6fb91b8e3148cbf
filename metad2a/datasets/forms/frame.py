"""A DataFrame with a column of images, or of their paths, and one of labels."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.columns import image_column, label_column
from metad2a.datasets.forms.arrays import ArrayDataset
from metad2a.datasets.forms.paths import PathsDataset
from metad2a.datasets.layout import SPLITS
from metad2a.datasets.tables import FILE_COLUMNS, plain
from metad2a.errors import InputError


class FrameForm(DatasetForm):
    """A DataFrame of pandas or polars, which is known by what it can do."""

    name = "data frame"
    wanted = "a DataFrame with columns 'image' and 'label'"

    def accepts(self, source: Any) -> bool:
        """Whether it has columns and rows as a DataFrame has."""
        return all(hasattr(source, name) for name in ("columns", "shape", "dtypes", "describe"))

    def open(self, source: Any) -> ImageDataset:
        """Take the columns of images, labels and sides.

        Raises:
            InputError: one of the first two is not found.
        """
        names = [str(name) for name in source.columns]
        columns = dict(zip(names, (list(source[name]) for name in source.columns), strict=True))
        firsts = {name: next(iter(values), None) for name, values in columns.items()}
        pictures = [name for name, value in firsts.items() if _is_picture(value)]
        files = sorted(
            (
                name
                for name, value in firsts.items()
                if isinstance(value, os.PathLike)
                or (isinstance(value, str) and plain(name) in FILE_COLUMNS)
            ),
            key=lambda name: FILE_COLUMNS.index(plain(name)) if plain(name) in FILE_COLUMNS else -1,
        )
        image = image_column(pictures) if pictures else next(iter(files), None)
        kinds = {name: _kind(value) for name, value in firsts.items() if name != image}
        side = next((n for n in names if plain(n) == "split" and _are_sides(columns[n])), None)
        kinds.pop(side or "", None)
        label, notes = label_column(kinds)
        if image is None or label is None:
            missing = "images or their paths, called 'image'" if image is None else "labels"
            raise InputError(
                f"The DataFrame has no column of {missing}; its columns are {', '.join(names)}. "
                "Rename them image and label."
            )
        told = columns[side] if side is not None else []
        sides = np.array([SPLITS[str(one).lower()] for one in told], dtype=np.int8)
        made = ArrayDataset if pictures else PathsDataset
        dataset = made(columns[image], columns[label], None, sides if side is not None else None)
        dataset.name, dataset.form = "frame", self.name
        dataset.notes = (*notes, *dataset.notes)
        return dataset


def _is_picture(value: Any) -> bool:
    """Whether it is an array or a Pillow image."""
    return len(getattr(value, "shape", ())) > 1 or hasattr(value, "getbands")


def _kind(value: Any) -> str:
    """Return the kind of a value as :func:`metad2a.datasets.columns.label_column` knows it."""
    if isinstance(value, str) or value is None:
        return "text"
    if isinstance(value, (list, tuple, set)):
        return "several"
    if isinstance(value, (int, np.integer, np.bool_)):
        return "integer"
    return "float" if isinstance(value, (float, np.floating)) else "other"


def _are_sides(values: list[Any]) -> bool:
    return all(str(value).lower() in SPLITS for value in values)


FORMS.register(FrameForm.name)(FrameForm())
