"""A zip of class folders, read member by member; nothing is unpacked to disk."""

from __future__ import annotations

import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.layout import read_layout
from metad2a.errors import InputError
from metad2a.settings import LIMITS


class ZipDataset(EncodedDataset):
    """Image files in the class folders of a zip, which stays open until :meth:`close`."""

    def __init__(self, path: Path) -> None:
        self.name, self.form = path.stem, ZipForm.name
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise InputError(f"{path.name!r} is no readable zip ({str(error)[:100]}). "
                             "Zip the folder again.") from error
        try:
            members = [info for info in self._zip.infolist() if not info.is_dir()]
            _refuse(members, path.stat().st_size)
            self._members = {info.filename.replace("\\", "/"): info for info in members}
            layout = read_layout(self._members)
        except InputError as error:
            self.close()
            raise InputError(f"{path.name!r}: {error}") from error
        self._paths = layout.paths
        self.labels, self.classes, self.split = layout.labels, layout.classes, layout.split

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        try:
            return self._zip.read(self._members[self._paths[index]])
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError,
                RuntimeError, ValueError) as error:
            raise UnreadableImage("damaged in the zip") from error

    def locate(self, index: int) -> str:
        """Return the path in the zip."""
        return self._paths[index]

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()


def _refuse(members: list[zipfile.ZipInfo], file_bytes: int) -> None:
    """Refuse what is not read at all: bombs, locked members, names that leave the zip."""
    if len(members) > LIMITS.zip_members:
        raise InputError(f"{len(members):,} files, more than the limit of {LIMITS.zip_members:,}. "
                         "Unpack it and give the folder.")
    total = sum(info.file_size for info in members)
    if total > LIMITS.zip_bytes:
        raise InputError(f"{total / 1e6:,.0f} MB when unpacked, more than the limit of "
                         f"{LIMITS.zip_bytes / 1e6:,.0f} MB. Unpack it and give the folder.")
    packed = sum(info.compress_size for info in members)
    if packed > file_bytes:
        raise InputError(f"its files claim {packed:,} packed bytes, more than the {file_bytes:,} "
                         "bytes of the zip: they overlap. Zip the folder again.")
    for info in members:
        shown = repr(info.filename[:200])
        if info.file_size > LIMITS.zip_member_bytes:
            raise InputError(f"{shown} has {info.file_size / 1e6:,.1f} MB, more than the limit of "
                             f"{LIMITS.zip_member_bytes / 1e6:,.0f} MB a file. Make it smaller, or "
                             "unpack the zip and give the folder.")
        if info.flag_bits & 1:
            raise InputError(f"{shown} is encrypted. Zip the folder without a password.")
        name = info.filename.replace("\\", "/")
        if name.startswith("/") or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
            raise InputError(f"{shown} is a path that leaves the zip. Zip the folder again, with "
                             "relative paths.")


class ZipForm(DatasetForm):
    """A zip file."""

    name = "zip of class folders"
    wanted = "a zip of such a folder"

    def accepts(self, source: Any) -> bool:
        """Whether it is a zip by its name or its content."""
        return isinstance(source, Path) and source.is_file() and (
            source.suffix.lower() == ".zip" or zipfile.is_zipfile(source))

    def open(self, source: Path) -> ZipDataset:
        """List the image files."""
        return ZipDataset(source)


FORMS.register(ZipForm.name)(ZipForm())
