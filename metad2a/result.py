"""What ``suggest`` returns: the candidates, and all that is known of the dataset beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    import numpy as np

    from metad2a.datasets import DatasetReport, ImageDataset
    from metad2a.latency import Latency
    from metad2a.model.description import Description
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

    ``dataset`` and ``limits`` are what they were made for, ``description`` is the dataset as the
    model sees it, and ``predict`` makes candidates of other architectures, so that a search can go
    on from here. ``neighbourhood`` says where the
    dataset lies among those that the model learnt from, and ``latency`` how latencies were
    measured; it is None where there was no such limit.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        report: DatasetReport,
        protocol: str,
        seconds: float,
        dataset: ImageDataset,
        description: Description,
        limits: CostLimits,
        predict: Callable[[np.ndarray], list[Candidate]],
        neighbourhood: Neighbourhood,
        latency: Latency | None = None,
    ) -> None:
        self._candidates = candidates
        self.report = report
        self.protocol = protocol
        self.seconds = seconds
        self.dataset = dataset
        self.description = description
        self.limits = limits
        self.predict = predict
        self.neighbourhood = neighbourhood
        self.latency = latency

    @property
    def nearest(self) -> list[Known]:
        """The nearest datasets that the model learnt from; none where the model names none."""
        return list(self.neighbourhood.nearest)

    @property
    def far(self) -> bool:
        """Whether the dataset lies farther from all of those than they lie from one another."""
        return self.neighbourhood.far

    def revised(self, candidates: Iterable[Candidate], seconds: float) -> Suggestions:
        """Return the same with other candidates, ranked in their order, and seconds added."""
        ranked = [replace(c, rank=rank) for rank, c in enumerate(candidates, start=1)]
        return Suggestions(
            ranked,
            self.report,
            self.protocol,
            self.seconds + seconds,
            self.dataset,
            self.description,
            self.limits,
            self.predict,
            self.neighbourhood,
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
        lines.append(f"Accuracy is the expected test accuracy under the protocol {self.protocol}.")
        for protocol in dict.fromkeys(c.measured.protocol for c in self if c.measured):
            lines.append(f"Measured: {protocol}.")
        if self.latency:
            lines.append(str(self.latency))
        return "\n".join([*lines, *self.neighbourhood.lines()])

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "candidates": [c.to_dict() for c in self],
            "report": self.report.to_dict(),
            "protocol": self.protocol,
            "seconds": self.seconds,
            "latency": None if self.latency is None else self.latency.to_dict(),
            **self.neighbourhood.to_dict(),
        }
