"""A check or a refinement in a process of its own, of low priority, that can always be ended.

The server stays quick beside it, and nothing that the job does with a stranger's images happens in
the server. The process ends by itself when the server does, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError, MetaD2AError

if TYPE_CHECKING:
    from metad2a.page.backend import Step, Work
    from metad2a.result import Suggestions
    from metad2a.suggestion import Candidate

_NICE = 10
_KILL_SECONDS = 2.0


@dataclass(frozen=True)
class Order:
    """What a job is to do."""

    work: Work
    source: str
    """An upload's path, or the name of an example."""
    uploaded: bool
    k: int
    max_params: int | None
    max_macs: int | None
    minutes: float


@dataclass(frozen=True)
class Point:
    """A sign of life: how far the job is, and the loss or NaN."""

    fraction: float
    stage: str
    loss: float


@dataclass(frozen=True)
class Outcome:
    """What a job found."""

    candidates: list[Candidate]
    seconds: float


class Worker:
    """The process of one job; must be :meth:`close`\\ d."""

    def __init__(self, order: Order) -> None:
        context = get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_main, args=(theirs, order), daemon=True)
        self._process.start()
        theirs.close()

    def news(self) -> list[Point | Outcome]:
        """Return what came since the last call, without waiting.

        Raises:
            InputError: the job cannot be done, or its process died.
        """
        found: list[Point | Outcome] = []
        try:
            while self._ours.poll():
                one = pickle.loads(self._ours.recv_bytes())  # written by our own process, below
                if isinstance(one, InputError):
                    raise one
                found.append(one)
        except (EOFError, OSError):
            if not any(isinstance(one, Outcome) for one in found):
                raise InputError(
                    "The job ended before it had a result. Try again, with fewer "
                    "images or more time."
                ) from None
        return found

    def stop(self) -> None:
        """Ask the job to end with what it has."""
        with contextlib.suppress(OSError):
            self._ours.send_bytes(b"stop")

    def close(self) -> None:
        """End the process, at once if it still runs."""
        self._ours.close()
        if self._process.is_alive():
            self._process.kill()
        self._process.join(_KILL_SECONDS)


def _main(pipe: Connection, order: Order) -> None:
    """Do an order and tell of it through the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends us
    os.nice(_NICE)
    stop = threading.Event()
    threading.Thread(target=_listen, args=(pipe, stop), daemon=True).start()

    def tell(one: Any) -> None:
        with contextlib.suppress(OSError):
            pipe.send_bytes(pickle.dumps(one))

    try:
        found = _work(order, tell, stop)
    except MetaD2AError as error:
        tell(InputError(str(error)))
        return
    tell(Outcome(list(found), found.seconds))


def _work(order: Order, tell: Any, stop: threading.Event) -> Suggestions:
    from metad2a.page.described import open_source
    from metad2a.suggestion import suggest

    def progress(step: Step) -> None:
        tell(Point(float(step.fraction), str(step.stage), float(step.loss)))

    tell(Point(0.0, "reading", float("nan")))
    with open_source(order.source, order.uploaded) as dataset:
        result = suggest(dataset, k=order.k, max_params=order.max_params, max_macs=order.max_macs)
        return order.work(result, minutes=order.minutes, progress=progress, should_stop=stop.is_set)


def _listen(pipe: Connection, stop: threading.Event) -> None:
    """Wait for the word to stop; where the server is gone, end at once."""
    try:
        while True:
            pipe.recv_bytes()
            stop.set()
    except (EOFError, OSError):
        os._exit(1)
