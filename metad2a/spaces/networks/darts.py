"""Networks of the DARTS cell space (Liu, Simonyan, Yang, ICLR 2019). This file needs torch alone.

Macro structure: a stem of three times ``channels``, ``cells`` cells of which those at one and two
thirds halve the side and double the channels, global average pooling and a linear classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NODES = 4
"""Nodes of a cell after its two inputs, the outputs of the two cells before it."""


class Depthwise(nn.Conv2d):
    """A depthwise convolution of the same side, or half of it, rounded up.

    On a CPU it stays in float32 under autocast: bfloat16 is several times slower there.
    """

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int) -> None:
        # Taps as far apart as the steps see every other pixel only. Taking those first is the same,
        # and many times faster than a dilated convolution of stride 2.
        every = stride if stride == dilation else 1
        stride, dilation = stride // every, dilation // every
        super().__init__(
            channels,
            channels,
            kernel,
            stride,
            dilation * (kernel // 2),
            dilation,
            groups=channels,
            bias=False,
        )
        self.every = every

    def forward(self, x: Tensor) -> Tensor:
        """Map float (batch, channels, h, w) to (batch, channels, h / stride, w / stride)."""
        x = x[:, :, :: self.every, :: self.every]
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def separable(
    channels: int, kernel: int, stride: int, dilation: int, affine: bool
) -> list[nn.Module]:
    """Return ReLU, depthwise and pointwise convolution, batch norm."""
    return [
        nn.ReLU(),
        Depthwise(channels, kernel, stride, dilation),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, affine=affine),
        )


class FactorizedReduce(nn.Module):
    """Half the side without losing every other pixel: two strided 1x1 convolutions, one shifted."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, h / 2 rounded up, w / 2 rounded up)."""
        x = self.relu(x)
        height, width = x.shape[2:]
        # An odd side has no pixel left for the last shifted position, where a zero stands.
        shifted = F.pad(x, (-1, width % 2, -1, height % 2))
        halves = torch.cat([self.even(x), self.odd(shifted)], dim=1)
        normed: Tensor = self.norm(halves)
        return normed


def make_operation(name: str, channels: int, stride: int, affine: bool = True) -> nn.Module:
    """Return the module of an operation other than ``none``; a supernet's has no affine batch norm.

    A pool of a supernet is followed by a batch norm, so that it competes on one scale with the
    convolutions.
    """
    kind, _, size = name.rpartition("_")
    kernel = int(size[0]) if size[0].isdigit() else 0
    if kind in ("max_pool", "avg_pool"):
        pool = (
            nn.MaxPool2d(kernel, stride, 1)
            if kind == "max_pool"
            else nn.AvgPool2d(kernel, stride, 1, count_include_pad=False)
        )
        return pool if affine else nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    if kind == "sep_conv":
        return nn.Sequential(
            *separable(channels, kernel, stride, 1, affine),
            *separable(channels, kernel, 1, 1, affine),
        )
    return nn.Sequential(*separable(channels, kernel, stride, 2, affine))


class CellInputs(nn.Module):
    """The two inputs of a cell, brought to one shape.

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

    def stride(self, source: int) -> int:
        """Return the stride of an edge that comes from a node; nodes 0 and 1 are the inputs."""
        return 2 if self.reduction and source < 2 else 1


class Cell(CellInputs):
    """A cell of four nodes, each the sum of two operations; its output is their concatenation.

    Args:
        operations: of each node in turn two (operation, source) pairs; sources 0 and 1 are the
            inputs.
        older: as :class:`CellInputs` has it, like the rest.
        old: see there.
        channels: see there.
        reduction: see there.
        halved: see there.
    """

    def __init__(
        self,
        operations: Sequence[tuple[str, int]],
        older: int,
        old: int,
        channels: int,
        reduction: bool,
        halved: bool,
    ) -> None:
        super().__init__(older, old, channels, reduction, halved, affine=True)
        self.edges = nn.ModuleDict(
            {
                f"{source}->{2 + place // 2}": make_operation(name, channels, self.stride(source))
                for place, (name, source) in enumerate(operations)
            }
        )
        self.sources = [source for _, source in operations]
        self.drop_path = 0.0

    def edge(self, name: str, x: Tensor) -> Tensor:
        """Return an edge's output; in training an image's may be dropped, but no plain skip's."""
        chosen = self.edges[name]
        value: Tensor = chosen(x)
        if not self.training or self.drop_path == 0 or isinstance(chosen, nn.Identity):
            return value
        keep = 1 - self.drop_path
        return value * value.new_empty(len(value), 1, 1, 1).bernoulli_(keep) / keep

    def forward(self, older: Tensor, old: Tensor) -> Tensor:
        """Map the outputs of the two cells before to (batch, 4 * channels, h, w)."""
        nodes = [self.older(older), self.old(old)]
        for node in range(2, 2 + NODES):
            first, second = (
                self.edge(f"{source}->{node}", nodes[source])
                for source in self.sources[2 * node - 4 : 2 * node - 2]
            )
            nodes.append(first + second)
        return torch.cat(nodes[2:], dim=1)


class Auxiliary(nn.Module):
    """The second classifier of a training, on 2 x 2 windows of a cell's output.

    The windows lie in the corners and are 5/8 of the side wide: 5 of the 8 pixels for images of 32.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        narrow, wide = 128, 768
        self.convs = nn.Sequential(
            nn.Conv2d(inputs, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 2, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (batch, inputs, h, w) to logits (batch, classes)."""
        sides = [max(side, 2) for side in x.shape[2:]]
        x = F.interpolate(F.relu(x), sides)  # changes a side of one pixel only
        windows = [min(-(-5 * side // 8), side - 1) for side in sides]
        steps = [side - window for side, window in zip(sides, windows, strict=True)]
        logits: Tensor = self.classifier(self.convs(F.avg_pool2d(x, windows, steps)).flatten(1))
        return logits


def reductions(cells: int) -> set[int]:
    """Return which cells of a network halve the side: those at one and at two thirds."""
    return {cells // 3, 2 * cells // 3}


class MacroNetwork(nn.Module):
    """Stem, cells and classifier around any kind of cell.

    Args:
        make_cell: takes ``older``, ``old``, ``channels``, ``reduction`` and ``halved`` of
            :class:`CellInputs`.
        classes: outputs.
        channels: of the first cells.
        cells: in all.
    """

    def __init__(
        self,
        make_cell: Callable[[int, int, int, bool, bool], nn.Module],
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
            older, old, halved = old, NODES * channels, reduction
            self.outputs.append(old)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(old, classes)


class DartsNetwork(MacroNetwork):
    """The network of one pair of cells.

    Args:
        normal: of each of the four nodes in turn two (operation, source) pairs; sources 0 and 1
            are the outputs of the two cells before.
        reduction: the same of the two cells that halve the side.
        classes: outputs.
        channels: of the first cells.
        cells: in all.
        auxiliary: add a second classifier after two thirds of the cells, whose logits are
            returned beside the others in training mode.
    """

    def __init__(
        self,
        normal: Sequence[tuple[str, int]],
        reduction: Sequence[tuple[str, int]],
        classes: int,
        channels: int,
        cells: int,
        auxiliary: bool = False,
    ) -> None:
        super().__init__(
            lambda older, old, width, halves, halved: Cell(
                reduction if halves else normal, older, old, width, halves, halved
            ),
            classes,
            channels,
            cells,
        )
        self.config: dict[str, Any] = {
            "normal": [list(pair) for pair in normal],
            "reduction": [list(pair) for pair in reduction],
            "classes": classes,
            "channels": channels,
            "cells": cells,
            "auxiliary": auxiliary,
        }
        self.auxiliary = Auxiliary(self.outputs[2 * cells // 3], classes) if auxiliary else None

    @property
    def drop_path(self) -> float:
        """Probability (0 <= p < 1) with which training drops an edge's output for an image.

        Raises:
            ValueError: on being set to something else.
        """
        return cast(Cell, self.cells[0]).drop_path

    @drop_path.setter
    def drop_path(self, probability: float) -> None:
        if not 0 <= probability < 1:
            raise ValueError(
                f"drop_path={probability} is not a probability below 1; use 0 for no "
                "dropping, or up to 0.3 as is customary."
            )
        for cell in self.cells:
            cast(Cell, cell).drop_path = probability

    def cell_outputs(self, x: Tensor) -> list[Tensor]:
        """Return what leaves the stem and each cell."""
        outputs = [self.stem(x)]
        for cell in self.cells:
            outputs.append(cell(outputs[max(len(outputs) - 2, 0)], outputs[-1]))
        return outputs

    def stage_outputs(self, x: Tensor) -> list[Tensor]:
        """Return what leaves the stem and each stage: before a reduction cell, and at the end."""
        outputs, count = self.cell_outputs(x), len(self.cells)
        ends = {0, count, *reductions(count)}  # output i leaves cell i - 1
        return [outputs[index] for index in sorted(ends)]

    def features(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to the features (batch, F) that the classifier sees."""
        pooled: Tensor = self.head(self.cell_outputs(x)[-1])
        return pooled

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Map float images (batch, 3, h, w) to logits (batch, classes).

        With an auxiliary classifier and in training mode, to both classifiers' logits.
        """
        outputs = self.cell_outputs(x)
        logits: Tensor = self.classifier(self.head(outputs[-1]))
        if self.auxiliary is None or not self.training:
            return logits
        return logits, self.auxiliary(outputs[1 + 2 * len(self.cells) // 3])
