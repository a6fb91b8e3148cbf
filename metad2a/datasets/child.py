"""The child process that decodes: both ends of its connection.

It imports NumPy, Pillow and :mod:`metad2a.datasets.decode`, gets the bytes of one image file at a
time and gives back its pixels. It limits its own memory and writes no file.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
import weakref
from pathlib import Path

import numpy as np

from metad2a.datasets.decode import UnreadableImage, decode, spread
from metad2a.datasets.levels import Levels, Spread
from metad2a.errors import MetaD2AError
from metad2a.settings import LIMITS

_REQUEST = struct.Struct("<?QI2d")
"""Whether to decode or to measure, bytes of the file, the side that a JPEG may be reduced to (0:
none), black and white of an image with more than 8 bits (NaN: its own)."""
_REPLY = struct.Struct("<?4I")
"""True, height, width, stored height, stored width; or False, bytes of the reason, 0, 0, 0."""
_MEASURED = struct.Struct("<?4d")
"""Whether there is a :class:`Spread`, and its numbers."""
_REASON_BYTES = 500
_START_SECONDS = 60.0
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from metad2a.datasets.child import serve; serve(int(sys.argv[2]))"
)
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME")
"""What the child sees of the environment, which may hold passwords."""


class Child:
    """One process that decodes, ended when nothing refers to it any more."""

    def __init__(self) -> None:
        self.connection, theirs = socket.socketpair()
        # The paths of this process, so that both import the same files; never the working folder
        # by chance. A session of its own: Ctrl-C is for the parent to handle.
        paths = json.dumps([path or str(Path.cwd()) for path in sys.path])
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, paths, str(LIMITS.child_bytes)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # One thread each: a thread of a numerical library reserves memory.
                    env={**environment, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                    start_new_session=True,
                )
            self.end = weakref.finalize(self, _end, self.process, self.connection, os.getpid())
            self._receive(1, time.monotonic() + _START_SECONDS)
        except (OSError, EOFError) as error:
            if hasattr(self, "end"):
                self.end()
            self.connection.close()
            raise MetaD2AError(
                "The process that decodes images did not start "
                f"({type(error).__name__}). Is there memory for it?"
            ) from error

    def decode(
        self, data: bytes, side: int, levels: Levels | None, until: float
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode in the child.

        Raises:
            UnreadableImage: the child says so.
            OSError, EOFError: there was no answer before ``until``, or none will come.
        """
        values = (math.nan, math.nan) if levels is None else (levels.black, levels.white)
        self._send(_REQUEST.pack(True, len(data), side, *values), data, until)
        good, height, width, stored_height, stored_width = _REPLY.unpack(
            self._receive(_REPLY.size, until)
        )
        # Checked again here: a child that an image took over can answer anything.
        if not good and height <= _REASON_BYTES:
            raise UnreadableImage(self._receive(height, until).decode("utf-8", "replace"))
        stored = stored_height * stored_width
        most = LIMITS.photo_pixels if stored > height * width else LIMITS.image_pixels
        if not 0 < height * width <= stored <= most or height * width > LIMITS.image_pixels:
            raise EOFError
        pixels = self._receive(height * width * 3, until)
        image = np.frombuffer(pixels, dtype=np.uint8).reshape(height, width, 3)
        return image, (stored_height, stored_width)

    def spread(self, data: bytes, until: float) -> Spread | None:
        """Measure in the child the values of an image with more than 8 bits; None for any other.

        Raises:
            OSError, EOFError: there was no answer before ``until``, or none will come.
        """
        self._send(_REQUEST.pack(False, len(data), 0, math.nan, math.nan), data, until)
        there, *numbers = _MEASURED.unpack(self._receive(_MEASURED.size, until))
        if there and not all(map(math.isfinite, numbers)):
            raise EOFError
        return Spread(*numbers) if there else None

    def _send(self, request: bytes, data: bytes, until: float) -> None:
        self.connection.settimeout(max(until - time.monotonic(), 0.001))
        self.connection.sendall(request)
        self.connection.sendall(data)

    def _receive(self, count: int, until: float) -> bytearray:
        data = bytearray(count)
        view = memoryview(data)
        while view:
            self.connection.settimeout(max(until - time.monotonic(), 0.001))
            got = self.connection.recv_into(view)
            if not got:
                raise EOFError
            view = view[got:]
        return data


def _end(process: subprocess.Popen[bytes], connection: socket.socket, owner: int) -> None:
    connection.close()
    if os.getpid() == owner:  # A forked copy of the parent lets go, and no more.
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def serve(memory: int) -> None:
    """Decode what comes through standard input, a socket, until it closes: the child's work.

    Args:
        memory: bytes of address space that this process may use.
    """
    import resource

    for what, limit in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # Where a system knows no such limit.
            resource.setrlimit(what, (limit, limit))
    connection = socket.socket(fileno=0)
    connection.sendall(b"+")
    stream = connection.makefile("rb")
    while len(head := stream.read(_REQUEST.size)) == _REQUEST.size:
        wanted, size, side, *values = _REQUEST.unpack(head)
        # The parent's clock comes first; this one ends a child that has lost its parent.
        signal.alarm(2 * int(LIMITS.decode_seconds) + 1)
        data = stream.read(size)
        if not wanted:
            connection.sendall(_MEASURED.pack(*_measured(data)))
            signal.alarm(0)
            continue
        levels = None if math.isnan(values[0]) else functools.partial(Levels, *values)
        try:
            image, stored = decode(data, side or None, levels)
        except UnreadableImage as error:
            reason = str(error).encode()[:_REASON_BYTES]
            connection.sendall(_REPLY.pack(False, len(reason), 0, 0, 0) + reason)
        else:
            connection.sendall(_REPLY.pack(True, *image.shape[:2], *stored))
            connection.sendall(image.data.cast("B"))
        signal.alarm(0)


def _measured(data: bytes) -> tuple[bool, float, float, float, float]:
    with contextlib.suppress(UnreadableImage):
        found = spread(data)
        if found is not None:
            return True, found.lowest, found.highest, found.low, found.high
    return False, 0.0, 0.0, 0.0, 0.0
