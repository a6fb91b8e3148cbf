"""What a job is to do, and what it tells and brings back; all of it travels between processes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

AFTER_SECONDS = 10.0
"""What a job may take beyond its minutes, to judge and to write: counted in the time that is shown."""
SAVING_SECONDS = 5.0
"""Of these, to write."""


@dataclass(frozen=True)
class Point:
    """A sign of life: how far a job is."""

    fraction: float
    """Of its time, 0 to 1."""
    stage: str
    loss: float = math.nan
    """Of the last step; NaN where there is none."""
    left: float | None = None
    """Seconds, as the job foresees them; None: what its minutes leave."""
    surely: bool = False
    """Whether ``left`` is known by the pace of what is being done, or is only the most it can be."""
    epoch: float = 0.0
    epochs: float = 0.0
    curve: tuple[tuple[float, float], ...] = ()
    """(epoch, accuracy in percent) so far, of a training."""


class Outcome:
    """What a job brings back."""


Tell = Callable[[Point], None]
Stop = Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Order(ABC):
    """What a job is to do."""

    source: str
    """An upload's path, or the name of an example."""
    uploaded: bool
    space: str
    max_params: int | None
    max_macs: int | None
    minutes: float
    max_latency_ms: float | None = None
    place: Path
    """An empty folder that is this job's."""

    @abstractmethod
    def carry_out(self, tell: Tell, should_stop: Stop) -> Outcome:
        """Do it, in a process of its own.

        Raises:
            MetaD2AError: it cannot be done.
        """
