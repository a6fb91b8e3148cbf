"""Decoding by several cores: a stream of squares, from worker processes or from threads.

A worker holds a copy of the dataset and opens its files anew. It imports NumPy, Pillow and this
package and no torch, so it is small and there within a fraction of a second; and it neither forks a
process in which other threads hold locks nor runs the user's script again, as torch's own loader
does. Pixels come back through shared memory. Threads serve where there are few images, and datasets
that cannot be sent to another process: a good third of the time in which Pillow decodes a small
image belongs to one thread alone, so that they keep two cores busy and no more.
"""

from __future__ import annotations

import contextlib
import io
import json
import mmap
import os
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from metad2a.datasets.base import ImageDataset
from metad2a.datasets.decode import UnreadableImage
from metad2a.errors import InputError, MetaD2AError

PIECE = 16
"""Most images that are asked for at a time."""
AHEAD = 4
"""Pieces that a worker is asked for in advance."""
FEW = 1_000
"""Images up to which the start of processes costs more than they save."""
MOST_WORKERS = 16
"""Processes by default; more would wait for the one that takes what they give."""
PICKLED_BYTES = 2**28
"""Most bytes of a dataset that each worker may get a copy of."""
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from metad2a.datasets.workers import work; work(int(sys.argv[2]), int(sys.argv[3]))"
)

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")
Decoded = tuple[np.ndarray, dict[int, str]]
"""Squares uint8 (k, side, side, 3), and why a row of them is not readable, by its number."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(
    function: Callable[[Asked], Answer], items: Iterable[Asked], threads: int, ahead: int
) -> Iterator[Answer]:
    """Yield what a function makes of items, in their order.

    Args:
        function: called in any of the threads.
        items: taken as they are needed.
        threads: that work at a time.
        ahead: most items that are begun and not yet asked for; left early, those are waited for
            that have begun, and the others dropped.
    """
    waiting = iter(items)
    futures: deque[Future[Answer]] = deque()
    with ThreadPoolExecutor(threads, "metad2a-decode") as executor:
        try:
            while True:
                for item in islice(waiting, ahead - len(futures)):
                    futures.append(executor.submit(function, item))
                if not futures:
                    return
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


class Pool:
    """What decodes a dataset: crews of workers, each serving one stream at a time.

    Args:
        dataset: the dataset.
        workers: processes, or threads, of a stream; None: one a core, at most
            :data:`MOST_WORKERS`.
    """

    def __init__(self, dataset: ImageDataset, workers: int | None = None) -> None:
        self.dataset = dataset
        self.workers = workers or min(cores(), MOST_WORKERS)
        self.processes = sys.platform != "win32"
        """Whether the dataset can be sent to processes, as far as is known."""
        self._idle: list[_Crew] = []
        self._owner = os.getpid()
        self._turn = contextlib.nullcontext() if dataset.threads else threading.Lock()

    def square(self, index: int, side: int) -> np.ndarray:
        """Decode one image here, uint8 (side, side, 3), also while a stream is under way.

        Raises:
            UnreadableImage: it cannot be decoded.
        """
        with self._turn:
            return self.dataset.square(index, side)

    def stream(self, pieces: Iterable[np.ndarray], side: int, images: int) -> Iterator[Decoded]:
        """Decode images, some pieces ahead.

        Args:
            pieces: int64 (k,) indices of images each, k at most :data:`PIECE`.
            side: of the squares, in pixels.
            images: how many there will be, more or less.

        Yields:
            For each piece what it asked for, in order; valid until the next one is taken.

        Raises:
            MetaD2AError: a worker has ended, or raised an error, which is an InputError if its own
                was.
        """
        crew = self._crew() if images > FEW else None
        if crew is None:
            yield from self._in_threads(pieces, side)
            return
        try:
            yield from crew.stream(pieces, side)
        except GeneratorExit:
            try:
                crew.drain()
            except MetaD2AError:
                crew.end()
            raise
        except BaseException:  # Half an answer may be left in a connection.
            crew.end()
            raise
        finally:
            if crew.end.alive:
                self._idle.append(crew)

    def _in_threads(self, pieces: Iterable[np.ndarray], side: int) -> Iterator[Decoded]:
        def decode(piece: np.ndarray) -> Decoded:
            out = np.empty((len(piece), side, side, 3), dtype=np.uint8)
            with self._turn:
                return out, _decode(self.dataset, piece, side, out)

        workers = self.workers if self.dataset.threads else 1
        yield from in_threads(decode, pieces, workers, workers * AHEAD)

    def _crew(self) -> _Crew | None:
        if not self.processes:
            return None
        if os.getpid() != self._owner:  # A forked copy must not talk to the parent's workers.
            self._idle, self._owner = [], os.getpid()
        with contextlib.suppress(IndexError):
            return self._idle.pop()
        data = _pickled(self.dataset)
        crew = _Crew(self.workers) if data is not None else None
        if crew is None or data is None or not crew.begin(data):
            self.processes = False
            return None
        return crew


_POOLS: weakref.WeakValueDictionary[tuple[int, int | None], Pool] = weakref.WeakValueDictionary()


def pool(dataset: ImageDataset, workers: int | None = None) -> Pool:
    """Return the pool of a dataset, which lives as long as somebody holds it."""
    key = (id(dataset), workers)  # A pool holds its dataset, so the number is not used again.
    return _POOLS.setdefault(key, Pool(dataset, workers))


def _pickled(dataset: ImageDataset) -> bytes | None:
    """Return a dataset for another process, or None if it is too large or cannot be sent."""
    large = 0

    def count(buffer: pickle.PickleBuffer) -> bool:
        nonlocal large
        large += buffer.raw().nbytes
        if large > PICKLED_BYTES:
            raise OverflowError
        return True  # It goes where all goes.

    stream = _Bounded()
    try:
        pickle.Pickler(stream, protocol=5, buffer_callback=count).dump(dataset)
    except Exception:  # Whatever the user's own objects raise.
        return None
    return stream.getvalue()


class _Bounded(io.BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > PICKLED_BYTES:
            raise OverflowError
        return super().write(data)


class _Crew:
    """Some worker processes and the memory that they share with this one."""

    def __init__(self, workers: int) -> None:
        if hasattr(os, "memfd_create"):
            # Not in /dev/shm, of which containers have little.
            self._memory = os.fdopen(os.memfd_create("metad2a"), "w+b")
        else:
            self._memory = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the crew)
        paths = json.dumps([str(path) or str(Path.cwd()) for path in sys.path])
        self.processes: list[subprocess.Popen[bytes]] = []
        self._connections: list[Connection] = []
        self.end = weakref.finalize(
            self, _end, self.processes, self._connections, self._memory, os.getpid()
        )
        self._owed: deque[int] = deque()
        for _ in range(workers):
            ours, theirs = socket.socketpair()
            self._connections.append(Connection(ours.detach()))
            with theirs:
                kept = (theirs.fileno(), self._memory.fileno())
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, "-P", "-c", _BOOT, paths, *map(str, kept)],
                        pass_fds=kept,
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.DEVNULL,
                        # The worker is one of many; and Ctrl-C is for the parent to handle.
                        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                        start_new_session=True,
                    )
                )

    def begin(self, data: bytes) -> bool:
        """Send the pickled dataset, and return whether every worker can read it."""
        try:
            for connection in self._connections:
                connection.send_bytes(data)
            ready = [connection.recv() for connection in self._connections]
        except (OSError, EOFError):
            ready = [False]
        if not all(ready):
            self.end()
        return all(ready)

    def stream(self, pieces: Iterable[np.ndarray], side: int) -> Generator[Decoded]:
        """Yield what the workers decode, in the order of the pieces."""
        workers, shape = len(self._connections), (PIECE, side, side, 3)
        slot = PIECE * side * side * 3
        size = workers * AHEAD * slot
        if os.fstat(self._memory.fileno()).st_size < size:
            os.ftruncate(self._memory.fileno(), size)
        memory = np.frombuffer(mmap.mmap(self._memory.fileno(), size), dtype=np.uint8)
        waiting = enumerate(pieces)

        def ask() -> None:
            for number, piece in waiting:
                worker, place = number % workers, number % (workers * AHEAD)
                self._send(worker, (piece, side, place * slot, size))
                lengths.append((worker, place * slot, len(piece)))
                return

        lengths: deque[tuple[int, int, int]] = deque()
        for _ in range(workers * AHEAD):
            ask()
        while lengths:
            worker, begin, length = lengths.popleft()
            failed = self._receive(worker)
            yield memory[begin : begin + slot].reshape(shape)[:length], failed
            ask()

    def drain(self) -> None:
        """Take what was asked for and is not wanted any more."""
        while self._owed:
            self._receive(self._owed[0])

    def _send(self, worker: int, message: Any) -> None:
        try:
            self._connections[worker].send(message)
        except OSError as error:
            raise _ended() from error
        self._owed.append(worker)

    def _receive(self, worker: int) -> dict[int, str]:
        try:
            answer = self._connections[worker].recv()
        except (OSError, EOFError) as error:
            raise _ended() from error
        self._owed.popleft()
        if isinstance(answer, dict):
            return answer
        of_input, text = answer
        raise (InputError if of_input else MetaD2AError)(text)


def _ended() -> MetaD2AError:
    return MetaD2AError(
        "A process that decodes images has ended. Is there memory for it? Give fewer workers, or "
        "images that are smaller."
    )


def _end(
    processes: list[subprocess.Popen[bytes]],
    connections: list[Connection],
    memory: Any,
    owner: int,
) -> None:
    for connection in connections:
        connection.close()
    memory.close()
    if os.getpid() == owner:  # A forked copy of the parent lets go, and no more.
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def work(connection: int, memory: int) -> None:
    """Decode what is asked for through a connection until it closes: the worker's work.

    Args:
        connection: file descriptor of a socket.
        memory: file descriptor of what is shared.
    """
    link = Connection(connection)
    mapped = mmap.mmap(-1, 1)
    with contextlib.suppress(EOFError, OSError):  # The parent is gone.
        try:
            dataset: ImageDataset = pickle.loads(link.recv_bytes())
        except Exception:  # A class of the user's own script, say, that is not there.
            link.send(False)
            return
        link.send(True)
        while True:
            piece, side, begin, size = link.recv()
            if len(mapped) != size:
                mapped = mmap.mmap(memory, size)
            count = len(piece) * side * side * 3
            out = np.frombuffer(mapped, np.uint8, count, begin).reshape(len(piece), side, side, 3)
            try:
                answer: Any = _decode(dataset, piece, side, out)
            except Exception as error:
                of_input = isinstance(error, InputError)
                text = (
                    str(error)
                    if isinstance(error, MetaD2AError)
                    else f"{type(error).__name__}: {error}"
                )
                answer = (of_input, text)
            link.send(answer)


def _decode(dataset: ImageDataset, piece: np.ndarray, side: int, out: np.ndarray) -> dict[int, str]:
    """Fill uint8 (k, side, side, 3), and return why a row is not readable."""
    failed = {}
    # In the order of storage, so that what is stored together is read once.
    for row in np.argsort(piece, kind="stable"):
        try:
            out[row] = dataset.square(int(piece[row]), side)
        except UnreadableImage as error:
            failed[int(row)] = str(error)
    return failed
