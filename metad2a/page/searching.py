"""Checks and refinements: the order, and what such a job brings back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from metad2a.page import values
from metad2a.page.orders import Order, Outcome, Point, Stop, Tell
from metad2a.page.training import TrainedHere, saved

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.page.backend import Backend, Step, Work

Kind = Literal["check", "refine"]


@dataclass(frozen=True)
class Found(Outcome):
    """What was measured."""

    candidates: list[Candidate]
    """In the order of the job: what it measured first."""
    seconds: float
    note: str = ""
    """What must be known of the order."""
    trained: TrainedHere | None = None
    """The best network, if one was trained to its end."""


@dataclass(frozen=True, kw_only=True)
class SearchOrder(Order):
    """A check of suggested networks, or a refinement of them."""

    work: Work
    k: int
    """How many suggestions it begins with."""

    def carry_out(self, tell: Tell, should_stop: Stop) -> Found:
        """Suggest, measure what was suggested, and save the best that was trained."""
        from metad2a.page.described import open_source
        from metad2a.result import Suggestions
        from metad2a.suggestion import suggest

        def progress(step: Step) -> None:
            stage = "comparing" if step.stage == "judging" else str(step.stage)
            tell(Point(float(step.fraction), stage, float(step.loss)))

        tell(Point(0.0, "reading"))
        with open_source(self.source, self.uploaded) as dataset:
            result = suggest(
                dataset,
                k=self.k,
                max_params=self.max_params,
                max_macs=self.max_macs,
                max_latency_ms=self.max_latency_ms,
                minutes=values.TRAINING,
                space=self.space,
            )
            found = self.work(
                result, minutes=self.minutes, progress=progress, should_stop=should_stop
            )
            listed = found if isinstance(found, Suggestions) else found.suggestions
            best = next((one.trained for one in listed if one.trained is not None), None)
            trained = None if best is None else saved(best, self.place, tell)
        return Found(
            # Images and weights stay where they are.
            [replace(one, dataset=None, trained=None, reason=because(one)) for one in listed],
            listed.seconds,
            listed.note.removeprefix(result.note).strip(),
            trained,
        )


def work_of(backend: Backend, kind: Kind, k: int) -> Work:
    """Return what does a check of all ``k`` networks of a list, or a refinement of them."""
    return partial(backend.check, candidates=k) if kind == "check" else backend.refine


def because(one: Candidate) -> str:
    """Return why a network has its rank in a list that measurements have a say in."""
    if one.measured is None:
        return f"not measured; {one.reason}"
    return f"{one.measured.accuracy:.1f} % measured here; {one.reason}"
