"""Networks of the NAS-Bench-201 space: the plain one, and the one that shares weights.

Macro structure (Dong and Yang, ICLR 2020, figure 1): 3x3 stem, three stages of ``cells`` cells at
``channels``, 2x and 4x that, a residual block of stride 2 before the second and the third, then
batch norm, ReLU, global average pooling and a linear classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from metad2a.spaces.base import Architecture, SuperNet
from metad2a.spaces.nasbench201 import CONV1, CONV3, EDGES, NONE, POOL, SKIP


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


def _sum(terms: Sequence[Tensor], like: Tensor) -> Tensor:
    return sum(terms[1:], start=terms[0]) if terms else torch.zeros_like(like)


class Cell(nn.Module):
    """A cell with one operation an edge; edges of ``none`` hold no module."""

    def __init__(self, architecture: Architecture, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {
                f"{source}->{target}": _operation(op, channels, affine=True)
                for (source, target), op in zip(EDGES, architecture, strict=True)
                if op != NONE
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape: the value of node 3."""
        nodes: list[Tensor | None] = [x]
        for target in (1, 2, 3):
            terms = []
            for source, value in enumerate(nodes):
                key = f"{source}->{target}"
                if value is not None and key in self.edges:
                    terms.append(self.edges[key](value))
            nodes.append(_sum(terms, x) if terms else None)
        return x.new_zeros(x.shape) if nodes[3] is None else nodes[3]


class SuperCell(nn.Module):
    """A cell that holds every operation on every edge."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.slots = nn.ModuleList(
            nn.ModuleList(
                nn.Identity() if op == NONE else _operation(op, channels, affine=False)
                for op in range(5)
            )
            for _ in EDGES
        )

    def operations(self, slot: int) -> nn.ModuleList:
        """Return the operations of one edge, in the order of their indices."""
        return cast(nn.ModuleList, self.slots[slot])

    def _edge(self, slot: int, x: Tensor, choice: Architecture | Tensor) -> Tensor | None:
        operations = self.operations(slot)
        if isinstance(choice, Tensor):
            gates = choice[slot]
            return _sum([gates[op] * operations[op](x) for op in range(5) if op != NONE], x)
        op = choice[slot]
        if op == NONE:
            return None
        value: Tensor = operations[op](x)
        return value

    def forward(self, x: Tensor, choice: Architecture | Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape, along one path or through a mixture."""
        nodes: list[Tensor | None] = [x]
        for target in (1, 2, 3):
            terms = []
            for slot, (source, end) in enumerate(EDGES):
                value = nodes[source] if end == target else None
                if value is not None:
                    term = self._edge(slot, value, choice)
                    if term is not None:
                        terms.append(term)
            nodes.append(_sum(terms, x) if terms else None)
        return torch.zeros_like(x) if nodes[3] is None else nodes[3]


class _Macro(nn.Module):
    """Stem, stages, residual blocks and classifier around any kind of cell."""

    def __init__(
        self, make_cell: Callable[[int], nn.Module], classes: int, channels: int, cells: int,
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

    def stage_outputs(self, x: Tensor, *choice: Architecture | Tensor) -> list[Tensor]:
        """Return what leaves the stem and each of the three stages."""
        outputs = [self.stem(x)]
        for index, stage in enumerate(self.stages):
            x = self.reductions[index - 1](outputs[-1]) if index else outputs[-1]
            for cell in cast(nn.ModuleList, stage):
                x = cell(x, *choice)
            outputs.append(x)
        return outputs

    def _logits(self, x: Tensor, *choice: Architecture | Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.head(self.stage_outputs(x, *choice)[-1]))
        return logits


class CellNetwork(_Macro):
    """The plain network of one cell."""

    def __init__(
        self, architecture: Architecture, classes: int, channels: int, cells: int
    ) -> None:
        super().__init__(lambda width: Cell(architecture, width), classes, channels, cells, True)

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (batch, 3, h, w) to logits (batch, classes)."""
        return self._logits(x)


class CellSuperNet(_Macro, SuperNet):
    """The network that shares its weights between all 15,625 cells."""

    def __init__(self, classes: int, channels: int, cells: int) -> None:
        super().__init__(SuperCell, classes, channels, cells, affine=False)

    def forward(self, x: Tensor, choice: Architecture | Tensor) -> Tensor:
        """Map float images (batch, 3, h, w) to logits (batch, classes); see ``SuperNet``."""
        return self._logits(x, choice)

    def slot_weights(self, slot: int, operation: int) -> list[Tensor]:
        """Return the convolution weights of an operation in every cell; of a pool, its constant.

        A pool counts as a constant tensor (channels, 3, 3) filled with 1/9 (Hu et al., ABS).
        """
        weights: list[Tensor] = []
        for cell in self.modules():
            if isinstance(cell, SuperCell):
                op = cell.operations(slot)[operation]
                if isinstance(op, ReLUConvBN):
                    weights.append(op.get_parameter("1.weight"))
                elif operation == POOL:
                    weights.append(torch.full((cell.channels, 3, 3), 1 / 9))
        return weights

    def fixed_weights(self) -> list[Tensor]:
        """Return the weights of stem, residual blocks and classifier."""
        parts = (self.stem, self.reductions, self.classifier)
        return [p for part in parts for p in part.parameters() if p.dim() > 1]
