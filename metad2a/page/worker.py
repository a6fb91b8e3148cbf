"""A job in a process of its own, of low priority, that can always be ended.

The server stays quick beside it, and nothing that the job does with a stranger's images happens in
the server. The process ends by itself when the server does, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

from metad2a.errors import InputError, MetaD2AError
from metad2a.page.orders import Order, Outcome, Point

_NICE = 10
_KILL_SECONDS = 2.0


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
        tell(order.carry_out(tell, stop.is_set))
    except MetaD2AError as error:
        tell(InputError(str(error)))


def _listen(pipe: Connection, stop: threading.Event) -> None:
    """Wait for the word to stop; where the server is gone, end at once."""
    try:
        while True:
            pipe.recv_bytes()
            stop.set()
    except (EOFError, OSError):
        os._exit(1)
