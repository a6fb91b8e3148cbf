"""A CSV or JSONL manifest beside the images: ``file_name``, ``label`` and perhaps ``split``.

As the ``metadata.csv`` and ``metadata.jsonl`` of Hugging Face's imagefolder; other columns are left
alone.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset, read_image_file
from metad2a.datasets.forms._manifest_rows import Row, lines, read_rows
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.layout import SPLITS
from metad2a.datasets.names import check_characters, shown
from metad2a.errors import InputError
from metad2a.settings import LIMITS

_SUFFIXES = (".csv", ".tsv", ".jsonl")
_LISTED = 5


class ManifestDataset(EncodedDataset):
    """The image files that a manifest names, in its order; a row that is there twice counts once.

    File names are relative to the folder of the manifest and stay in it. Some missing files are
    unreadable images; too many are an error.
    """

    def __init__(self, path: Path) -> None:
        self.name = path.absolute().parent.name if path.stem.lower() == "metadata" else path.stem
        self.form = ManifestForm.name
        rows = read_rows(path)
        self._root = path.absolute().parent
        try:
            _refuse_sides(rows)
            chosen = _unique(rows)
            self._files = list(chosen)
            _refuse_missing(self._root, self._files)
        except InputError as error:
            raise InputError(f"{path.name!r}: {error}") from error
        self.labels, self.classes = encode_labels(_numbers([row.label for row in chosen.values()]))
        self.split = np.array([_side(row) for row in chosen.values()], dtype=np.int8)

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        return read_image_file(self._root / self._files[index])

    def locate(self, index: int) -> str:
        """Return the file name, relative to the manifest."""
        return self._files[index]


def _side(row: Row) -> int | None:
    return SPLITS.get(row.split.lower()) if row.split else 0


def _refuse_sides(rows: list[Row]) -> None:
    wrong = [row for row in rows if _side(row) is None]
    if wrong:
        raise InputError(
            f"The split {shown(wrong[0].split)} is not known "
            f"({lines([row.line for row in wrong])}). "
            f"Write one of {', '.join(SPLITS)}, or leave it empty."
        )


def _unique(rows: list[Row]) -> dict[str, Row]:
    """Return the rows by normalised file name, in their order.

    Raises:
        InputError: a name leads out of the folder, or a file has two labels or splits.
    """
    found: dict[str, Row] = {}
    outside = [row for row in rows if _leaves(row.file)]
    if outside:
        raise InputError(_outside([row.file for row in outside]))
    for row in rows:
        check_characters(row.file)
        check_characters(str(row.label))
        file = posixpath.normpath(row.file.replace("\\", "/"))
        first = found.setdefault(file, row)
        if (first.label, _side(first)) != (row.label, _side(row)):
            raise InputError(
                f"{shown(file)} is there twice with another label or split, "
                f"{shown(str(first.label))} in line {first.line:,} and {shown(str(row.label))} in "
                f"line {row.line:,}. Remove one."
            )
    return found


def _leaves(file: str) -> bool:
    name = file.replace("\\", "/")
    return (
        name.startswith("/")
        or "\0" in name
        or ".." in name.split("/")
        or re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", name) is not None
    )  # C:\x, https://x


def _outside(files: list[str]) -> str:
    return (
        f"{len(files):,} files lie outside the folder of the manifest: {_listed(files)}. "
        "Put them into it, and write their paths relative to the manifest."
    )


def _refuse_missing(root: Path, files: list[str]) -> None:
    home = os.path.realpath(root)
    missing, outside = [], []
    for file in files:
        path = root / file
        if not os.path.isfile(path):  # noqa: PTH113  (Path.is_file raises on names too long)
            missing.append(file)
        elif not Path(os.path.realpath(path)).is_relative_to(home):  # through a link
            outside.append(file)
    if outside:
        raise InputError(_outside(outside))
    if len(missing) > LIMITS.unreadable_share * len(files):
        raise InputError(
            f"{len(missing):,} of {len(files):,} files are missing: "
            f"{_listed(missing)}. Write paths relative to the manifest."
        )


def _listed(files: list[str]) -> str:
    rest = len(files) - _LISTED
    return ", ".join(shown(file) for file in files[:_LISTED]) + (
        f" and {rest:,} more" if rest > 0 else ""
    )


def _numbers(labels: list[str | int]) -> list[str] | list[int]:
    """Return integers if all labels are, so that 10 comes after 9; else text."""
    texts = [str(label) for label in labels]
    whole = all(re.fullmatch(r"0|-?[1-9][0-9]{0,17}", text) for text in texts)
    return [int(text) for text in texts] if whole else texts


class ManifestForm(DatasetForm):
    """A file that ends in ``.csv``, ``.tsv`` or ``.jsonl``."""

    name = "manifest"
    wanted = "a CSV or JSONL manifest (columns 'file_name' and 'label') beside the images"

    def accepts(self, source: Any) -> bool:
        """Whether it is a file with such an ending."""
        return isinstance(source, Path) and source.is_file() and source.suffix.lower() in _SUFFIXES

    def open(self, source: Path) -> ManifestDataset:
        """Read the rows and look for the files."""
        return ManifestDataset(source)


FORMS.register(ManifestForm.name)(ManifestForm())
