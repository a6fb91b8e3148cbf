"""Networks of the NAS-Bench-201 space: the plain one, and the one that shares weights.

Macro structure (Dong and Yang, ICLR 2020, figure 1): 3x3 stem, three stages of ``cells`` cells at
``channels``, 2x and 4x that, a residual block of stride 2 before the second and the third, then
batch norm, ReLU, global average pooling and a linear classifier.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from metad2a.spaces._mixed import MixedNetwork, MixedOperation, apart
from metad2a.spaces.base import Architecture
from metad2a.spaces.gates import Choice
from metad2a.spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, OPERATIONS, POOL, SKIP


class ReLUConvBN(nn.Sequential):
    """ReLU, convolution, batch norm. Without affine batch norm the convolution has a bias."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, affine: bool = True
    ) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=not affine),
            nn.BatchNorm2d(outputs, affine=affine),
        )


class Residual(nn.Module):
    """The block of stride 2 that doubles the channels between two stages."""

    def __init__(self, inputs: int, outputs: int, affine: bool = True) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ReLUConvBN(inputs, outputs, 3, 2, affine), ReLUConvBN(outputs, outputs, 3, 1, affine)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, h/2 rounded up, w/2 rounded up)."""
        summed: Tensor = self.shortcut(x) + self.convs(x)
        return summed


def _operation(index: int, channels: int, affine: bool) -> nn.Module:
    if index == SKIP:
        return nn.Identity()
    if index == POOL:
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    return ReLUConvBN(channels, channels, {CONV1: 1, CONV3: 3}[index], affine=affine)


def _key(slot: int) -> str:
    source, target = EDGES[slot]
    return f"{source}->{target}"


def _mixed(channels: int) -> MixedOperation:
    return MixedOperation(
        [None if op == NONE else _operation(op, channels, affine=False) for op in range(5)],
        channels,
    )


def _cell_value(x: Tensor, edge: Callable[[int, Tensor], Tensor | None]) -> Tensor:
    """Return node 3, where ``edge`` gives a slot's output for its input, None for nothing."""
    nodes: list[Tensor | None] = [x, None, None, None]
    for slot, (source, target) in enumerate(EDGES):
        value = nodes[source]
        term = None if value is None else edge(slot, value)
        if term is not None:
            before = nodes[target]
            nodes[target] = term if before is None else before + term
    return torch.zeros_like(x) if nodes[3] is None else nodes[3]


class Cell(nn.Module):
    """A cell with one operation an edge; edges of ``none`` hold no module."""

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                _key(slot): _operation(op, channels, affine=True)
                for slot, op in enumerate(architecture)
                if op != NONE
            }
        )

    def forward(self, x: Tensor, _: Choice | None) -> Tensor:
        """Map (batch, channels, h, w) to the same shape: the value of node 3."""
        return _cell_value(
            x, lambda slot, v: self.edges[_key(slot)](v) if _key(slot) in self.edges else None
        )


class SuperCell(nn.Module):
    """A cell that holds every operation on every edge."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(_mixed(channels) for _ in EDGES)

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Map (batch, channels, h, w) to the same shape, along a path, mixture or route."""
        return _cell_value(x, lambda slot, value: self.edges[slot](value, choice, slot))


class _Macro(nn.Module):
    """Stem, stages, residual blocks and classifier around any kind of cell."""

    def __init__(
        self,
        make_cell: Callable[[int], nn.Module],
        classes: int,
        channels: int,
        cells: int,
        affine: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(make_cell(channels * 2**stage) for _ in range(cells))
            for stage in range(3)
        )
        self.reductions = nn.ModuleList(
            Residual(channels * 2**stage, channels * 2 ** (stage + 1), affine) for stage in (0, 1)
        )
        self.head = nn.Sequential(
            nn.BatchNorm2d(4 * channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(4 * channels, classes)

    def stage_outputs(self, x: Tensor, choice: Choice | None = None) -> list[Tensor]:
        """Return what leaves the stem and each of the three stages."""
        outputs = [apart(self.stem, x, choice)]
        for index, stage in enumerate(self.stages):
            x = outputs[-1]
            if index:
                x = apart(self.reductions[index - 1], x, choice)
            for cell in cast(nn.ModuleList, stage):
                x = cell(x, choice)
            outputs.append(x)
        return outputs

    def pooled(self, x: Tensor, choice: Choice | None = None) -> Tensor:
        """Return float (batch, 4 * channels), averaged over the positions."""
        return apart(self.head, self.stage_outputs(x, choice)[-1], choice)


class CellNetwork(_Macro):
    """The plain network of one cell."""

    def __init__(self, architecture: Architecture, classes: int, channels: int, cells: int) -> None:
        super().__init__(lambda width: Cell(architecture, width), classes, channels, cells, True)

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (batch, 3, h, w) to logits (batch, classes)."""
        logits: Tensor = self.classifier(self.pooled(x))
        return logits


class CellSuperNet(_Macro, MixedNetwork):
    """The network that shares its weights between all 15,625 cells."""

    slots, operations = len(EDGES), len(OPERATIONS)

    def __init__(self, classes: int, channels: int, cells: int) -> None:
        super().__init__(SuperCell, classes, channels, cells, affine=False)

    def edges(self, slot: int) -> list[MixedOperation]:
        """Return the mixed operations of a slot, one a cell."""
        cells = (cell for stage in self.stages for cell in cast(nn.ModuleList, stage))
        return [cast(MixedOperation, cast(SuperCell, cell).edges[slot]) for cell in cells]

    def fixed_weights(self) -> list[Tensor]:
        """Return the weights of stem, residual blocks and classifier."""
        parts = (self.stem, self.reductions, self.classifier)
        return [p for part in parts for p in part.parameters() if p.dim() > 1]
