"""Networks of the NAS-Bench-201 cell space. This file needs torch alone.

Macro structure (Dong and Yang, ICLR 2020, figure 1): 3x3 stem, three stages of ``cells`` cells at
``channels``, 2x and 4x that, a residual block of stride 2 before the second and the third, then
batch norm, ReLU, global average pooling and a linear classifier.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn


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


def make_operation(name: str, channels: int, affine: bool = True) -> nn.Module:
    """Return the module of an operation other than ``none``, which keeps the shape."""
    if name == "skip_connect":
        return nn.Identity()
    if name == "avg_pool_3x3":
        return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
    kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name]
    return ReLUConvBN(channels, channels, kernel, affine=affine)


class Cell(nn.Module):
    """Four nodes, each the sum of the edges into it: node 0 is the input, node 3 the output.

    Args:
        edges: the operation of each edge that has one, by ``"source->target"``.
        channels: of every node.
    """

    def __init__(self, edges: Mapping[str, str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleDict(
            {edge: make_operation(name, channels) for edge, name in edges.items()}
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape: the value of node 3."""
        nodes: list[Tensor | None] = [x, None, None, None]
        for target in (1, 2, 3):
            for source in range(target):
                edge, value = f"{source}->{target}", nodes[source]
                if value is not None and edge in self.edges:
                    term, before = self.edges[edge](value), nodes[target]
                    nodes[target] = term if before is None else before + term
        return torch.zeros_like(x) if nodes[3] is None else nodes[3]


def call(module: nn.Module, x: Tensor) -> Tensor:
    """Return what a module makes of its input."""
    output: Tensor = module(x)
    return output


class MacroNetwork(nn.Module):
    """Stem, stages, residual blocks and classifier around any kind of cell.

    Args:
        make_cell: returns a cell of a number of channels.
        classes: outputs.
        channels: of the first stage.
        cells: in each stage.
        affine: of the batch norms in the residual blocks.
    """

    def __init__(
        self,
        make_cell: Callable[[int], nn.Module],
        classes: int,
        channels: int,
        cells: int,
        affine: bool = True,
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

    def stage_outputs(
        self, x: Tensor, run: Callable[[nn.Module, Tensor], Tensor] = call
    ) -> list[Tensor]:
        """Return what leaves the stem and each of the three stages; ``run`` runs the parts."""
        outputs = [run(self.stem, x)]
        for index, stage in enumerate(self.stages):
            x = outputs[-1]
            if index:
                x = run(self.reductions[index - 1], x)
            for cell in cast(nn.ModuleList, stage):
                x = run(cell, x)
            outputs.append(x)
        return outputs


class CellNetwork(MacroNetwork):
    """The network of one cell.

    Args:
        edges: the operation of each edge of the cell that has one, by ``"source->target"``.
        classes: outputs.
        channels: of the first stage; twice and four times as many in the others.
        cells: in each of the three stages.
    """

    def __init__(self, edges: Mapping[str, str], classes: int, channels: int, cells: int) -> None:
        super().__init__(lambda width: Cell(edges, width), classes, channels, cells)
        self.config: dict[str, Any] = {
            "edges": dict(edges),
            "classes": classes,
            "channels": channels,
            "cells": cells,
        }

    def features(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to the features (batch, 4 * channels) to be classified."""
        pooled: Tensor = self.head(self.stage_outputs(x)[-1])
        return pooled

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (batch, 3, h, w) to logits (batch, classes)."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
