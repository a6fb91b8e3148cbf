"""Paths of image files with their labels, or of the folders of classes, as Python collections."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset, read_image_file
from metad2a.datasets.forms.arrays import class_names
from metad2a.datasets.labels import read_labels
from metad2a.datasets.layout import is_image
from metad2a.errors import InputError

_LISTED = 3


class PathsDataset(EncodedDataset):
    """Image files anywhere on this machine, in the order given.

    Args:
        files: their paths.
        labels: (N,), as :func:`metad2a.datasets.labels.read_labels` takes them.
        classes: names that integer labels index.
        sides: int (N,), 1 for validation or test; None: 0 for all.

    Raises:
        InputError: more than half of the files are missing, or labels that cannot be used.
    """

    def __init__(
        self,
        files: Sequence[str | os.PathLike[str]],
        labels: Any,
        classes: Any = None,
        sides: np.ndarray | None = None,
    ) -> None:
        self.name, self.form = "files", PathsForm.name
        found = read_labels(labels, class_names(classes))
        if len(files) != len(labels):
            raise InputError(
                f"{len(files):,} images but {len(labels):,} labels. Give one label an image."
            )
        self._files = [Path(files[i]).expanduser().absolute() for i in found.kept]
        self.labels, self.classes, self.notes = found.labels, found.classes, found.notes
        whole = np.zeros(len(files), dtype=np.int8) if sides is None else np.asarray(sides, np.int8)
        self.split = whole[found.kept]
        missing = [str(path) for path in self._files if not os.path.exists(path)]  # noqa: PTH110
        if 2 * len(missing) > len(self._files):
            raise InputError(
                f"{len(missing):,} of {len(self._files):,} files are missing: "
                f"{', '.join(map(repr, missing[:_LISTED]))}. Paths that are not absolute start "
                f"from the working folder, {str(Path.cwd())!r}."
            )

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        return read_image_file(self._files[index], self.limits)

    def locate(self, index: int) -> str:
        """Return the path of the file."""
        return str(self._files[index])


class PathsForm(DatasetForm):
    """Files and labels, pairs of both, or files or folders by class."""

    name = "image paths"
    wanted = "paths of image files as (paths, labels), or a dict of the folder of each class"

    def accepts(self, source: Any) -> bool:
        """Whether it is one of them."""
        if isinstance(source, Mapping):
            return (
                bool(source)
                and all(map(_is_path, source))
                and all(_is_path(value) or _are_paths(value) for value in source.values())
            )
        if not isinstance(source, (tuple, list)) or not source:
            return False
        if _are_paths(source):
            return all(Path(path).expanduser().is_dir() for path in source)
        if len(source) in (2, 3) and _are_paths(source[0]):
            return not _is_path(source[1])
        return all(map(_is_labelled, source))

    def open(self, source: Any) -> PathsDataset:
        """List the files.

        Raises:
            InputError: a folder is missing or without images, or two have the same name.
        """
        if isinstance(source, Mapping):
            return _by_class(source)
        if _are_paths(source):
            names = [Path(path).expanduser().absolute().name for path in source]
            if len(set(names)) < len(names):
                raise InputError(
                    f"Two of the folders {', '.join(map(repr, names))} have the same name, which "
                    "would be the class. Give a dict of names and folders."
                )
            return _by_class(dict(zip(names, source, strict=True)))
        if _are_paths(source[0]) and not _is_labelled(source[0]):
            return PathsDataset(*source)
        return PathsDataset([file for file, _ in source], [label for _, label in source])


def _by_class(folders: Mapping[str, Any]) -> PathsDataset:
    files: list[str | os.PathLike[str]] = []
    labels: list[str] = []
    for name, place in folders.items():
        found = _images_in(name, place) if _is_path(place) else place
        files += found
        labels += [str(name)] * len(found)
    return PathsDataset(files, labels)


def _images_in(name: str, place: Any) -> list[Path]:
    folder = Path(place).expanduser()
    if not folder.is_dir():
        raise InputError(f"{str(place)!r}, the folder of {name!r}, does not exist. Mend the path.")
    found = sorted(
        path
        for path in folder.glob("**/*")
        if is_image(path.relative_to(folder).as_posix()) and path.is_file()
    )
    if not found:
        raise InputError(f"{str(place)!r}, the folder of {name!r}, holds no image. Mend the path.")
    return found


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _are_paths(values: Any) -> bool:
    return (
        isinstance(values, (list, tuple, np.ndarray))
        and len(values) > 0
        and all(map(_is_path, values))
    )


def _is_labelled(value: Any) -> bool:
    """Whether it is a pair of a path and a label."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and _is_path(value[0])
        and is_image(os.fspath(value[0]).replace("\\", "/").rpartition("/")[2])
        and isinstance(value[1], (str, int, np.integer))
    )


FORMS.register(PathsForm.name)(PathsForm())
