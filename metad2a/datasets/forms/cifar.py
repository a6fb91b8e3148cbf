"""CIFAR-10 and CIFAR-100 as their authors ship them: pickled batches, in a folder or a tar.

A pickle can run any program when it is opened, so no pickle is: the stream is read by an unpickler
that knows nothing but lists, dicts, texts, bytes, numbers and the *description* of an array (its
type, shape and bytes), from which the array is then made here. Anything else in it is an error.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from metad2a.datasets.archive import most_unpacked
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.forms._tar_list import list_members
from metad2a.datasets.forms._uncompress import open_uncompressed
from metad2a.datasets.stored import Part, open_parts
from metad2a.errors import InputError

_TARS = re.compile(r"cifar-?100?-python.*\.(tar|tar\.gz|tgz)", re.I)
_BATCHES = re.compile(r"(data_batch_\d+|test_batch|train|test)")
_META = ("batches.meta", "meta")
_LABELS = ("labels", "fine_labels", "coarse_labels")
_NAMES = {"labels": "label_names", "fine_labels": "fine_label_names"}


class CifarForm(DatasetForm):
    """A folder with ``batches.meta`` (or ``meta``) and batches, or the tar of one.

    The unpickler runs no program, but a few bytes can cost it any time and memory, so a stranger's
    file is not opened.
    """

    name = "cifar batches"
    wanted = "CIFAR's folder of batches, or its tar"
    for_strangers = False

    def accepts(self, source: Any) -> bool:
        """Whether it is such a folder, or a tar with the name of CIFAR's."""
        if not isinstance(source, Path):
            return False
        if source.is_file():
            return _TARS.fullmatch(source.name) is not None
        return _folder(source) is not None

    def open(self, source: Path) -> ImageDataset:
        """Read all batches into memory."""
        parts, classes = [], None
        for name, data in sorted(_files(source)):
            try:
                found = _unpickled(data)
                if name in _META:
                    classes = _class_names(found)
                else:
                    parts.append(_part(name, found))
            except InputError as error:
                raise InputError(f"{source.name!r}: {name!r}: {error}") from error
        if not parts:
            raise InputError(f"{source.name!r} holds no batch of CIFAR's. Unpack it again.")
        name = re.sub(r"\.(tar|tgz)(\.gz)?$", "", source.absolute().name, flags=re.I)
        return open_parts(name, self.name, parts, classes)


def _folder(source: Path) -> Path | None:
    """Return the folder of batches: the one given, or the one in it that torchvision makes."""
    for folder in (source, source / "cifar-10-batches-py", source / "cifar-100-python"):
        if any((folder / name).is_file() for name in _META) and any(
            _BATCHES.fullmatch(path.name) and path.is_file() for path in folder.iterdir()
        ):
            return folder
    return None


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the names and bytes of the batches and of the file that describes them."""
    folder = _folder(source) if source.is_dir() else None
    if folder is not None:
        for path in folder.iterdir():
            if path.name in _META or _BATCHES.fullmatch(path.name):
                most = most_unpacked(path.stat().st_size)
                with path.open("rb") as file:
                    yield path.name, file.read(most)
        return
    try:
        with open_uncompressed(source) as tar:
            for member in list_members(tar):
                name = member.name.rpartition("/")[2]
                if name in _META or _BATCHES.fullmatch(name):
                    yield name, _bytes(tar, member.start, member.size)
    except InputError as error:
        raise InputError(f"{source.name!r}: {error}") from error
    except OSError as error:
        raise InputError(f"{source.name!r} cannot be read: {error.strerror}.") from error


def _bytes(tar: BinaryIO, start: int, size: int) -> bytes:
    place = tar.tell()
    tar.seek(start)
    data = tar.read(size)
    tar.seek(place)
    return data


class _Array:
    """What a pickle says of an array."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def values(self) -> np.ndarray:
        """Make the array.

        Raises:
            InputError: it is not one of bytes.
        """
        try:
            _, shape, dtype, fortran, data = self.state
            right = dtype.code in ("u1", "|u1", b"u1") and not fortran and isinstance(data, bytes)
            if right and int(np.prod(shape, dtype=object)) == len(data):
                return np.frombuffer(data, np.uint8).reshape(shape)
        except (TypeError, ValueError, AttributeError):
            pass
        raise InputError("Its array is none of 8-bit values. Is it CIFAR's file?")


class _Type:
    """What a pickle says of the type of an array."""

    def __init__(self, code: Any = None, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        pass


def _encode(text: Any, encoding: Any = None) -> bytes:
    """Return bytes that an old protocol writes as text, one character for each."""
    return str(text).encode("latin-1")


_KNOWN = {
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy._core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise InputError(
                f"It asks for {f'{module}.{name}'[:80]!r}, which a batch of images does not. It is "
                "not opened: a pickle can run any program."
            )
        return _KNOWN[module, name]


def _unpickled(data: bytes) -> dict[str, Any]:
    """Return the dict of a batch, with texts as keys.

    Raises:
        InputError: it is something else, or asks for more.
    """
    try:
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except InputError:
        raise
    except Exception as error:  # Damaged pickles raise nearly everything.
        raise InputError("It is damaged. Unpack it again.") from error
    if not isinstance(found, Mapping):
        raise InputError("It is no batch of CIFAR's. Unpack it again.")
    return {_text(key): value for key, value in found.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _class_names(meta: Mapping[str, Any]) -> list[str] | None:
    names = next((meta[one] for one in _NAMES.values() if one in meta), None)
    return [_text(name) for name in names] if isinstance(names, list) else None


def _part(name: str, batch: Mapping[str, Any]) -> Part:
    labels = next((batch[key] for key in _LABELS if key in batch), None)
    data = batch.get("data")
    if not isinstance(labels, list) or not isinstance(data, _Array):
        raise InputError("It has no 'data' and 'labels'. Is it CIFAR's file?")
    if not all(isinstance(label, int) for label in labels):
        raise InputError("Its labels are no integers. Is it CIFAR's file?")
    values = data.values()
    side = math.isqrt(values.shape[-1] // 3)
    if values.ndim != 2 or 3 * side * side != values.shape[1]:
        raise InputError(f"Its array has the shape {values.shape}. Is it CIFAR's file?")
    return Part(values.reshape(-1, 3, side, side), labels, int(name.startswith("test")))


FORMS.register(CifarForm.name)(CifarForm())
