"""A folder tree with one folder a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset, read_image_file
from metad2a.datasets.forms.parquet import parquet_files
from metad2a.datasets.layout import read_layout
from metad2a.datasets.names import as_text
from metad2a.errors import InputError


class FolderDataset(EncodedDataset):
    """Image files in class folders; see :func:`metad2a.datasets.layout.read_layout`."""

    def __init__(self, root: Path) -> None:
        self.name, self.form = root.absolute().name, FolderForm.name
        self._root = root.absolute()
        # For the system a name need not be text: what is shown is, and files keep their own. Those
        # are few, and there may be a million others, so nothing else is kept twice.
        self._own: dict[str, str] = {}
        found = []
        for path in _walk(root):
            text = as_text(os.fsencode(path))
            if text != path:
                self._own[text] = path
            found.append(text)
        try:
            layout = read_layout(found)
        except InputError as error:
            raise InputError(f"{str(root)!r}: {error}") from error
        self._paths = layout.paths
        self.labels, self.classes, self.split = layout.labels, layout.classes, layout.split

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        path = self._paths[index]
        return read_image_file(self._root / self._own.get(path, path))

    def locate(self, index: int) -> str:
        """Return the path below the root."""
        return self._paths[index]


def _walk(root: Path) -> list[str]:
    """Return all files as relative paths with ``/``; linked folders are entered once."""
    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        relative = Path(folder).relative_to(root).as_posix()
        prefix = "" if relative == "." else f"{relative}/"
        found.extend(prefix + file for file in files)
    return found


class FolderForm(DatasetForm):
    """A folder that is no folder of Parquet files."""

    name = "class folders"
    wanted = "a folder with one folder of images a class"
    general = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a folder without Parquet files."""
        return isinstance(source, Path) and source.is_dir() and not parquet_files(source)

    def open(self, source: Path) -> FolderDataset:
        """List the image files."""
        return FolderDataset(source)


FORMS.register(FolderForm.name)(FolderForm())
