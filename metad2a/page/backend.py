"""What checks and refines: given to the page by its launchers, which alone know ``search``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from metad2a.result import Suggestions


class Step(Protocol):
    """How far a job is; :class:`search.Progress` is one."""

    @property
    def fraction(self) -> float:
        """Of the budget, 0 to 1."""

    @property
    def stage(self) -> str:
        """What is being done, in a word or two."""

    @property
    def loss(self) -> float:
        """Of the last step; NaN where there is none."""


class Work(Protocol):
    """A search that puts measurements beside predictions, such as :func:`search.check`."""

    def __call__(
        self,
        result: Suggestions,
        /,
        *,
        minutes: float,
        progress: Callable[[Step], None],
        should_stop: Callable[[], bool],
    ) -> Suggestions:
        """Return the candidates, measured ones first."""


@dataclass(frozen=True)
class Backend:
    """The two jobs that the page offers.

    Both must be functions of a module: they run in a process of their own, which finds them by
    name.
    """

    check: Work
    """Trains the candidates from scratch."""
    refine: Work
    """Searches on from the candidates."""
