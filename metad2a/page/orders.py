"""What a job is to do, and what it tells and brings back; all of it travels between processes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from metad2a.page.backend import Step, Work
    from metad2a.suggestion import Candidate


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
    stop_seconds: ClassVar[float]
    """How long it may take, once cancelled, to end with what it has, before it is ended without."""

    @abstractmethod
    def carry_out(self, tell: Tell, should_stop: Stop) -> Outcome:
        """Do it, in a process of its own.

        Raises:
            MetaD2AError: it cannot be done.
        """


@dataclass(frozen=True)
class Found(Outcome):
    """What a search found."""

    candidates: list[Candidate]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SearchOrder(Order):
    """A check of suggested networks, or a refinement of them."""

    work: Work
    k: int
    stop_seconds: ClassVar[float] = 5.0

    def carry_out(self, tell: Tell, should_stop: Stop) -> Found:
        """Suggest, and measure what was suggested."""
        from metad2a.page.described import open_source
        from metad2a.result import Suggestions
        from metad2a.suggestion import suggest

        def progress(step: Step) -> None:
            tell(Point(float(step.fraction), str(step.stage), float(step.loss)))

        tell(Point(0.0, "reading"))
        with open_source(self.source, self.uploaded) as dataset:
            result = suggest(
                dataset,
                k=self.k,
                max_params=self.max_params,
                max_macs=self.max_macs,
                space=self.space,
            )
            found = self.work(
                result, minutes=self.minutes, progress=progress, should_stop=should_stop
            )
        listed = found if isinstance(found, Suggestions) else found.suggestions
        # The images stay where they are.
        return Found(
            [replace(one, dataset=None, reason=because(one)) for one in listed], listed.seconds
        )


def because(one: Candidate) -> str:
    """Return why a network has its rank in a list that measurements have a say in."""
    if one.measured is None:
        return f"not measured; {one.reason}"
    return f"{one.measured.accuracy:.1f} % measured here; {one.reason}"
