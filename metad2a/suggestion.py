"""``suggest``: labelled images in, the architectures predicted to do best on them out."""

from __future__ import annotations

import copy
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.latency import checked_limit, widened, within
from metad2a.result import CostLimits, Suggestions
from metad2a.spaces import SPACES

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from metad2a.model.metad2a import MetaD2A

__all__ = ["CANDIDATES", "Candidate", "CostLimits", "Measured", "Suggestions", "suggest"]

CANDIDATES = 512
"""Architectures generated, of which the best predicted are returned."""


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
    latency_ms: float | None = None
    """As measured under a latency limit; None where none was set."""
    measured: Measured | None = None
    """What ``search.refine`` or ``search.check`` measured; None for a bare suggestion."""
    network: nn.Module | None = field(default=None, repr=False, compare=False)
    """The trained network, where one was kept."""

    def draw(self, path: str | Path | None = None) -> str:
        """Return the cell as SVG, and write a drawing to ``path`` if one is given.

        Args:
            path: its ending names the format: ``.svg``, ``.png``, ``.mmd`` or ``.md`` (Mermaid);
                see :func:`metad2a.draw.write`.

        Raises:
            InputError: the ending is another one, or PNG is wanted and the extra ``png`` is not
                installed.
            ArtifactError: the file cannot be written.
        """
        from metad2a.draw import svg, write

        space = SPACES.get(self.space)
        if path is not None:
            write(space, self.architecture, path)
        return svg(space, self.architecture)

    def save(self, folder: str | Path, *, onnx: bool = False, **macro: int) -> Path:
        """Write the network into a folder: code, description, card, drawing, and weights it has.

        Args:
            folder: a new or an empty one, or one that an earlier call made, which is replaced.
            onnx: write ``model.onnx`` too; see :func:`metad2a.export.save`.
            macro: sizes as in :meth:`build`, of a new, untrained network.

        Returns:
            The folder.

        Raises:
            InputError: the folder holds other files, a size cannot be exported, or ``onnx`` is
                asked for and the extra ``onnx`` is not installed.
            ArtifactError: the folder cannot be written.
        """
        from metad2a.export import Design
        from metad2a.export import save as write_all

        return write_all(Design.of(self, **macro), folder, onnx=onnx)

    def build(self, **macro: Any) -> nn.Module:
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
            "rank": self.rank,
            "space": self.space,
            "architecture": self.architecture,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "params": self.params,
            "macs": self.macs,
            "classes": self.classes,
            "latency_ms": self.latency_ms,
            "reason": self.reason,
            "measured": None if self.measured is None else asdict(self.measured),
        }


def suggest(
    source: Any,
    *,
    k: int = 5,
    seed: int = 0,
    max_params: int | None = None,
    max_macs: int | None = None,
    max_latency_ms: float | None = None,
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
        max_latency_ms: most milliseconds of one image on this machine's CPU, as measured (see
            :mod:`metad2a.latency`): the answer then depends on the machine and on what else runs,
            and takes seconds longer.
        model: a loaded model, a folder, ``"org/name@revision"`` on the Hugging Face Hub, or None
            for the model inside the package.
        space: search space; must be the model's.

    Raises:
        InputError: the dataset or an argument cannot be used.
        BudgetError: a limit is below the smallest network, or faster than the fastest measured;
            names the smallest feasible value.
        ArtifactError: the model cannot be loaded.
    """
    start = time.perf_counter()
    from metad2a.model.description import describe
    from metad2a.model.known import embed, neighbourhood
    from metad2a.model.metad2a import MetaD2A, packaged

    k, seed = _whole("k", k, 1), _whole("seed", seed, 0)
    max_params = None if max_params is None else _whole("max_params", max_params, 1)
    max_macs = None if max_macs is None else _whole("max_macs", max_macs, 1)
    if max_latency_ms is not None:
        max_latency_ms = checked_limit(max_latency_ms)
    chosen = SPACES.get(space)
    dataset = load_dataset(source)
    chosen.check_limits(len(dataset.classes), max_params, max_macs)
    if model is None:
        model = packaged()
    elif not isinstance(model, MetaD2A):
        model = MetaD2A.from_pretrained(model)
    if model.space.name != space:
        raise InputError(
            f"space={space!r}, but the model was trained for {model.space.name!r}; "
            "use that space or another model."
        )
    description, report = describe(dataset, seed)
    classes = len(dataset.classes)

    def generate(most_macs: int | None) -> np.ndarray:
        """Return int (n, slots) architectures within a limit on multiply-adds."""
        return model.generate_described(
            description, max(CANDIDATES, k), seed, classes, max_params, most_macs
        )

    cells = generate(max_macs)
    among = f"{len(cells):,} networks generated for this dataset"
    if max_latency_ms is not None:
        cells = widened(chosen, cells, classes, generate)
        among = f"the generated networks that were found to take at most {max_latency_ms:g} ms"
    order = (-model.predict_described(description, cells).mean).argsort(kind="stable")

    def predict(architectures: np.ndarray) -> list[Candidate]:
        """Return int (n, slots) architectures as candidates, in their order."""
        answer = model.predict_described(description, architectures)
        costs = chosen.costs(architectures, classes)
        return [
            Candidate(
                rank,
                space,
                chosen.format(tuple(cell)),
                float(mean),
                (float(low), float(high)),
                int(cost[0]),
                int(cost[1]),
                classes,
                _reason(rank, among, [chosen.operations[op] for op in cell]),
            )
            for rank, (cell, mean, low, high, cost) in enumerate(
                zip(
                    architectures.tolist(), answer.mean, answer.low, answer.high, costs, strict=True
                ),
                start=1,
            )
        ]

    measured = None
    if max_latency_ms is None:
        candidates = predict(cells[order[:k]])
    else:
        kept, times, measured = within(chosen, cells[order], classes, max_latency_ms, k)
        candidates = [
            replace(one, latency_ms=time_ms)
            for one, time_ms in zip(predict(cells[order[kept]]), times, strict=True)
        ]
    around = neighbourhood(model.learnt_from, embed(model.predictor, description), model.protocol)
    return Suggestions(
        candidates,
        report,
        model.protocol,
        time.perf_counter() - start,
        dataset,
        description,
        CostLimits(max_params, max_macs, max_latency_ms),
        predict,
        around,
        measured,
    )


def _whole(name: str, value: Any, least: int) -> int:
    """Return a number as an int, or refuse it; what NumPy and torch take ends at 2**63 - 1."""
    whole = isinstance(value, Integral) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not whole or not least <= value < 2**63:
        raise InputError(f"{name}={value!r} must be a whole number from {least} to 2**63 - 1.")
    return int(value)


def _reason(rank: int, among: str, operations: list[str]) -> str:
    parts = ", ".join(f"{count} x {name}" for name, count in Counter(operations).most_common())
    return f"predicted {'best' if rank == 1 else f'number {rank}'} of {among}; its cell has {parts}"
