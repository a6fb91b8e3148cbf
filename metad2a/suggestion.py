"""``suggest``: labelled images in, the architectures predicted to do best on them out."""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from metad2a.datasets import DatasetReport, ImageDataset, load_dataset
from metad2a.errors import InputError
from metad2a.spaces import SPACES

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from metad2a.model.metad2a import MetaD2A

CANDIDATES = 512
"""Architectures generated, of which the best predicted are returned."""


@dataclass(frozen=True)
class CostLimits:
    """The most that a suggested network may cost; None is no limit."""

    max_params: int | None = None
    max_macs: int | None = None


@dataclass(frozen=True)
class Measured:
    """What a training or a search found a candidate to do, beside what was predicted."""

    accuracy: float
    """On held-out images of the dataset, in percent."""
    protocol: str
    """How it was measured; only accuracies of one protocol compare."""
    seconds: float
    curve: tuple[float, ...] = ()
    """Accuracy on the way, in percent, where it was followed."""


@dataclass(frozen=True)
class Candidate:
    """One suggested network."""

    rank: int
    """1 is the best predicted."""
    space: str
    architecture: str
    """The space's own string form."""
    accuracy: float
    """Predicted test accuracy under the result's protocol, in percent."""
    interval: tuple[float, float]
    """Bounds of the 90 % interval, in percent."""
    params: int
    """Trainable parameters of :meth:`build`'s network."""
    macs: int
    """Multiply-adds of one image at the space's resolution."""
    classes: int
    reason: str
    measured: Measured | None = None
    """What ``search.refine`` or ``search.check`` measured; None for a bare suggestion."""
    network: nn.Module | None = field(default=None, repr=False, compare=False)
    """The trained network, where one was kept."""

    def draw(self, path: str | Path | None = None) -> str:
        """Return the cell as SVG, and write it to ``path`` if one is given."""
        from metad2a.draw import svg

        text = svg(SPACES.get(self.space), self.architecture)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def build(self, **macro: int) -> nn.Module:
        """Return a plain PyTorch network with the dataset's classes: trained, if one was kept.

        Args:
            macro: sizes of the space's network other than the default ones, such as ``channels``
                and ``cells``; ``params`` and ``macs`` hold for the default ones. A network of
                given sizes is always a new, untrained one.
        """
        if self.network is not None and not macro:
            return copy.deepcopy(self.network)
        space = SPACES.get(self.space)
        return space.build(space.parse(self.architecture), self.classes, **macro)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints of a candidate."""
        return {
            "rank": self.rank, "space": self.space, "architecture": self.architecture,
            "accuracy": self.accuracy, "interval": list(self.interval), "params": self.params,
            "macs": self.macs, "reason": self.reason,
            "measured": None if self.measured is None else asdict(self.measured),
        }


class Suggestions(Sequence[Candidate]):
    """The candidates, best first, with the report on the dataset.

    ``dataset`` and ``limits`` (``max_params`` and ``max_macs``) are what they were made for, and
    ``predict`` makes candidates of other architectures, so that a search can go on from here.
    """

    def __init__(
        self,
        candidates: list[Candidate],
        report: DatasetReport,
        protocol: str,
        seconds: float,
        dataset: ImageDataset,
        limits: CostLimits,
        predict: Callable[[np.ndarray], list[Candidate]],
    ) -> None:
        self._candidates = candidates
        self.report = report
        self.protocol = protocol
        self.seconds = seconds
        self.dataset = dataset
        self.limits = limits
        self.predict = predict

    def revised(self, candidates: Iterable[Candidate], seconds: float) -> Suggestions:
        """Return the same with other candidates, ranked in their order, and seconds added."""
        ranked = [replace(c, rank=rank) for rank, c in enumerate(candidates, start=1)]
        return Suggestions(ranked, self.report, self.protocol, self.seconds + seconds,
                           self.dataset, self.limits, self.predict)

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
        lines = [head + (f"{'measured':>8}  " if measured else "")
                 + f"{'parameters':>10}  {'MACs':>11}  architecture"]
        for c in self:
            found = f"{c.measured.accuracy:>6.1f} %  " if c.measured else f"{'–':>8}  "
            lines.append(
                f"{c.rank:>4}  {c.accuracy:>6.1f} %  {c.interval[0]:>5.1f} to "
                f"{c.interval[1]:>5.1f}  {found if measured else ''}{c.params:>10,}  "
                f"{c.macs:>11,}  {c.architecture}"
            )
        lines.append(f"Accuracy is the expected test accuracy under the protocol {self.protocol}.")
        for protocol in dict.fromkeys(c.measured.protocol for c in self if c.measured):
            lines.append(f"Measured: {protocol}.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "candidates": [c.to_dict() for c in self],
            "report": self.report.to_dict(),
            "protocol": self.protocol,
            "seconds": self.seconds,
        }


def suggest(
    source: Any,
    *,
    k: int = 5,
    seed: int = 0,
    max_params: int | None = None,
    max_macs: int | None = None,
    model: str | Path | MetaD2A | None = None,
    space: str = "nasbench201",
) -> Suggestions:
    """Suggest networks for a dataset. Nothing is trained on it.

    Args:
        source: anything that :func:`metad2a.load_dataset` takes: a folder, a zip, a Parquet file,
            a torch dataset, arrays.
        k: how many; fewer come back when fewer obey the limits.
        seed: of the image sample and of the generator; the same seed gives the same answer.
        max_params: most trainable parameters.
        max_macs: most multiply-adds of one image at the space's resolution (32x32 for cells of
            NAS-Bench-201).
        model: a loaded model, a folder, ``"org/name@revision"`` on the Hugging Face Hub, or None
            for the model inside the package.
        space: search space; must be the model's.

    Raises:
        InputError: the dataset or an argument cannot be used.
        BudgetError: a limit is below the smallest network; names the smallest feasible value.
        ArtifactError: the model cannot be loaded.
    """
    start = time.perf_counter()
    from metad2a.model.description import describe
    from metad2a.model.metad2a import MetaD2A, packaged

    k, seed = _whole("k", k, 1), _whole("seed", seed, 0)
    max_params = None if max_params is None else _whole("max_params", max_params, 1)
    max_macs = None if max_macs is None else _whole("max_macs", max_macs, 1)
    chosen = SPACES.get(space)
    dataset = load_dataset(source)
    chosen.check_limits(len(dataset.classes), max_params, max_macs)
    if model is None:
        model = packaged()
    elif not isinstance(model, MetaD2A):
        model = MetaD2A.from_pretrained(model)
    if model.space.name != space:
        raise InputError(f"space={space!r}, but the model was trained for {model.space.name!r}; "
                         "use that space or another model.")
    description, report = describe(dataset, seed)
    classes = len(dataset.classes)
    cells = model.generate_described(
        description, max(CANDIDATES, k), seed, classes, max_params, max_macs)
    found = model.predict_described(description, cells)
    order = (-found.mean).argsort(kind="stable")[:k]

    def predict(architectures: np.ndarray) -> list[Candidate]:
        """Return int (n, slots) architectures as candidates, in their order."""
        answer = model.predict_described(description, architectures)
        costs = chosen.costs(architectures, classes)
        return [
            Candidate(
                rank, space, chosen.format(tuple(cell)), float(mean), (float(low), float(high)),
                int(cost[0]), int(cost[1]), classes,
                _reason(rank, len(cells), [chosen.operations[op] for op in cell]),
            )
            for rank, (cell, mean, low, high, cost) in enumerate(
                zip(architectures.tolist(), answer.mean, answer.low, answer.high, costs,
                    strict=True), start=1)
        ]

    return Suggestions(predict(cells[order]), report, model.protocol, time.perf_counter() - start,
                       dataset, CostLimits(max_params, max_macs), predict)


def _whole(name: str, value: Any, least: int) -> int:
    """Return a number as an int, or refuse it; what NumPy and torch take ends at 2**63 - 1."""
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not least <= value < 2**63:
        raise InputError(f"{name}={value!r} must be a whole number from {least} to 2**63 - 1.")
    return int(value)


def _reason(rank: int, generated: int, operations: list[str]) -> str:
    parts = ", ".join(f"{count} x {name}" for name, count in Counter(operations).most_common())
    return (f"predicted {'best' if rank == 1 else f'number {rank}'} of {generated:,} networks "
            f"generated for this dataset; its cell has {parts}")
