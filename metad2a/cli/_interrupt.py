"""A Ctrl-C that ends what runs in good order."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = b"\nStopping in good order; Ctrl-C again stops at once.\n"


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
