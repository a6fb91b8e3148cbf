"""Archives of class folders: judged by their lists, then read file by file on demand.

Nothing is unpacked under a name from the archive, and no archive inside an archive is opened.
"""

from __future__ import annotations

import threading
import weakref
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from metad2a.datasets.base import EncodedDataset
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.layout import (
    Unsure,
    Wish,
    is_image,
    is_litter,
    may_be_image,
    read_layout,
)
from metad2a.datasets.names import check_lengths, inner_path, plain, refuse_twins, shown
from metad2a.errors import InputError
from metad2a.settings import LIMITS, OWN, Limits, strangers


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive; a folder, if the name ends in ``/``."""

    name: str
    size: int
    """Bytes when unpacked, as the archive claims."""
    start: int
    """Where its bytes begin in the archive."""
    packed: int
    """Bytes in the archive."""
    deflated: bool = False
    """Whether they are a raw deflate stream, not the file as it is."""
    crc: int | None = None
    """CRC-32 of the file, if the archive has one."""
    guessed: str | None = None
    """The encoding of its name, where the archive does not say it and it had to be guessed."""


class ArchiveDataset(EncodedDataset):
    """Image files in the class folders of an archive, which stays open until :meth:`close`.

    Args:
        path: the archive.
        form: name of the dataset form.
        open_file: opens the archive as a file that can be read at any place.
        list_members: lists the members of that file.
        wish: what the user says of the layout.

    Raises:
        InputError: the archive is damaged, above a limit, or holds what no folder of images does.
    """

    def __init__(
        self,
        path: Path,
        form: str,
        open_file: Callable[[Path], BinaryIO],
        list_members: Callable[[BinaryIO], Iterable[Member]],
        wish: Wish | None = None,
    ) -> None:
        self.name, self.form = path.stem.removesuffix(".tar"), form
        self._path, self._lock = path.absolute(), threading.Lock()
        self._rests = False  # Closed until the next image.
        try:
            self._file = open_file(path.absolute())
        except (OSError, InputError) as error:
            raise InputError(f"{path.name!r}: {_reason(error)}") from error
        weakref.finalize(self, self._file.close)  # for those who keep it in a result
        try:
            self._members = judge(list_members(self._file), path.stat().st_size)
            listing = read_layout(self._members, wish, self._peek)
        except Unsure as error:
            self.close()
            raise Unsure(f"{path.name!r}: {error}") from error
        except (OSError, InputError) as error:
            self.close()
            raise InputError(f"{path.name!r}: {_reason(error)}") from error
        self._paths = listing.paths
        self.take(listing)
        encoding = next((one.guessed for one in self._members.values() if one.guessed), None)
        if encoding:
            self.notes += (
                f"The archive does not say how its names are encoded: read as {encoding}.",
            )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open file.

        Raises:
            TypeError: it is a temporary one, of which there shall be no second.
        """
        if not self._stored():
            raise TypeError("a compressed archive stays in the process that has uncompressed it")
        return {k: v for k, v in self.__dict__.items() if k not in ("_file", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the file anew."""
        self.__dict__.update(state)
        self._lock, self._file = threading.Lock(), self._path.open("rb")
        self._rests = False
        weakref.finalize(self, self._file.close)

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file, never more than the archive's list says."""
        member = self._members[self._paths[index]]
        try:
            with self._lock:
                if self._rests:
                    self._file, self._rests = self._path.open("rb"), False
                self._file.seek(member.start)
                data = self._file.read(member.packed)
            if member.deflated:  # One byte too many is enough to see that the list has lied.
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
        except (OSError, ValueError, zlib.error) as error:
            raise UnreadableImage("damaged in the archive") from error
        if len(data) != member.size or member.crc not in (None, zlib.crc32(data)):
            raise UnreadableImage("damaged in the archive")
        return data

    def rest(self) -> None:
        """Close the archive until its next image; one that had to be unpacked stays open."""
        with self._lock:
            if self._stored() and not self._file.closed:
                self._file.close()
                self._rests = True

    def _stored(self) -> bool:
        """Whether the open file is the archive itself, not what was unpacked of it."""
        return str(getattr(self._file, "name", None)) == str(self._path)

    def _peek(self, path: str, most: int) -> bytes:
        """Return the first bytes of a member, or none where it is damaged."""
        member = self._members[path]
        try:
            self._file.seek(member.start)
            if not member.deflated:
                return self._file.read(min(member.packed, most))
            # A few packed bytes are enough for a few; no more than asked for comes out of any.
            data = self._file.read(min(member.packed, most + 1024))
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, most)
        except (OSError, ValueError, zlib.error):
            return b""

    def locate(self, index: int) -> str:
        """Return the path in the archive."""
        return self._paths[index]

    def close(self) -> None:
        """Close the archive."""
        self._file.close()
        self._rests = False


def judge(members: Iterable[Member], archive_bytes: int) -> dict[str, Member]:
    """Return the files among the members by their paths, and read no further than the limits.

    Names are held against the rules where they may become an image's. Of a user's own archive only
    the images count: nothing else in it is ever unpacked, and odd names are shown with escapes.

    Args:
        members: all that the archive lists.
        archive_bytes: size of the archive itself.

    Raises:
        InputError: too many, too large, or with names that cannot be used.
    """
    foreign, limits = strangers.get(), _limits()
    most = most_unpacked(archive_bytes)
    total = 0
    files: dict[str, Member] = {}
    images: list[str] = []
    for count, member in enumerate(members, 1):
        check_count(count)
        if not foreign and not is_image(member.name):
            path = plain(inner_path(member.name))
            if not member.name.endswith(("/", "\\")) and not is_litter(path):
                files[path] = member
            continue
        largest = max(member.size, member.packed)
        if largest > limits.member_bytes:
            raise InputError(
                f"{shown(member.name)} has {largest / 1e6:,.1f} MB, more than the "
                f"limit of {limits.member_bytes / 1e6:,.0f} MB a file. Make it "
                "smaller, or leave it out."
            )
        total += member.size
        if total > most:
            raise too_large(most)
        path = inner_path(member.name)
        path = path if foreign else plain(path)
        if member.name.endswith(("/", "\\")) or is_litter(path):
            continue
        if is_image(path) or may_be_image(path):
            check_lengths(path)
            if path in files:
                raise InputError(f"{shown(path)} is in it twice. Pack the folder again.")
            images.append(path)
        files[path] = member
    if foreign:
        refuse_twins(images)
    return files


def _limits() -> Limits:
    return LIMITS if strangers.get() else OWN


def check_count(count: int) -> None:
    """Refuse more members than the limit.

    Raises:
        InputError: there are.
    """
    limits = _limits()
    if count > limits.archive_members:
        raise InputError(
            f"It has {count:,} files or more, and the limit is "
            f"{limits.archive_members:,}. Leave files out, or unpack it and give the "
            "folder."
        )


def most_unpacked(archive_bytes: int) -> int:
    """Return how many unpacked bytes an archive of this size may have."""
    limits = _limits()
    return min(
        limits.archive_bytes, max(limits.archive_free_bytes, limits.archive_ratio * archive_bytes)
    )


def too_large(most: int) -> InputError:
    """Return the refusal of an archive with more than ``most`` unpacked bytes."""
    return InputError(
        f"It has more than {most / 1e6:,.0f} MB when unpacked, the limit for an "
        "archive of its size. Leave files out, or unpack it and give the folder."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"It cannot be read ({error.strerror}). Is there room on the disk?"
    return str(error)
