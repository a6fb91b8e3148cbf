"""A 7z of class folders; its members are unpacked into one file without a name."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, BinaryIO, cast

from metad2a.datasets.archive import ArchiveDataset, Member, most_unpacked, too_large
from metad2a.datasets.base import FORMS, DatasetForm
from metad2a.datasets.layout import Wish
from metad2a.errors import InputError

_MAGIC = b"7z\xbc\xaf\x27\x1c"
_IN_MEMORY = 2**25
"""Unpacked bytes that are kept in memory."""


class SevenZipForm(DatasetForm):
    """A 7z file.

    Most of its ways of packing are read by libraries in C, and a list may ask for any amount of
    memory before a byte is unpacked, so a stranger's file is not opened.
    """

    name = "7z of class folders"
    wanted = "a 7z of such a folder"
    arranged = True
    for_strangers = False

    def accepts(self, source: Any) -> bool:
        """Whether it is a 7z by its first bytes."""
        if not isinstance(source, Path) or not source.is_file():
            return False
        with source.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC

    def open(self, source: Path) -> ArchiveDataset:
        """Unpack the files and list the images."""
        return self.open_as(source, Wish())

    def open_as(self, source: Path, wish: Wish) -> ArchiveDataset:
        """Unpack the files and list the images, arranged as the user says."""
        members: list[Member] = []
        return ArchiveDataset(
            source, self.name, lambda path: _unpacked(path, members), lambda _: members, wish
        )


def _unpacked(path: Path, members: list[Member]) -> BinaryIO:
    """Unpack all files one after the other, and say where each begins.

    Raises:
        InputError: py7zr is missing, or the archive is locked, damaged or too large.
    """
    try:
        import py7zr
    except ImportError as error:
        raise InputError(
            "It needs py7zr, which is not installed. Run: pip install 'metad2a[sevenzip]'"
        ) from error
    most = most_unpacked(path.stat().st_size)
    copy = cast(BinaryIO, tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115  (handed on)
    try:
        # An open file, not its path: members then come one after the other.
        with path.open("rb") as file, py7zr.SevenZipFile(file) as archive:
            if archive.needs_password():
                raise InputError("It is locked by a password. Pack it again without one.")
            listed = [one for one in archive.list() if not one.is_directory]
            if sum(one.uncompressed for one in listed) > most:
                raise too_large(most)
            archive.extract(
                targets=[one.filename for one in listed if not getattr(one, "is_symlink", False)],
                factory=_writers(py7zr, copy, members, most),
            )
    except InputError:
        copy.close()
        raise
    except Exception as error:  # py7zr lets through whatever its decoders raise.
        copy.close()
        raise InputError(
            f"It is no readable 7z ({type(error).__name__}). Copy or pack it again."
        ) from error
    return copy


def _writers(py7zr: Any, copy: BinaryIO, members: list[Member], most: int) -> Any:
    """Return what gives py7zr a place to write each member to: the end of one file."""

    class Writer(py7zr.io.Py7zIO):
        def __init__(self, name: str) -> None:
            self.name, self.start, self.count = name, copy.seek(0, 2), 0

        def write(self, data: bytes | bytearray) -> int:
            if self.start + self.count + len(data) > most:  # The list has lied.
                raise too_large(most)
            self.count += len(data)
            return copy.write(data)

        def read(self, size: int | None = None) -> bytes:
            return b""

        def seek(self, offset: int, whence: int = 0) -> int:
            return 0

        def flush(self) -> None:
            """Nothing waits."""

        def size(self) -> int:
            return self.count

        def close(self) -> None:
            members.append(Member(self.name, self.count, self.start, self.count))

    class Factory(py7zr.io.WriterFactory):
        def create(self, filename: str) -> Any:
            return Writer(filename)

    return Factory()


FORMS.register(SevenZipForm.name)(SevenZipForm())
