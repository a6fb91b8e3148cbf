"""The list of a tar's members, read strictly: ustar, pax and GNU headers of plain files.

``tarfile`` is not asked: it reads headers of any length into memory and, in Python 3.11, never ends
on some of them (CVE-2024-6232, CVE-2025-8194). It is what the tests write archives with.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from metad2a.datasets.archive import Member
from metad2a.datasets.names import as_text, shown
from metad2a.errors import InputError

_BLOCK = 512
_FILE_KINDS, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"
_EXTENSIONS = (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK)
_FARTHEST = 2**62  # bytes; a header may name more than a file has, and more than seek takes
_EXTENSION_BYTES = 2**20
"""Most bytes of a header that extends the next one."""


def list_members(file: BinaryIO) -> Iterator[Member]:
    """Yield the members of a plain tar, in the order of storage.

    Raises:
        InputError: it is no tar, damaged or cut short, or has a member that is neither a file nor
            a folder.
    """
    position = 0
    extensions: dict[bytes, bytes] = {}
    while True:
        if position >= _FARTHEST:
            raise _damaged("it is cut short")
        file.seek(position)
        head = file.read(_BLOCK)
        if len(head) < _BLOCK:
            raise _damaged("it is cut short")
        if not any(head):
            return
        if _number(head[148:156]) != sum(head) - sum(head[148:156]) + 8 * ord(" "):
            raise _damaged(f"the header at byte {position:,} is wrong")
        kind, size, start = head[156:157], _number(head[124:136]), position + _BLOCK
        if kind in _EXTENSIONS:
            # More than one of a kind for a member is no archive that any program writes.
            if size > _EXTENSION_BYTES or kind in extensions:
                raise _damaged(f"the header at byte {position:,} is too long")
            extensions[kind] = file.read(size)
        else:
            records = _pax_records(extensions.get(_PAX, b""))
            size = _decimal(records[b"size"]) if b"size" in records else size
            name = _name(head, extensions, records)
            sparse = any(b".sparse." in key for key in records)
            if kind not in (*_FILE_KINDS, _FOLDER) or sparse:
                raise InputError(
                    f"{shown(name)} is a link, a device or a sparse file. Pack the "
                    "files themselves (tar --dereference --hard-dereference)."
                )
            yield Member(name + "/" if kind == _FOLDER else name, size, start, size)
            extensions.clear()
        position = start + -(-size // _BLOCK) * _BLOCK


def _name(head: bytes, extensions: dict[bytes, bytes], records: dict[bytes, bytes]) -> str:
    """Return the member's path from wherever this kind of tar keeps it."""
    if b"path" in records:
        return as_text(records[b"path"])
    if _LONG_NAME in extensions:
        return as_text(extensions[_LONG_NAME].removesuffix(b"\0"))
    name = head[:100].partition(b"\0")[0]
    prefix = head[345:500].partition(b"\0")[0] if head[257:263] == b"ustar\0" else b""
    return as_text(prefix + b"/" + name if prefix else name)


def _number(field: bytes) -> int:
    """Return a number of a header, in octal digits or, with the first bit set, in binary."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        raise _damaged("a number in a header is wrong") from None


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 20:
        raise _damaged("a number in a header is wrong")
    return int(text)


def _pax_records(data: bytes) -> dict[bytes, bytes]:
    """Return the ``length key=value`` records of a pax header."""
    records, position = {}, 0
    while position < len(data):
        space = data.find(b" ", position, position + 20)
        length = _decimal(data[position : max(space, position)])
        record = data[space + 1 : position + length]
        key, equals, value = record.partition(b"=")
        if position + length > len(data) or not equals or not value.endswith(b"\n"):
            raise _damaged("a pax header is wrong")
        records[key] = value[:-1]
        position += length
    return records


def _damaged(reason: str) -> InputError:
    return InputError(f"It is no readable tar: {reason}. Pack the folder again.")
