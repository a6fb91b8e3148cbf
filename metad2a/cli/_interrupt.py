"""A Ctrl-C that ends what runs in good order."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
_STOPPING = b"\nStopping in good order; Ctrl-C again stops at once.\n"


@contextlib.contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Make the first Ctrl-C a wish, told by the function given, not an exception.

    So is a SIGTERM, and the SIGHUP of a terminal that is closed, unless ``nohup`` has it ignored.

    Raises:
        KeyboardInterrupt: at the second one.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, _STOPPING)  # sys.stderr may be in the middle of a write

    before = {
        number: signal.signal(number, ask)
        for number in _SIGNALS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
