"""What ``suggest`` returns: the candidates, and all that is known of the dataset beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np

    from metad2a.answers import Answers
    from metad2a.datasets import DatasetReport, ImageDataset
    from metad2a.latency import Latency
    from metad2a.model.known import Known, Neighbourhood
    from metad2a.suggestion import Candidate


@dataclass(frozen=True)
class CostLimits:
    """The most that a suggested network may cost; None is no limit."""

    max_params: int | None = None
    max_macs: int | None = None
    max_latency_ms: float | None = None
    """On the machine that measured it."""


class Suggestions(Sequence["Candidate"]):
    """The candidates, best first, with the report on the dataset.

    ``dataset`` and ``limits`` are what they were made for; ``answers`` is the dataset as the model
    sees it, so that other limits, a check or a search can go on from here without looking at the
    images again. ``note`` is what holds for all candidates and must be known; ``latency`` says how
    latencies were measured, and is None where there was no such limit.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        answers: Answers,
        dataset: ImageDataset,
        limits: CostLimits,
        seconds: float,
        note: str = "",
        latency: Latency | None = None,
    ) -> None:
        self._candidates = candidates
        self.answers = answers
        self.dataset = dataset
        self.limits = limits
        self.seconds = seconds
        self.note = note
        self.latency = latency

    @property
    def report(self) -> DatasetReport:
        """What was read of the dataset."""
        return self.answers.report

    @property
    def protocol(self) -> str:
        """What the accuracies are of."""
        return self.answers.protocol

    @property
    def neighbourhood(self) -> Neighbourhood | None:
        """Where the dataset lies among those that were learnt from, where that is known."""
        return self.answers.neighbourhood

    @property
    def nearest(self) -> list[Known]:
        """The nearest datasets that the model learnt from; none where the model names none."""
        return [] if self.neighbourhood is None else list(self.neighbourhood.nearest)

    @property
    def far(self) -> bool:
        """Whether the dataset lies farther from all of those than they lie from one another."""
        return self.neighbourhood is not None and self.neighbourhood.far

    def smallest_within(self, points: float) -> Candidate:
        """Return the suggestion of the least work within so many points of the best expected."""
        best = max(candidate.accuracy for candidate in self)
        near = [one for one in self if one.accuracy >= best - points]
        return min(near, key=lambda one: one.macs)

    def predict(self, architectures: np.ndarray) -> list[Candidate]:
        """Return int (n, slots) architectures as candidates, in their order."""
        from metad2a.suggestion import candidates_of

        return candidates_of(self.answers, self.dataset, architectures)

    def within(
        self,
        max_params: int | None = None,
        max_macs: int | None = None,
        max_latency_ms: float | None = None,
        k: int = 5,
    ) -> Suggestions:
        """Return suggestions within other limits; the images are not looked at again.

        Raises:
            BudgetError: a limit cannot be met.
        """
        from metad2a.suggestion import answered

        return answered(
            self.answers, self.dataset, CostLimits(max_params, max_macs, max_latency_ms), k
        )

    def revised(self, candidates: Iterable[Candidate], seconds: float) -> Suggestions:
        """Return the same with other candidates, ranked in their order, and seconds added."""
        ranked = [replace(c, rank=rank) for rank, c in enumerate(candidates, start=1)]
        return Suggestions(
            ranked,
            self.answers,
            self.dataset,
            self.limits,
            self.seconds + seconds,
            self.note,
            self.latency,
        )

    def __len__(self) -> int:
        return len(self._candidates)

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> list[Candidate]: ...
    def __getitem__(self, index: int | slice) -> Candidate | list[Candidate]:
        return self._candidates[index]

    def __iter__(self) -> Iterator[Candidate]:
        return iter(self._candidates)

    def _repr_html_(self) -> str:
        from metad2a.notebook import suggestions

        return suggestions(self)

    def __str__(self) -> str:
        measured = any(c.measured for c in self)
        head = f"{'rank':>4}  {'accuracy':>8}  {'90 % interval':>14}  "
        lines = [
            head
            + (f"{'measured':>8}  " if measured else "")
            + f"{'parameters':>10}  {'MACs':>11}  "
            + (f"{'latency':>9}  " if self.latency else "")
            + "architecture"
        ]
        for c in self:
            found = f"{c.measured.accuracy:>6.1f} %  " if c.measured else f"{'–':>8}  "
            speed = f"{'–':>9}  " if c.latency_ms is None else f"{c.latency_ms:>6.2f} ms  "
            lines.append(
                f"{c.rank:>4}  {c.accuracy:>6.1f} %  {c.interval[0]:>5.1f} to "
                f"{c.interval[1]:>5.1f}  {found if measured else ''}{c.params:>10,}  "
                f"{c.macs:>11,}  {speed if self.latency else ''}{c.architecture}"
            )
        lines.append(self.answers.meaning())
        for protocol in dict.fromkeys(c.measured.protocol for c in self if c.measured):
            lines.append(f"Measured: {protocol}.")
        if self.latency:
            lines.append(str(self.latency))
        if self.note:
            lines.append(self.note)
        around = [] if self.neighbourhood is None else self.neighbourhood.lines()
        return "\n".join([*lines, *around])

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        around = {} if self.neighbourhood is None else self.neighbourhood.to_dict()
        return {
            "candidates": [c.to_dict() for c in self],
            "classes": list(self.dataset.classes),
            "report": self.report.to_dict(),
            "protocol": self.protocol,
            "note": self.note,
            "seconds": self.seconds,
            "latency": None if self.latency is None else self.latency.to_dict(),
            **around,
        }
