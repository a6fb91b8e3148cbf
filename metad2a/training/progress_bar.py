"""A bar for a training: in a terminal, in a log file, and as a widget in a notebook."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.training.train import TrainProgress


@contextlib.contextmanager
def progress_bar(disable: bool = False) -> Iterator[Callable[[TrainProgress], None]]:
    """Give what ``train(progress=...)`` takes: it shows phase, epoch, loss and the time left.

    Args:
        disable: show nothing.
    """
    from tqdm.auto import tqdm

    with tqdm(
        total=100,
        delay=2,
        disable=disable,
        # A log file gets few lines.
        mininterval=0.5 if sys.stderr.isatty() else 20,
        bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed} {postfix}",
    ) as bar:
        foreseen = False

        def show(progress: TrainProgress) -> None:
            nonlocal foreseen
            if progress.images_per_second is not None and not foreseen:
                foreseen = True
                hours = progress.remaining / 3600
                bar.write(
                    f"{progress.images_per_second:,.1f} images a second: the remaining "
                    f"{progress.epochs - progress.epoch:.1f} epochs take about "
                    + (f"{hours:,.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"),
                    file=sys.stderr,
                )
            bar.set_description(progress.phase, refresh=False)
            parts = []
            if progress.epochs:
                parts.append(f"epoch {progress.epoch:.1f} of {progress.epochs:.1f}")
            if progress.loss is not None:
                parts.append(f"loss {progress.loss:.2f}")
            if progress.curve:
                parts.append(f"{progress.curve[-1][1]:.1f} % so far")
            parts.append(f"{progress.remaining:.0f} s left")
            bar.set_postfix_str(", ".join(parts), refresh=False)
            bar.update(100 * progress.fraction - bar.n)

        yield show
