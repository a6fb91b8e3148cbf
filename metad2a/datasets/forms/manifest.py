"""A table of labels beside the images: a CSV, JSON or text file with names of files and labels.

As the ``metadata.csv`` of Hugging Face's imagefolder, and as Kaggle, spreadsheets and scripts write
them; see :mod:`metad2a.datasets.tables`. Columns other than file, label and side are left alone.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset, read_image_file
from metad2a.datasets.decode import EXTENSIONS
from metad2a.datasets.labels import one_spelling, read_labels
from metad2a.datasets.layout import SPLITS
from metad2a.datasets.names import check_characters, shown
from metad2a.datasets.tables import (
    MOST_BYTES,
    SUFFIXES,
    Names,
    Row,
    leaves,
    lines,
    numbers,
    read_table,
)
from metad2a.errors import InputError

_LISTED = 5
_MOST_FILES = 1_000_000
"""Files below a manifest's folder that are looked at for names that are not paths from there."""
_MISSING_SHARE = 0.5
"""Share of the files that may be missing; the rest is used, and the report says so."""


class ManifestDataset(EncodedDataset):
    """The image files that a manifest names, in its order; a row that is there twice counts once.

    File names are paths relative to the folder of the images; names from elsewhere are looked for
    in it by their last parts. No name leads out of it.

    Args:
        path: the manifest.
        images: the folder of the images; None: that of the manifest.
    """

    def __init__(self, path: Path, images: Path | None = None) -> None:
        self.name = path.absolute().parent.name if path.stem.lower() == "metadata" else path.stem
        self.form = ManifestForm.name
        self._root = (images or path.parent).absolute()
        try:
            table = read_table(_content(path), self._is_there, lambda text: text.lower() in SPLITS)
            _refuse_sides(table.rows)
            chosen, notes = self._placed(table.rows)
            rows = list(chosen.values())
            labels, spelt = one_spelling(["" if r.label is None else str(r.label) for r in rows])
            found = read_labels(numbers(labels))
        except InputError as error:
            raise InputError(f"{path.name!r}: {error}") from error
        files = list(chosen)
        self._files: list[str] = [files[i] for i in found.kept]
        self.labels, self.classes = found.labels, found.classes
        self.split = np.array([_side(rows[i]) for i in found.kept], dtype=np.int8)
        self.notes = (*table.notes, *spelt, *notes, *found.notes)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the names of the files that were not asked for."""
        return {key: value for key, value in self.__dict__.items() if key != "_names"}

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        return read_image_file(self._root / self._files[index], self.limits)

    def locate(self, index: int) -> str:
        """Return the file name, relative to the folder of the images."""
        return self._files[index]

    @cached_property
    def _names(self) -> Names:
        """All images below the folder; looked for only where a name is no path from there."""
        found: list[str] = []
        for folder, folders, files in os.walk(self._root):
            folders[:] = [name for name in folders if not name.startswith(".")]
            below = Path(folder).relative_to(self._root).as_posix()
            prefix = "" if below == "." else f"{below}/"
            found += [
                prefix + file
                for file in files
                if posixpath.splitext(file.lower())[1] in EXTENSIONS and not file.startswith(".")
            ]
            if len(found) > _MOST_FILES:
                break
        return Names(found, near=self.name.split("_"))

    def _is_there(self, name: str) -> bool:
        return self._direct(name) is not None or name in self._names

    def _direct(self, name: str) -> str | None:
        """Return the normal form of a path from the folder, if a file is there."""
        if leaves(name):
            return None
        file = posixpath.normpath(name.replace("\\", "/"))
        # os.path: Path.is_file raises on names that are too long.
        return file if os.path.isfile(self._root / file) else None  # noqa: PTH113

    def _placed(self, rows: list[Row]) -> tuple[dict[str, Row], list[str]]:
        """Return the rows by the paths of their files, and notes on those that are not there.

        Raises:
            InputError: a name leads out of the folder or fits several files, too many are missing,
                or a file has two labels or sides.
        """
        placed: dict[str, Row] = {}
        missing: list[str] = []
        outside: list[str] = []
        for row in rows:
            file = self._direct(row.file)
            if file is None:
                fitting = self._names.candidates(row.file, row.split)
                if len(fitting) > 1:
                    raise InputError(
                        f"{shown(row.file)} in line {row.line:,} stands for {len(fitting):,} "
                        f"files: {_listed(fitting)}. Write paths relative to the manifest."
                    )
                if not fitting and leaves(row.file):
                    outside.append(row.file)
                    continue
                if not fitting:
                    check_characters(row.file)
                    missing.append(row.file)
                    continue
                (file,) = fitting
            check_characters(file)
            check_characters(str(row.label))
            first = placed.setdefault(file, row)
            if (first.label, _side(first)) != (row.label, _side(row)):
                raise InputError(
                    f"{shown(file)} is there twice with another label or split, "
                    f"{shown(str(first.label))} in line {first.line:,} and "
                    f"{shown(str(row.label))} in line {row.line:,}. Remove one."
                )
        self._refuse_outside(outside, list(placed))
        if len(missing) > _MISSING_SHARE * len(rows) or not placed:
            raise InputError(
                f"{len(missing):,} of {len(rows):,} files are missing: {_listed(missing)}. Write "
                "paths relative to the manifest, or put it into the folder of the images."
            )
        if not missing:
            return placed, []
        return placed, [
            f"{len(missing):,} of {len(rows):,} files are missing and left out: {_listed(missing)}."
        ]

    def _refuse_outside(self, outside: list[str], files: Sequence[str]) -> None:
        home = os.path.realpath(self._root)
        linked = [
            file
            for file in files
            if not Path(os.path.realpath(self._root / file)).is_relative_to(home)
        ]
        if outside or linked:
            out = [*outside, *linked]
            raise InputError(
                f"{len(out):,} files lie outside the folder of the manifest: {_listed(out)}. Put "
                "them into it (a link does not count), or the manifest into theirs, and write "
                "their paths relative to it."
            )


def _content(path: Path) -> bytes:
    """Return the bytes of a manifest, and one more than may be if there are too many."""
    try:
        with path.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"It cannot be read: {error.strerror}.") from error


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


def _listed(files: Sequence[str]) -> str:
    rest = len(files) - _LISTED
    return ", ".join(map(shown, files[:_LISTED])) + (f" and {rest:,} more" if rest > 0 else "")


class ManifestForm(DatasetForm):
    """A file with the ending of a table."""

    name = "manifest"
    wanted = "a CSV, JSON or text manifest (columns 'file_name' and 'label') beside the images"

    def accepts(self, source: Any) -> bool:
        """Whether it is a file with such an ending."""
        return isinstance(source, Path) and source.is_file() and source.suffix.lower() in SUFFIXES

    def open(self, source: Path) -> ManifestDataset:
        """Read the rows and look for the files."""
        return ManifestDataset(source)


FORMS.register(ManifestForm.name)(ManifestForm())
