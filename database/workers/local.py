"""Workers as processes of this machine: one that crashes or hangs takes only its job with it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

from database.workers.base import Ended, Outcome, Work, Workers, perform
from metad2a.errors import MetaD2AError

if TYPE_CHECKING:
    from database.tasks import Task
    from metad2a.datasets import ImageDataset
    from search.data import TaskImages

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_KEPT_TASKS = 2  # whose images a worker keeps: the jobs of a task come one after the other


@dataclass
class _Worker:
    """A process, our side of its pipe, and the job that it has in hand (None: it waits)."""

    process: SpawnProcess
    pipe: Connection
    number: int | None = None


class LocalWorkers(Workers):
    """Up to ``count`` processes, started when there is work for them.

    ``folders`` has the place of each dataset by its fingerprint.
    """

    def __init__(self, count: int, folders: Mapping[str, Path]) -> None:
        self._count = count
        self._folders = dict(folders)
        self._workers: list[_Worker] = []

    def free(self) -> int:
        """Return how many processes wait, or could be started."""
        return self._count - sum(worker.number is not None for worker in self._workers)

    def start(self, number: int, work: Work, task: Task) -> None:
        """Give the job to a process that waits."""
        idle = [worker for worker in self._workers if worker.number is None]
        worker = idle[0] if idle else self._new()
        worker.number = number
        with contextlib.suppress(OSError):  # it has just died, which ``wait`` will find
            worker.pipe.send((work, task))

    def wait(self, seconds: float) -> list[Ended]:
        """Collect results; a process that failed or died is replaced when it is needed."""
        ended = []
        ready = wait([worker.pipe for worker in self._workers], seconds)
        for worker in [one for one in self._workers if one.pipe in ready]:
            number = worker.number
            try:
                result: Outcome | str = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                result = _death(worker.process.exitcode)
            if isinstance(result, Outcome):
                worker.number = None
            else:
                self._end(worker)  # an error may have spoilt it: a lost GPU, a broken heap
            if number is not None:
                ended.append(
                    Ended(number, result)
                    if isinstance(result, Outcome)
                    else Ended(number, error=result)
                )
        return ended

    def stop(self, number: int) -> None:
        """Kill the process that has the job in hand."""
        for worker in [one for one in self._workers if one.number == number]:
            self._end(worker)

    def close(self) -> None:
        """Kill all processes."""
        for worker in list(self._workers):
            self._end(worker)

    def _end(self, worker: _Worker) -> None:
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)

    def _new(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._folders), daemon=True)
        with _ignored():  # a Ctrl-C reaches all processes of a terminal; only the driver acts on it
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]


@contextlib.contextmanager
def _ignored() -> Iterator[None]:
    """Ignore signals, which a new process inherits; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _death(code: int | None) -> str:
    hint = " (killed, usually for want of memory)" if code == -signal.SIGKILL else ""
    return f"The worker process ended with exit code {code}{hint} and gave no result."


def _serve(pipe: Connection, folders: Mapping[str, Path]) -> None:
    """Carry out work until the driver goes away."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    images = _Images(folders)
    while True:
        try:
            work, task = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            with contextlib.redirect_stdout(sys.stderr):
                result: Outcome | str = perform(work, images.load(task))
        except Exception as error:  # whatever a job does, the driver decides what follows
            kind = "" if isinstance(error, MetaD2AError) else f"{type(error).__name__}: "
            result = f"{kind}{error}"
        with contextlib.suppress(OSError):
            pipe.send(result)


def _die_with_parent() -> None:
    """End this process with the driver, even in the middle of a training."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Images:
    """The images of the last tasks, and the datasets that they came from."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        self._folders = folders
        self._datasets: dict[str, ImageDataset] = {}
        self._tasks: dict[str, TaskImages] = {}

    def load(self, task: Task) -> TaskImages:
        """Return the images of a task.

        Raises:
            InputError: the dataset has changed.
        """
        from metad2a.datasets import load_dataset

        if task.key not in self._tasks:
            while len(self._tasks) >= _KEPT_TASKS:
                del self._tasks[next(iter(self._tasks))]
            if task.dataset not in self._datasets:
                self._datasets[task.dataset] = load_dataset(self._folders[task.dataset])
            self._tasks[task.key] = task.load(self._datasets[task.dataset])
        return self._tasks[task.key]
