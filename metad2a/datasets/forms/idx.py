"""MNIST's own files: ``train-images-idx3-ubyte.gz`` with ``train-labels-idx1-ubyte.gz``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from metad2a.datasets.archive import most_unpacked
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.forms._uncompress import open_uncompressed
from metad2a.datasets.stored import Part, open_parts
from metad2a.errors import InputError

_IMAGES = re.compile(r"(?P<set>.*)images(?P<sign>[-._])idx3(?P<rest>[-._]ubyte(\.gz)?)", re.I)
_LABELS = re.compile(r"(?P<set>.*)labels(?P<sign>[-._])idx1(?P<rest>[-._]ubyte(\.gz)?)", re.I)
_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
"""NumPy's names of the types of values, by the third byte of a file."""


class IdxForm(DatasetForm):
    """A pair of IDX files, or a folder of pairs: one for training and perhaps one for testing."""

    name = "idx files"
    wanted = "a folder of IDX files (train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, ...)"

    def accepts(self, source: Any) -> bool:
        """Whether it is such a file, or a folder that holds one, as torchvision's ``MNIST`` does."""
        return isinstance(source, Path) and bool(_images(source))

    def open(self, source: Path) -> ImageDataset:
        """Read the files into memory."""
        files = _images(source)
        sets = {_set_of(path) for path in files}
        if len(sets) > 1:
            raise InputError(
                f"{source.name!r} holds several sets of IDX files: "
                f"{', '.join(repr(one) for one in sorted(sets))}. Give the images of one of them."
            )
        parts = [_part(path) for path in files]
        name = source.absolute().name if source.is_dir() else source.absolute().parent.name
        return open_parts(name, self.name, parts)


def _images(source: Path) -> list[Path]:
    """Return the files of images that a path stands for; a packed one only without its plain twin."""
    if source.is_file():
        labels = _LABELS.fullmatch(source.name)
        if labels:
            source = source.with_name(f"{labels['set']}images{labels['sign']}idx3{labels['rest']}")
        return [source] if _IMAGES.fullmatch(source.name) else []
    if not source.is_dir():
        return []
    found = [
        path
        for pattern in ("*idx3*", "*/*idx3*", "*/*/*idx3*")
        for path in sorted(source.glob(pattern))
        if _IMAGES.fullmatch(path.name)
    ]
    plain = {path.name for path in found}
    return [
        path
        for path in found
        if path.name.removesuffix(".gz") == path.name or path.name.removesuffix(".gz") not in plain
    ]


def _set_of(path: Path) -> str:
    """Return what stands before the side in a file's name, as in ``emnist-letters-train-images``."""
    found = _IMAGES.fullmatch(path.name)
    before = found["set"].lower() if found else ""
    return re.sub(r"(train|test|t10k|valid(ation)?|val)[-._]*$", "", before).strip("-._")


def _part(path: Path) -> Part:
    found = _IMAGES.fullmatch(path.name)
    assert found is not None, "these are the paths that match"
    test = re.search(r"(test|t10k|val)", found["set"].lower()) is not None
    stem = f"{found['set']}labels{found['sign']}idx1"
    places = [path.with_name(f"{stem}{rest}") for rest in (found["rest"], "-ubyte", "-ubyte.gz")]
    labels = next((place for place in places if place.is_file()), None)
    if labels is None:
        raise InputError(
            f"{path.name!r} has no labels beside it: {places[0].name!r} is missing. Put it there."
        )
    pictures, values = _read(path, 3), _read(labels, 1)
    if len(pictures) != len(values):
        raise InputError(
            f"{path.name!r} has {len(pictures):,} images, and {labels.name!r} {len(values):,} "
            "labels. Copy both again."
        )
    return Part(pictures, values, int(test))


def _read(path: Path, dimensions: int) -> np.ndarray:
    """Return the array of an IDX file, perhaps packed by gzip.

    Raises:
        InputError: it is damaged, or of other dimensions.
    """
    try:
        with open_uncompressed(path) as file:
            file.seek(0)
            return _array(file, dimensions, most_unpacked(path.stat().st_size))
    except InputError as error:
        raise InputError(f"{path.name!r}: {error}") from error
    except OSError as error:
        raise InputError(f"{path.name!r} cannot be read: {error.strerror}.") from error


def _array(file: BinaryIO, dimensions: int, most: int) -> np.ndarray:
    head = file.read(4 + 4 * dimensions)
    if len(head) < 4 + 4 * dimensions or head[:2] != b"\0\0" or head[2] not in _TYPES:
        raise InputError("It is no IDX file. Copy it again.")
    if head[3] != dimensions:
        raise InputError(
            f"Its array has {head[3]} dimensions, not {dimensions}. Is it another file?"
        )
    shape = tuple(int(one) for one in np.frombuffer(head, ">u4", dimensions, 4))
    dtype = np.dtype(_TYPES[head[2]])
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    data = file.read(min(size, most) + 1)
    if len(data) != size:
        raise InputError(f"It has not the {size:,} bytes of its {shape} values. Copy it again.")
    return np.frombuffer(data, dtype).reshape(shape)


FORMS.register(IdxForm.name)(IdxForm())
