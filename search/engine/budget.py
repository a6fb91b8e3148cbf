"""How long a search runs: for some time, or for a number of training images.

Schedules follow the fraction of the budget that is spent, so they fit either kind. Only a budget
of images makes a run repeat to the last bit: time is never the same twice.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from metad2a.errors import InputError


@dataclass
class Budget:
    """Seconds in all, or images that pass forward and backward through a network."""

    seconds: float | None = None
    images: int | None = None
    spent: float = 0.0
    """Seconds that earlier processes used, where a run was resumed."""
    _start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if (self.seconds is None) == (self.images is None):
            raise InputError(
                f"seconds={self.seconds} and images={self.images}: a budget is either "
                "of time or of images. Give one of the two."
            )
        value = self.images if self.seconds is None else self.seconds
        if value is None or not 0 < value < math.inf:
            raise InputError(f"A budget of {value} cannot be spent; give a positive number.")

    @property
    def limit(self) -> float:
        """Seconds in all; infinite with a budget of images."""
        return math.inf if self.seconds is None else self.seconds

    @property
    def elapsed(self) -> float:
        """Seconds used so far, in all processes."""
        return self.spent + time.monotonic() - self._start

    def fraction(self, images: int, reserve: float, ahead: float) -> float:
        """Return the share of the training budget that is spent, 0 to 1.

        Args:
            images: passed so far.
            reserve: seconds that are kept for judging after the training.
            ahead: seconds to look ahead. A budget of images takes neither.
        """
        if self.images is not None:
            return min(images / self.images, 1.0)
        return min((self.elapsed + ahead) / (self.limit - reserve), 1.0)

    def over(self, ahead: float = 0.0) -> bool:
        """Whether the time is up, or will be some seconds ahead; never with a budget of images."""
        return self.seconds is not None and self.elapsed + ahead >= self.seconds
