"""What a search returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.spaces import SPACES
from metad2a.spaces.base import Cost

if TYPE_CHECKING:
    from torch import nn

    from metad2a.draw import Drawing
    from metad2a.export.delivered import Delivered


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The architecture that a search names, and how it came to it."""

    space: str
    method: str
    """The method and its wrappers, joined by ``+``."""
    architecture: str
    """The space's own string form."""
    scores: Mapping[str, float]
    """Score of every architecture that the method compared at the end, best first. Their meaning
    is the method's; higher is better."""
    accuracy: float | None
    """Accuracy (0..1) on held-out images, by ``protocol``; None where nothing was measured."""
    protocol: str
    """How ``accuracy`` was measured."""
    cost: Cost
    """Of the network that :meth:`build` makes, which is of the space's default size."""
    width: float
    """Width of the (normal) cell in units of its channels (Shu et al., ICLR 2020)."""
    depth: int
    """Connections on the longest input-to-output path of that cell."""
    seconds: float
    images: int
    """Images that went forward and backward through a network, counted once for each path."""
    steps: int
    complete: bool
    """Whether the budget was spent; False: it was cancelled."""
    seed: int
    device: str
    classes: int
    macro: Mapping[str, int]
    """``channels`` and ``cells`` of the networks that were searched with."""
    history: tuple[Mapping[str, Any], ...]
    """Points of the loss curve, and notes on what else happened, in order."""
    network: Delivered | None = None
    """What the method trained on the way, where it keeps that: a network of the sizes in ``macro``,
    often smaller than the one of ``cost``. It takes images from 0 to 1."""
    class_names: tuple[str, ...] = ()
    """Of the dataset, in the order of the outputs; empty where a task has no names."""

    def build(self, **macro: Any) -> nn.Module:
        """Return the plain PyTorch network, untrained; ``metad2a.train`` and ``refine`` train it.

        Args:
            macro: sizes such as ``channels`` and ``cells``, other than those that ``cost`` is of.
        """
        space = SPACES.get(self.space)
        return space.build(space.parse(self.architecture), self.classes, **macro)

    def draw(self, path: str | Path | None = None) -> Drawing:
        """Return the cell as SVG, and write it to ``path`` if one is given."""
        from metad2a.draw import svg, write

        space = SPACES.get(self.space)
        text = svg(space, self.architecture)
        if path is not None:
            write(space, self.architecture, path)
        return text

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened beside the training: fallbacks, operations dropped, stages begun."""
        return tuple(str(h["note"]) for h in self.history if "note" in h)

    def facts(self) -> list[tuple[str, str]]:
        """Return what is known of it, in words: a name and a text each."""
        accuracy = "–" if self.accuracy is None else f"{100 * self.accuracy:.1f} %"
        return [
            ("method", f"{self.method}, seed {self.seed}, on {self.device}"),
            ("architecture", self.architecture),
            ("accuracy", f"{accuracy}  ({self.protocol})"),
            ("parameters", f"{self.cost.params:,}"),
            ("MACs", f"{self.cost.macs:,}"),
            ("width, depth", f"{self.width:g} c, {self.depth}"),
            (
                "spent",
                f"{self.seconds:.1f} s, {self.steps:,} steps, {self.images:,} images"
                + ("" if self.complete else " (cancelled)"),
            ),
            *(("note", note) for note in self.notes),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<13} {value}" for name, value in self.facts())

    def _repr_html_(self) -> str:
        from metad2a.notebook import facts

        return f"{facts(self.facts())}{self.draw()}"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "space": self.space,
            "method": self.method,
            "architecture": self.architecture,
            "scores": dict(self.scores),
            "accuracy": self.accuracy,
            "protocol": self.protocol,
            "params": self.cost.params,
            "macs": self.cost.macs,
            "width": self.width,
            "depth": self.depth,
            "seconds": self.seconds,
            "images": self.images,
            "steps": self.steps,
            "complete": self.complete,
            "seed": self.seed,
            "device": self.device,
            "classes": self.classes,
            "class_names": list(self.class_names),
            "macro": dict(self.macro),
            "history": [dict(h) for h in self.history],
        }
