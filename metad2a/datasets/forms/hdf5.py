"""Images and labels in an HDF5 file: arrays under names, as in ``.npz``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.stored import Stored, open_stored
from metad2a.errors import InputError

_ENDINGS = (".h5", ".hdf5", ".hdf", ".he5")
_MOST_ARRAYS = 1_000
"""Arrays of a file; those of images and labels are a few."""


class Hdf5Form(DatasetForm):
    """An HDF5 file with arrays of images and labels.

    The library that reads it is large and written in C, so a stranger's file is not opened; and no
    link in it is followed, since one may lead to any other file.
    """

    name = "hdf5 arrays"
    wanted = "an HDF5 file of such arrays"
    for_strangers = False

    def accepts(self, source: Any) -> bool:
        """Whether it is a file with one of HDF5's endings."""
        return isinstance(source, Path) and source.is_file() and source.suffix.lower() in _ENDINGS

    def open(self, source: Path) -> ImageDataset:
        """Read the arrays of images and labels into memory.

        Raises:
            InputError: h5py is missing, or the file cannot be used.
        """
        try:
            import h5py
        except ImportError as error:
            raise InputError(
                f"{source.name!r} needs h5py, which is not installed. Run: pip install "
                "'metad2a[hdf5]'"
            ) from error
        try:
            with h5py.File(source, "r") as file:
                arrays = {
                    name: Stored(tuple(array.shape), np.dtype(array.dtype), array.__array__)
                    for name, array in _arrays(h5py, file, "", {file})
                }
                return open_stored(source.stem, self.name, arrays, source.stat().st_size)
        except InputError as error:
            raise InputError(f"{source.name!r}: {error}") from error
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            reason = str(error).replace(str(source), "")[:150]
            raise InputError(
                f"{source.name!r} is no readable HDF5 file: {reason}. Write it again."
            ) from error


def _arrays(h5py: Any, group: Any, prefix: str, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names and arrays of a group and those in it, without what lies in other files."""
    count = 0
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            continue
        one = group[name]
        if one in seen:  # A group may hold itself.
            continue
        seen.add(one)
        if isinstance(one, h5py.Group):
            yield from _arrays(h5py, one, f"{prefix}{name}/", seen)
        elif isinstance(one, h5py.Dataset) and not one.external and not one.is_virtual:
            count += 1
            if count > _MOST_ARRAYS:
                raise InputError(
                    f"It has more than {_MOST_ARRAYS:,} arrays in one group. Write the images into "
                    "one array, or into class folders."
                )
            yield prefix + name, one


FORMS.register(Hdf5Form.name)(Hdf5Form())
