"""Several processes that share one build, and a Ctrl-C that ends them all in good order."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import FrameType
from typing import TYPE_CHECKING, Any, cast

from metad2a.errors import InputError, MetaD2AError

if TYPE_CHECKING:
    from database.build import Summary

Progress = Callable[[int, int, str], None]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = b"\nStopping when the measurement in hand is done; Ctrl-C again stops at once.\n"


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C (or SIGTERM) a wish, told by the function given, not an exception.

    Raises:
        KeyboardInterrupt: at the second one.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        os.write(2, _STOPPING)  # sys.stderr may be in the middle of a write

    before = {number: signal.signal(number, ask) for number in _SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def build_shared(
    workers: int, progress: Progress, should_stop: Callable[[], bool], **arguments: Any
) -> Summary:
    """Run ``database.build.build``, shared out over ``workers`` processes.

    Args:
        workers: number of processes; one builds in this process.
        progress: as in ``build``, summed over the processes.
        should_stop: as in ``build``.
        **arguments: the other arguments of ``build``.

    Raises:
        InputError: ``workers`` is less than 1, or as in ``build``.
        MetaD2AError: a process ended unexpectedly, or as in ``build``; the others were stopped.
    """
    from database.build import build

    if workers < 1:
        raise InputError(f"--workers {workers} is too few; use 1 or more.")
    if workers == 1:
        return build(**arguments, progress=progress, should_stop=should_stop)
    processes = _start(workers, arguments)
    try:
        results = _gather(processes, progress, should_stop)
    finally:
        for process in processes.values():
            process.kill()  # every row is a transaction, so nothing is lost but time
            process.join()
    for result in results:
        if isinstance(result, MetaD2AError):
            raise result
    return _merged([result for result in results if not isinstance(result, MetaD2AError)])


def _start(workers: int, arguments: dict[str, Any]) -> dict[Connection, SpawnProcess]:
    """Start the processes; each is known by this side of its pipe."""
    context = multiprocessing.get_context("spawn")
    processes = {}
    # A Ctrl-C reaches all processes of a terminal, but only this one shall act on it. That a
    # signal is ignored is inherited.
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        for part in range(workers):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_work, args=(arguments, (part, workers), theirs), daemon=True)
            process.start()
            theirs.close()
            processes[ours] = process
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return processes


def _work(arguments: dict[str, Any], share: tuple[int, int], pipe: Connection) -> None:
    """Build one share in a process of its own; any message from the parent, or its end, stops."""
    import torch

    from database.build import build

    def progress(*step: Any) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, and should_stop will say so
            pipe.send(step)

    torch.set_num_threads(max(1, torch.get_num_threads() // share[1]))
    result: Summary | MetaD2AError
    try:
        with contextlib.redirect_stdout(sys.stderr):  # as the parent does for itself
            result = build(**arguments, share=share, progress=progress, should_stop=pipe.poll)
    except MetaD2AError as error:
        result = error
    with contextlib.suppress(OSError):
        pipe.send(result)


def _gather(
    processes: dict[Connection, SpawnProcess], progress: Progress, should_stop: Callable[[], bool]
) -> list[Summary | MetaD2AError]:
    """Wait for what every process returns; a failure of one stops the others."""
    results: list[Summary | MetaD2AError] = []
    steps: dict[Connection, tuple[int, int]] = {}
    running = dict(processes)
    stopping = False
    while running:
        for pipe in cast(list[Connection], wait(list(running), timeout=0.2)):
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                message = _lost(running[pipe])
            if isinstance(message, tuple):
                steps[pipe] = message[:2]
                done, total = map(sum, zip(*steps.values(), strict=True))
                progress(done, total, message[2])
            else:
                results.append(message)
                del running[pipe]
        failed = any(isinstance(result, MetaD2AError) for result in results)
        if not stopping and (failed or should_stop()):
            stopping = True
            for pipe in running:
                with contextlib.suppress(OSError):  # it has just ended by itself
                    pipe.send("stop")
    return results


def _lost(process: SpawnProcess) -> MetaD2AError:
    process.join()
    return MetaD2AError(
        f"A worker process ended with exit code {process.exitcode} before its share was done (-9: "
        "killed, usually for want of memory). What was measured is stored; run the same command "
        "again, with fewer --workers if memory was short."
    )


def _merged(parts: list[Summary]) -> Summary:
    from database.build import Summary

    whole = Summary()
    for part in parts:
        whole.tasks += part.tasks
        whole.evaluations += part.evaluations
        whole.conflicts += part.conflicts
        whole.failures += part.failures
        whole.skipped |= part.skipped
        whole.stopped |= part.stopped
    return whole
