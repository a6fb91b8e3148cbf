"""Images and labels in a NumPy archive, as ``numpy.savez`` writes and MedMNIST ships."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from metad2a.datasets.archive import Member
from metad2a.datasets.base import FORMS, DatasetForm, ImageDataset
from metad2a.datasets.forms._zip_list import list_members
from metad2a.datasets.stored import Stored, open_stored
from metad2a.errors import InputError

_HEAD = 2**14
"""Bytes in which the head of an array, its type and shape, must lie."""


class NpzForm(DatasetForm):
    """An ``.npz`` file; arrays of Python objects, which would be pickles, are not read."""

    name = "npz arrays"
    wanted = "an .npz of arrays named images and labels, or train_images, train_labels, ..."

    def accepts(self, source: Any) -> bool:
        """Whether it is a file that ends in ``.npz``."""
        return isinstance(source, Path) and source.is_file() and source.suffix.lower() == ".npz"

    def open(self, source: Path) -> ImageDataset:
        """Read the arrays of images and labels into memory."""
        try:
            with source.open("rb") as file:
                arrays = {
                    member.name.removesuffix(".npy"): _stored(file, member)
                    for member in list_members(file)
                    if member.name.endswith(".npy")
                }
                return open_stored(source.stem, self.name, arrays, source.stat().st_size)
        except OSError as error:
            raise InputError(f"{source.name!r} cannot be read: {error.strerror}.") from error
        except InputError as error:
            raise InputError(f"{source.name!r}: {error}") from error


def _stored(file: BinaryIO, member: Member) -> Stored:
    """Return an array of the archive with its shape and type; the rest is read when it is used."""
    file.seek(member.start)
    head = io.BytesIO(_unpacked(file.read(min(member.packed, _HEAD)), member, _HEAD))
    try:
        version = np.lib.format.read_magic(head)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read(head)
    except Exception as error:  # NumPy reads the head as Python's source, which fails in many ways.
        raise InputError(f"{member.name!r} is no array. Write the file again.") from error
    if not dtype.itemsize or not all(type(side) is int and side >= 0 for side in shape):
        raise InputError(
            f"{member.name!r} is an array of shape {shape} and type {dtype}, which holds nothing. "
            "Write the file again."
        )
    start = head.tell()

    def values() -> np.ndarray:
        if dtype.hasobject:
            raise InputError(
                f"{member.name!r} holds Python objects, which are not read from files. Save "
                "numbers or texts: numpy.asarray(x, dtype=str)."
            )
        file.seek(member.start)
        data = _unpacked(file.read(member.packed), member, member.size + 1)
        count = int(np.prod(shape, dtype=object))
        if len(data) != member.size or len(data) - start != count * dtype.itemsize:
            raise InputError(f"{member.name!r} is damaged. Write the file again.")
        flat = np.frombuffer(data, dtype, count, start)
        return flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)

    return Stored(shape, dtype, values)


def _unpacked(data: bytes, member: Member, most: int) -> bytes:
    if not member.deflated:
        return data[:most]
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most)
    except zlib.error as error:
        raise InputError(f"{member.name!r} is damaged. Write the file again.") from error


FORMS.register(NpzForm.name)(NpzForm())
