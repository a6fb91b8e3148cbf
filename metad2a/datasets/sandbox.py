"""Decoding apart: a hostile image costs itself and nothing else.

Image files are decoded in a child process with limits of memory, time and pixels. One that hangs or
dies makes its image unreadable, and the next image starts another.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from metad2a.datasets.base import EncodedDataset
from metad2a.datasets.child import Child
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.levels import Levels, Spread
from metad2a.errors import InputError
from metad2a.settings import LIMITS

T = TypeVar("T")


class Sandbox:
    """Decodes image files in a child process, which is started for the first of them.

    Threads may share it and take turns. A forked copy of the process starts a child of its own.
    """

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise InputError("sandbox=True needs Linux or macOS. Leave it out here.")
        self.lost: Counter[str] = Counter()
        """How often a child was lost, by the reason that its image was given."""
        self._child: Child | None = None
        self._lock = threading.Lock()
        self._owner = os.getpid()

    def decode(
        self, data: bytes, side: int = 0, levels: Levels | None = None
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode as :func:`metad2a.datasets.decode.decode` does, with its arguments and results.

        Raises:
            UnreadableImage: the image cannot be decoded, takes too long, or ends the process.
            MetaD2AError: no process can be started.
        """
        return self._asked(lambda child, until: child.decode(data, side, levels, until))

    def spread(self, data: bytes) -> Spread | None:
        """Measure as :func:`metad2a.datasets.decode.spread` does; None also where it cannot.

        Raises:
            UnreadableImage: the image takes too long, or ends the process.
            MetaD2AError: no process can be started.
        """
        return self._asked(lambda child, until: child.spread(data, until))

    def _asked(self, ask: Callable[[Child, float], T]) -> T:
        if os.getpid() != self._owner:
            self._lock, self._child, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._child is not None and self._child.process.poll() is not None:
                self._drop()  # It died between two images: none of them is to blame.
            child = self._child = self._child or Child()
            try:
                return ask(child, time.monotonic() + LIMITS.decode_seconds)
            except UnreadableImage:
                raise
            except TimeoutError:
                reason = f"decoding takes more than {LIMITS.decode_seconds:g} s"
            except (OSError, EOFError):
                reason = f"decoding it {_cause(child.process)}"
            except BaseException:  # Half an answer may be left in the socket.
                self._drop()
                raise
            self._drop()
            self.lost[reason] += 1
            raise UnreadableImage(reason)

    def _drop(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def close(self) -> None:
        """End the child; the next image would start another."""
        with self._lock:
            self._drop()


def _cause(process: subprocess.Popen[bytes]) -> str:
    """Return how a child that closed its connection ended, for the image's reason."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    code = process.returncode
    if code is not None and code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return "ended the process"


class SandboxedDataset(EncodedDataset):
    """Another dataset of image files, decoded in a :class:`Sandbox` within a total time.

    The time spent on reading and decoding is counted over all images, and above
    ``LIMITS.ingest_seconds`` no other image is read.
    """

    threads = False  # There is one child, and waiting for it would count as reading.

    def __init__(self, dataset: EncodedDataset) -> None:
        self.name, self.form, self.classes = dataset.name, dataset.form, dataset.classes
        self.labels, self.split, self.notes = dataset.labels, dataset.split, dataset.notes
        self.unused, self.layouts, self.kinds = dataset.unused, dataset.layouts, dataset.kinds
        self.limits = dataset.limits = LIMITS
        self._dataset, self._sandbox = dataset, Sandbox()
        self._seconds = 0.0

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        return self._dataset.encoded(index)

    def image(self, index: int) -> np.ndarray:
        """Decode an image to uint8 (height, width, 3), RGB."""
        return self.reduced(index, 0)[0]

    def reduced(self, index: int, side: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Decode an image, a large JPEG at a fraction of its size.

        Raises:
            UnreadableImage: it cannot be decoded.
            InputError: the images together have taken too long.
        """
        if self._seconds > LIMITS.ingest_seconds:
            raise InputError(
                f"Reading the images of {self.name!r} has taken {self._seconds:.0f} s, more than "
                f"the limit of {LIMITS.ingest_seconds:g} s. Give fewer or smaller images."
            )
        levels = self.levels()  # The child cannot ask for them.
        start = time.monotonic()
        try:
            return self._sandbox.decode(self.encoded(index), side, levels)
        finally:
            self._seconds += time.monotonic() - start

    def spread(self, index: int) -> Spread | None:
        """Measure the values of an image with more than 8 bits; None for any other."""
        start = time.monotonic()
        try:
            return self._sandbox.spread(self.encoded(index))
        finally:
            self._seconds += time.monotonic() - start

    def shuffled(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the order in which the dataset is best visited."""
        return self._dataset.shuffled(indices, rng)

    def locate(self, index: int) -> str:
        """Return the name that the dataset gives the image."""
        return self._dataset.locate(index)

    def close(self) -> None:
        """End the child process and let go of the dataset's files."""
        self._sandbox.close()
        self._dataset.close()
