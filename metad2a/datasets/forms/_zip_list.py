"""The list of a zip's members, read strictly: APPNOTE.TXT 6.3, without encryption and spanning.

``zipfile`` is not asked: it reads a list of any length before it can be judged, follows one that
contradicts itself, and in Python 3.11 takes members that overlap (CVE-2024-0450).
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

from metad2a.datasets.archive import Member, check_count
from metad2a.datasets.names import as_text, as_texts, shown
from metad2a.errors import InputError

_END = struct.Struct("<4s4H2LH")
_LOCATOR = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4sQ2H2L4Q")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _PATCHED = 0x2041, 0x0020
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_UTF8, _UNICODE_PATH = 0x0800, 0x7075


def list_members(file: BinaryIO) -> list[Member]:
    """Return the members of a zip in the order of its list.

    Raises:
        InputError: it is no zip, damaged or contradictory, has members that overlap, are locked,
            links or of another method than deflate, or other data before or after it.
    """
    start, end, count = _directory(file)
    check_count(count)
    file.seek(start)
    raws, entries = [], []
    for _ in range(count):
        raw, entry = _entry(file)
        raws.append(raw)
        entries.append(entry)
    if file.tell() != end:
        raise _damaged("its list and the length of the list disagree")
    # A name in UTF-8 beside the old one (field 0x7075) says nothing of how the others are coded.
    unsaid = [at for at, entry in enumerate(entries) if not entry.name]
    names, encoding = as_texts([raws[at] for at in unsaid])
    for at, name in zip(unsaid, names, strict=True):
        entries[at] = replace(entries[at], name=name, guessed=encoding)
    return list(_placed(file, entries, raws, start))


def _directory(file: BinaryIO) -> tuple[int, int, int]:
    """Return where the list starts and ends, and how many entries it has."""
    size = file.seek(0, os.SEEK_END)
    at = max(size - _END.size - _MAX16, 0)
    file.seek(at)
    tail = file.read()
    place = tail.rfind(b"PK\5\6")
    if place < 0 or len(tail) < place + _END.size:
        raise _damaged("the list of its files is missing")
    _, *values, comment = _END.unpack_from(tail, place)
    if place + _END.size + comment != len(tail):
        raise _damaged("it is cut short or has other data after it")
    end = at + place
    file.seek(max(end - _LOCATOR.size, 0))
    locator = file.read(_LOCATOR.size)
    if locator.startswith(b"PK\6\7") and len(locator) == _LOCATOR.size:
        end, large = _directory64(file, end - _LOCATOR.size, locator)
        maxima = [_MAX16] * 4 + [_MAX32] * 2
        if any(
            value not in (wide, most)
            for value, wide, most in zip(values, large, maxima, strict=True)
        ):
            raise _damaged("its two ends disagree")
        values = large
    disk, first, here, count, length, start = values
    if disk or first or here != count:
        raise _damaged("it is one part of several")
    if start + length != end:
        raise _damaged("other data stands before it, or the place of its list is wrong")
    return start, end, count


def _directory64(file: BinaryIO, end: int, locator: bytes) -> tuple[int, list[int]]:
    """Return where the zip64 end starts, and its values in the order of the old end."""
    place = _LOCATOR.unpack(locator)[2]
    if place > end - _END64.size:
        raise _damaged("its zip64 end is in a wrong place")
    file.seek(place)
    magic, length, _, _, *values = _END64.unpack(file.read(_END64.size))
    if magic != b"PK\6\6" or place + 12 + length != end:
        raise _damaged("its zip64 end is damaged")
    return place, values


def _entry(file: BinaryIO) -> tuple[bytes, Member]:
    """Read one entry of the list: its name as stored, and the member.

    ``start`` is that of the member's own header; its name is empty where only the list as a whole
    tells how names are coded.
    """
    head = file.read(_ENTRY.size)
    if len(head) < _ENTRY.size or not head.startswith(b"PK\1\2"):
        raise _damaged("the list of its files is damaged")
    (
        _,
        _,
        _,
        flags,
        method,
        _,
        _,
        crc,
        packed,
        size,
        name_length,
        extra_length,
        comment_length,
        _,
        _,
        attributes,
        start,
    ) = _ENTRY.unpack(head)
    raw = file.read(name_length)
    extra = file.read(extra_length)
    file.read(comment_length)
    name = as_text(raw)
    if _MAX32 in (size, packed, start):
        size, packed, start = _wide(extra, size, packed, start)
    if flags & _ENCRYPTED:
        raise InputError(f"{shown(name)} is encrypted. Zip the folder without a password.")
    if method not in (_STORED, _DEFLATED) or flags & _PATCHED:
        raise InputError(
            f"{shown(name)} is packed by method {method}; only 0 (stored) and 8 "
            "(deflate), the usual ones, are read. Zip the folder again."
        )
    if stat.S_IFMT(attributes >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(f"{shown(name)} is a link or a device. Zip the files themselves.")
    if method == _STORED and packed != size:
        raise _damaged(f"{shown(name)} has two sizes")
    return raw, Member(_said(raw, extra, flags), size, start, packed, method == _DEFLATED, crc)


def _said(raw: bytes, extra: bytes, flags: int) -> str:
    """Return a name where the archive says its encoding: UTF-8, by a flag or a field of its own."""
    own = _field(extra, _UNICODE_PATH)
    if own[:1] == b"\1" and own[1:5] == zlib.crc32(raw).to_bytes(4, "little"):
        raw, flags = own[5:], flags | _UTF8
    if raw.isascii() or flags & _UTF8:
        with contextlib.suppress(UnicodeDecodeError):
            return raw.decode("utf-8")
    return ""


def _field(extra: bytes, wanted: int) -> bytes:
    """Return one of the extra fields of an entry, empty where it is not there."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == wanted:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _wide(extra: bytes, *values: int) -> Iterator[int]:
    """Yield the values, those that are too large for 32 bits from the zip64 extra field."""
    wide = _field(extra, 1)
    for value in values:
        if value != _MAX32:
            yield value
        elif len(wide) >= 8:
            yield int.from_bytes(wide[:8], "little")
            wide = wide[8:]
        else:
            raise _damaged("a zip64 size is missing")


def _placed(file: BinaryIO, entries: list[Member], raws: list[bytes], end: int) -> Iterator[Member]:
    """Yield the members with the start of their bytes; none may reach into the next one."""
    order = sorted(zip(entries, raws, strict=True), key=lambda pair: pair[0].start)
    if (order[0][0].start if order else end) != 0:
        raise _damaged("other data stands before it")
    starts = [*(entry.start for entry, _ in order), end]
    for (entry, raw), (here, following) in zip(order, pairwise(starts), strict=True):
        if here >= following:
            raise _overlaps(entry)
        file.seek(here)
        head = file.read(_LOCAL.size)
        if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
            raise _damaged(f"{shown(entry.name)} is not where the list says")
        name_length, extra_length = _LOCAL.unpack(head)[-2:]
        if file.read(name_length) != raw:
            raise _damaged(f"{shown(entry.name)} has two names")
        start = here + _LOCAL.size + name_length + extra_length
        if start + entry.packed > following:
            raise _overlaps(entry)
        yield replace(entry, start=start)


def _overlaps(entry: Member) -> InputError:
    return InputError(
        f"{shown(entry.name)} claims {entry.packed:,} packed bytes, which overlap "
        "what follows it. Zip the folder again."
    )


def _damaged(reason: str) -> InputError:
    return InputError(f"It is no readable zip: {reason}. Zip the folder again.")
