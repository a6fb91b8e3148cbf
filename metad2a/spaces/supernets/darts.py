"""Networks of the DARTS space: the plain one, and the one that shares weights.

Macro structure (Liu, Simonyan, Yang, ICLR 2019): a stem of three times ``channels``, ``cells``
cells of which those at one and two thirds halve the side and double the channels, global average
pooling and a linear classifier.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.spaces._darts_cell import EDGES, NODES, reductions
from metad2a.spaces._darts_operations import Auxiliary, FactorizedReduce, ReLUConvBN, operation
from metad2a.spaces._mixed import MixedNetwork, MixedOperation, apart
from metad2a.spaces.base import Architecture
from metad2a.spaces.darts import NONE, OPERATIONS
from metad2a.spaces.gates import Choice


def _key(slot: int) -> str:
    source, target = EDGES[slot]
    return f"{source}->{target}"


class _Cell(nn.Module, ABC):
    """Two inputs brought to one shape, four nodes, their concatenation; edges are left open.

    Args:
        older: channels that leave the cell before the last one.
        old: channels that leave the last cell.
        channels: of each node.
        reduction: whether the cell halves the side.
        halved: whether the last cell did.
        affine: of the batch norms.
    """

    def __init__(
        self, older: int, old: int, channels: int, reduction: bool, halved: bool, affine: bool
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.older: nn.Module = (FactorizedReduce if halved else ReLUConvBN)(
            older, channels, affine
        )
        self.old = ReLUConvBN(old, channels, affine)

    def stride(self, slot: int) -> int:
        return 2 if self.reduction and EDGES[slot][0] not in NODES else 1

    @abstractmethod
    def edge(self, slot: int, x: Tensor, choice: Choice | None) -> Tensor | None:
        """Return what a slot makes of its source, None for nothing."""

    def forward(self, older: Tensor, old: Tensor, choice: Choice | None) -> Tensor:
        """Map the outputs of the two cells before to (batch, 4 * channels, h, w)."""
        inputs = [apart(self.older, older, choice), apart(self.old, old, choice)]
        nodes: list[Tensor | None] = [*inputs, *[None] * len(NODES)]
        for slot, (source, target) in enumerate(EDGES):
            value = nodes[source]
            term = None if value is None else self.edge(slot, value, choice)
            if term is not None:
                before = nodes[target]
                nodes[target] = term if before is None else before + term
        step = 2 if self.reduction else 1
        nothing = torch.zeros_like(inputs[1][:, :, ::step, ::step])
        return torch.cat([nothing if n is None else n for n in nodes[len(inputs) :]], dim=1)


class Cell(_Cell):
    """A cell with one operation on each edge that is used."""

    def __init__(
        self,
        architecture: Architecture,
        older: int,
        old: int,
        channels: int,
        reduction: bool,
        halved: bool,
    ) -> None:
        super().__init__(older, old, channels, reduction, halved, affine=True)
        half = architecture[len(EDGES) :] if reduction else architecture[: len(EDGES)]
        self.edges = nn.ModuleDict(
            {
                _key(slot): operation(op, channels, self.stride(slot), affine=True)
                for slot, op in enumerate(half)
                if op != NONE
            }
        )
        self.drop_path = 0.0

    def edge(self, slot: int, x: Tensor, choice: Choice | None) -> Tensor | None:
        """Return the slot's output; in training an image's may be dropped, but no plain skip's."""
        if _key(slot) not in self.edges:
            return None
        chosen = self.edges[_key(slot)]
        value: Tensor = chosen(x)
        if not self.training or self.drop_path == 0 or isinstance(chosen, nn.Identity):
            return value
        keep = 1 - self.drop_path
        return value * value.new_empty(len(value), 1, 1, 1).bernoulli_(keep) / keep


class SuperCell(_Cell):
    """A cell that holds every operation on every edge."""

    def __init__(self, older: int, old: int, channels: int, reduction: bool, halved: bool) -> None:
        super().__init__(older, old, channels, reduction, halved, affine=False)
        self.edges = nn.ModuleList(
            MixedOperation(
                [
                    None if op == NONE else operation(op, channels, self.stride(slot), affine=False)
                    for op in range(len(OPERATIONS))
                ],
                channels,
            )
            for slot in range(len(EDGES))
        )

    def edge(self, slot: int, x: Tensor, choice: Choice | None) -> Tensor | None:
        """Return the slot's output along a path, mixture or route."""
        value: Tensor | None = self.edges[slot](x, choice, slot + self.reduction * len(EDGES))
        return value


class _Macro(nn.Module):
    """Stem, cells and classifier around any kind of cell.

    Args:
        make_cell: takes what :class:`_Cell` takes, but ``affine``.
    """

    def __init__(
        self,
        make_cell: Callable[[int, int, int, bool, bool], _Cell],
        classes: int,
        channels: int,
        cells: int,
    ) -> None:
        super().__init__()
        older = old = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, old, 3, padding=1, bias=False), nn.BatchNorm2d(old))
        self.cells = nn.ModuleList()
        self.outputs: list[int] = []  # channels that leave each cell
        halved = False
        for index in range(cells):
            reduction = index in reductions(cells)
            channels *= 1 + reduction
            self.cells.append(make_cell(older, old, channels, reduction, halved))
            older, old, halved = old, len(NODES) * channels, reduction
            self.outputs.append(old)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(old, classes)

    def cell_outputs(self, x: Tensor, choice: Choice | None = None) -> list[Tensor]:
        """Return what leaves the stem and each cell."""
        outputs = [apart(self.stem, x, choice)]
        for cell in self.cells:
            outputs.append(cell(outputs[max(len(outputs) - 2, 0)], outputs[-1], choice))
        return outputs


class DartsNetwork(_Macro):
    """The plain network of one pair of cells."""

    def __init__(
        self, architecture: Architecture, classes: int, channels: int, cells: int, auxiliary: bool
    ) -> None:
        super().__init__(lambda *shape: Cell(architecture, *shape), classes, channels, cells)
        self.auxiliary = Auxiliary(self.outputs[2 * cells // 3], classes) if auxiliary else None

    @property
    def drop_path(self) -> float:
        """Probability (0 <= p < 1) with which training drops an edge's output for an image.

        Raises:
            InputError: on being set to something else.
        """
        return cast(Cell, self.cells[0]).drop_path

    @drop_path.setter
    def drop_path(self, probability: float) -> None:
        if not 0 <= probability < 1:
            raise InputError(
                f"drop_path={probability} is not a probability below 1; use 0 for no "
                "dropping, or up to 0.3 as is customary."
            )
        for cell in self.cells:
            cast(Cell, cell).drop_path = probability

    def stage_outputs(self, x: Tensor) -> list[Tensor]:
        """Return what leaves the stem and each stage: before a reduction cell, and at the end."""
        outputs, count = self.cell_outputs(x), len(self.cells)
        ends = {0, count, *reductions(count)}  # output i leaves cell i - 1
        return [outputs[index] for index in sorted(ends)]

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map float images (batch, 3, h, w) to logits (batch, classes).

        With an auxiliary classifier and in training mode, to both classifiers' logits.
        """
        outputs = self.cell_outputs(x)
        logits: Tensor = self.classifier(self.head(outputs[-1]))
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(outputs[1 + 2 * len(self.cells) // 3])


class DartsSuperNet(_Macro, MixedNetwork):
    """The network that shares its weights between all pairs of cells."""

    slots, operations = 2 * len(EDGES), len(OPERATIONS)

    def __init__(self, classes: int, channels: int, cells: int) -> None:
        super().__init__(SuperCell, classes, channels, cells)

    def pooled(self, x: Tensor, choice: Choice) -> Tensor:
        """Return float (batch, F), averaged over the positions."""
        features: Tensor = self.head(self.cell_outputs(x, choice)[-1])
        return features

    def edges(self, slot: int) -> list[MixedOperation]:
        """Return the mixed operations of a slot, one a cell of its kind."""
        cells = [cast(SuperCell, cell) for cell in self.cells]
        return [
            cast(MixedOperation, cell.edges[slot % len(EDGES)])
            for cell in cells
            if cell.reduction == (slot >= len(EDGES))
        ]

    def fixed_weights(self) -> list[Tensor]:
        """Return the weights of stem, the cells' input convolutions and classifier."""
        cells = [cast(SuperCell, cell) for cell in self.cells]
        parts = [
            self.stem,
            *(part for cell in cells for part in (cell.older, cell.old)),
            self.classifier,
        ]
        return [p for part in parts for p in part.parameters() if p.dim() > 1]
