"""The progress bar of the commands that count what they do."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def counting(unit: str) -> Iterator[Callable[[int, int, str], None]]:
    """Give a function that shows (done, total, text) as a bar, if it takes over two seconds."""
    from tqdm.auto import tqdm

    # A log file gets a line a minute.
    interval = 0.5 if sys.stderr.isatty() else 60
    with tqdm(unit=unit, delay=2, mininterval=interval, file=sys.stderr) as bar:

        def show(done: int, total: int, text: str) -> None:
            bar.total = total
            bar.set_postfix_str(text, refresh=False)
            bar.update(done - bar.n)

        yield show
