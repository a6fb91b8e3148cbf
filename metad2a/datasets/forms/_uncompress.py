"""Uncompressing a file as a whole: within limits, into memory or a nameless temporary file.

The members of a compressed tar cannot be had in any order but their own, so it is read once.
"""

from __future__ import annotations

import bz2
import lzma
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from metad2a.datasets.archive import most_unpacked, too_large
from metad2a.errors import InputError
from metad2a.settings import LIMITS, OWN, strangers

_PIECE = 2**16
"""Bytes that are read or unpacked at a time."""
_IN_MEMORY = 2**25
"""Unpacked bytes that are kept in memory; more go to a file without a name."""
_XZ_MEMORY = 2**28
"""Bytes of memory that an xz stream may ask for; ``xz -9`` asks for 65 MiB."""
_ZSTD_WINDOW = 27
"""Binary logarithm of the bytes of memory that a zstd stream may ask for, 128 MiB."""


class _Gunzip:
    """A gzip stream behind the interface of ``bz2.BZ2Decompressor``."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(16 + zlib.MAX_WBITS)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


def _unzstd() -> Any:
    """Return a zstd stream that asks for as much memory as the program ``zstd`` allows.

    Raises:
        InputError: what reads it is not installed.
    """
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise InputError(
            "It is packed by zstd, and what reads it is not installed. Run: pip install "
            "'metad2a[zstd]'"
        ) from error
    limit = {int(zstd.DecompressionParameter.window_log_max): _ZSTD_WINDOW}
    return zstd.ZstdDecompressor(options=limit)


_STREAMS: dict[bytes, Callable[[], Any]] = {
    b"\x1f\x8b": _Gunzip,
    b"BZh": bz2.BZ2Decompressor,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\xfd7zXZ\0": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY),
}
"""What a compressed file begins with, and what unpacks it."""


def open_uncompressed(path: Path) -> BinaryIO:
    """Open a file for reading at any place, uncompressed if gzip, bzip2, xz or zstd packed it.

    Raises:
        InputError: it is damaged or cut short, or takes too much room or time.
    """
    file = path.open("rb")
    begin = file.read(6)
    file.seek(0)
    new = next((new for magic, new in _STREAMS.items() if begin.startswith(magic)), None)
    if new is None:
        return file
    copy = cast(BinaryIO, tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115  (handed on)
    try:
        with file:
            _copy(_pieces(file, new), copy, most_unpacked(path.stat().st_size))
    except BaseException:
        copy.close()
        raise
    return copy


def _copy(pieces: Iterator[bytes], copy: BinaryIO, most: int) -> None:
    limits = LIMITS if strangers.get() else OWN
    until = time.monotonic() + limits.ingest_seconds
    total = 0
    for piece in pieces:
        total += len(piece)
        if total > most:
            raise too_large(most)
        if time.monotonic() > until:
            raise InputError(
                f"Unpacking it takes more than {limits.ingest_seconds:g} s. Leave "
                "files out, or unpack it and give the folder."
            )
        copy.write(piece)


def _pieces(file: BinaryIO, new: Callable[[], Any]) -> Iterator[bytes]:
    """Yield the uncompressed bytes; some programs write several streams in a row."""
    stream, streams = None, 0
    while True:
        data = b""
        if stream is None or stream.eof:
            data = stream.unused_data.lstrip(b"\0") if stream else b""
            data = data or file.read(_PIECE).lstrip(b"\0")
            if not data:
                return
            streams += 1
            most = (LIMITS if strangers.get() else OWN).archive_members
            if streams > most:
                raise InputError(
                    f"It is made of more than {most:,} compressed pieces. Pack the folder again."
                )
            stream = new()
        elif stream.needs_input:
            data = file.read(_PIECE)
            if not data:
                raise InputError("It is cut short. Copy or pack it again.")
        try:
            piece = stream.decompress(data, _PIECE)
        except Exception as error:  # Of zlib, bz2, lzma or zstd: each has kinds of its own.
            raise InputError("Its compression is damaged. Copy or pack it again.") from error
        yield piece
