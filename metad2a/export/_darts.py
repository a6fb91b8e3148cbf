"""Code of DARTS networks; names of the parts are those of the space's own modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from metad2a.export._cells import module_dict, sizes_as_defaults, total
from metad2a.spaces._darts_cell import EDGES, INTO, NODES
from metad2a.spaces.darts import AVG_POOL, DIL3, DIL5, MAX_POOL, SEP3, SEP5, SKIP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from metad2a.export.design import Design

_SEPARABLE = '''\
def separable(channels: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """Return ReLU, depthwise convolution, 1x1 convolution, batch norm."""
    return [
        nn.ReLU(),
        nn.Conv2d(channels, channels, kernel, stride, dilation * (kernel // 2), dilation,
                  groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    ]
'''
_SEPARABLE_CONV = '''\
class SeparableConv(nn.Sequential):
    """Two separable convolutions; the first one may halve the height and width."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(*separable(channels, kernel, stride), *separable(channels, kernel, 1))
'''
_DILATED_CONV = '''\
class DilatedConv(nn.Sequential):
    """A separable convolution whose taps are two pixels apart."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(*separable(channels, kernel, stride, dilation=2))
'''
_CONV_BLOCK = '''\
class ConvBlock(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.ReLU(), nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        )
'''
_REDUCE = '''\
class FactorizedReduce(nn.Module):
    """Halve the height and width by two strided convolutions, one of them shifted by a pixel."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        height, width = x.shape[2:]
        # An odd side has no pixel left for the last shifted position, where a zero stands.
        shifted = F.pad(x, (-1, width % 2, -1, height % 2))
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], dim=1))
'''
_NETWORK = '''\
class Network(nn.Module):
    """A stem, cells of which two halve the side and double the channels, a linear classifier."""

    def __init__(self, {sizes}) -> None:
        super().__init__()
        older = old = 3 * channels
        self.stem = nn.Sequential(nn.Conv2d(3, old, 3, padding=1, bias=False), nn.BatchNorm2d(old))
        self.cells = nn.ModuleList()
        halved = False
        for index in range(cells):
            reduction = index in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            cell = ReductionCell if reduction else NormalCell
            self.cells.append(cell(older, old, channels, halved))
            older, old, halved = old, 4 * channels, reduction
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(old, classes)

    def forward(self, x: Tensor) -> Tensor:
        older = old = self.stem(x)
        for cell in self.cells:
            older, old = old, cell(older, old)
        return self.classifier(self.head(old))
'''
_OPERATIONS = {
    MAX_POOL: "nn.MaxPool2d(3, {stride}, 1)",
    AVG_POOL: "nn.AvgPool2d(3, {stride}, 1, count_include_pad=False)",
    SEP3: "SeparableConv(channels, 3{keyword})",
    SEP5: "SeparableConv(channels, 5{keyword})",
    DIL3: "DilatedConv(channels, 3{keyword})",
    DIL5: "DilatedConv(channels, 5{keyword})",
}
_STRIDED_SKIP = "FactorizedReduce(channels, channels)"


def sizes(network: nn.Module) -> dict[str, int]:
    """Return the sizes of a plain network of the space."""
    from torch import nn

    stem = cast(nn.Conv2d, network.get_submodule("stem.0"))
    cells = cast(nn.ModuleList, network.get_submodule("cells"))
    return {"channels": stem.out_channels // 3, "cells": len(cells)}


def classes(design: Design) -> list[str]:
    """Return the source of blocks, the two cells and network."""
    used = set(design.architecture)
    halves = design.architecture[: len(EDGES)], design.architecture[len(EDGES) :]
    blocks = {
        _SEPARABLE: {SEP3, SEP5, DIL3, DIL5},
        _SEPARABLE_CONV: {SEP3, SEP5},
        _DILATED_CONV: {DIL3, DIL5},
    }
    return [
        *(block for block, operations in blocks.items() if used & operations),
        _CONV_BLOCK,
        _REDUCE,
        _cell("NormalCell", "that keeps the height and width", halves[0], 1),
        _cell("ReductionCell", "that halves the height and width", halves[1], 2),
        _NETWORK.format(sizes=sizes_as_defaults(design)),
    ]


def _cell(name: str, what: str, half: Sequence[int], stride: int) -> str:
    """Return a cell; ``stride`` is that of the operations on its two inputs."""
    modules, lines = [], []
    for node, slots in zip(NODES, INTO, strict=True):
        terms = []
        for slot in slots:
            source, op = EDGES[slot][0], half[slot]
            step = stride if source not in NODES else 1
            made = (
                _STRIDED_SKIP
                if op == SKIP and step == 2
                else ""
                if op == SKIP
                else _OPERATIONS.get(op, "")
            )
            key = f"{source}->{node}"
            if made:
                keyword = f", stride={step}" if step == 2 else ""
                modules.append((key, made.format(stride=step, keyword=keyword), ""))
                terms.append(f'self.edges["{key}"](node{source})')
            elif op == SKIP:
                terms.append(f"node{source}")
        lines.append(f"        node{node} = {total(terms)}\n")
    return f'''\
class {name}(nn.Module):
    """A cell {what}.

    Nodes 0 and 1 are the outputs of the two cells before it; nodes 2 to 5, each the sum of two
    operations, are stacked to make its own.
    """

    def __init__(self, older: int, old: int, channels: int, halved: bool) -> None:
        super().__init__()
        self.older = (FactorizedReduce if halved else ConvBlock)(older, channels)
        self.old = ConvBlock(old, channels)
{module_dict(modules)}

    def forward(self, older: Tensor, old: Tensor) -> Tensor:
        node0, node1 = self.older(older), self.old(old)
{"".join(lines)}\
        return torch.cat([node2, node3, node4, node5], dim=1)
'''
