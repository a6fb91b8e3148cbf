"""What trains, checks and refines: given to the page by its launchers, which alone know ``search``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.training.train import TrainProgress
    from metad2a.training.trained import Trained


class Step(Protocol):
    """How far a search is; :class:`search.Progress` is one."""

    @property
    def fraction(self) -> float:
        """Of the budget, 0 to 1."""

    @property
    def stage(self) -> str:
        """What is being done, in a word or two."""

    @property
    def loss(self) -> float:
        """Of the last step; NaN where there is none."""


class WithList(Protocol):
    """A trained network with the list that it was chosen from, as :func:`search.refine` returns."""

    suggestions: Suggestions


class Work(Protocol):
    """A search that puts measurements beside predictions, such as :func:`search.refine`."""

    def __call__(
        self,
        result: Suggestions,
        /,
        *,
        minutes: float,
        progress: Callable[[Step], None],
        should_stop: Callable[[], bool],
    ) -> Suggestions | WithList:
        """Return the candidates, measured ones first, or a network with them."""


class Check(Protocol):
    """What trains several suggestions, such as :func:`search.check`."""

    def __call__(
        self,
        result: Suggestions,
        /,
        *,
        candidates: int,
        minutes: float,
        progress: Callable[[Step], None],
        should_stop: Callable[[], bool],
    ) -> Suggestions:
        """Return the candidates, the first ``candidates`` of them measured and in front."""


class Train(Protocol):
    """What trains one network, such as :func:`metad2a.train`."""

    def __call__(
        self,
        source: Any,
        /,
        *,
        minutes: float,
        network: str | None,
        space: str,
        max_params: int | None,
        max_macs: int | None,
        progress: Callable[[TrainProgress], None],
        should_stop: Callable[[], bool],
    ) -> Trained:
        """Return the network and what it reached."""


@dataclass(frozen=True)
class Backend:
    """The jobs that the page offers.

    All must be functions of a module: they run in a process of their own, which finds them by
    name.
    """

    check: Check
    """Trains the first ``candidates`` of a list, to compare them."""
    refine: Work
    """Looks on from the candidates."""
    train: Train
    """Trains one network as well as the time allows."""
