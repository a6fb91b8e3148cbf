"""Code of NAS-Bench-201 networks; names of the parts are those of the space's own modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from metad2a.export._cells import module_dict, sizes_as_defaults, total
from metad2a.spaces.nasbench201 import CONV1, CONV3, EDGES, POOL, SKIP
from metad2a.spaces.sketch import connections

if TYPE_CHECKING:
    from torch import nn

    from metad2a.export.design import Design
    from metad2a.spaces.base import Architecture

_CONV_BLOCK = '''\
class ConvBlock(nn.Sequential):
    """ReLU, convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )
'''
_REDUCTION = '''\
class Reduction(nn.Module):
    """Residual block that halves the height and width and changes the channels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvBlock(inputs, outputs, 3, stride=2), ConvBlock(outputs, outputs, 3)
        )
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True), nn.Conv2d(inputs, outputs, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.convs(x)
'''
_NETWORK = '''\
class Network(nn.Module):
    """A stem, three stages of cells with a reduction between them, and a linear classifier."""

    def __init__(self, {sizes}) -> None:
        super().__init__()
        widths = [channels, 2 * channels, 4 * channels]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(Cell(width) for _ in range(cells))) for width in widths
        )
        self.reductions = nn.ModuleList(Reduction(width, 2 * width) for width in widths[:-1])
        self.head = nn.Sequential(
            nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](self.stem(x))
        x = self.stages[1](self.reductions[0](x))
        x = self.stages[2](self.reductions[1](x))
        return self.classifier(self.head(x))
'''
_OPERATIONS = {
    CONV1: "ConvBlock(channels, channels, 1)",
    CONV3: "ConvBlock(channels, channels, 3)",
    POOL: "nn.AvgPool2d(3, 1, 1, count_include_pad=False)",
}


def sizes(network: nn.Module) -> dict[str, int]:
    """Return the sizes of a plain network of the space."""
    from torch import nn

    stem = cast(nn.Conv2d, network.get_submodule("stem.0"))
    stage = cast(nn.ModuleList, network.get_submodule("stages.0"))
    return {"channels": stem.out_channels, "cells": len(stage)}


def classes(design: Design) -> list[str]:
    """Return the source of blocks, cell and network."""
    return [
        _CONV_BLOCK,
        _REDUCTION,
        _cell(design),
        _NETWORK.format(sizes=sizes_as_defaults(design)),
    ]


def _cell(design: Design) -> str:
    architecture = design.architecture
    drawn = connections(design.space, architecture, EDGES)  # type: ignore[arg-type]
    live = {slot for slot, one in enumerate(drawn) if one.live}
    modules = [
        (_key(slot), _OPERATIONS[op], "" if slot in live else "leads nowhere: not used")
        for slot, op in enumerate(architecture)
        if op in _OPERATIONS
    ]
    nodes = "".join(
        f"        node{node} = {total(terms)}\n"
        for node in (1, 2)
        if (terms := _terms(architecture, live, node))
    )
    return f'''\
class Cell(nn.Module):
    """Four nodes, each the sum of the edges into it: node 0 is the input, node 3 the output."""

    def __init__(self, channels: int) -> None:
        super().__init__()
{module_dict(modules)}

    def forward(self, x: Tensor) -> Tensor:
{nodes}\
        return {total(_terms(architecture, live, 3)) or "torch.zeros_like(x)"}
'''


def _terms(architecture: Architecture, live: set[int], node: int) -> list[str]:
    """Return what is added up in a node, in the order of the slots."""
    names = ("x", "node1", "node2")
    return [
        name if architecture[slot] == SKIP else f'self.edges["{_key(slot)}"]({name})'
        for slot, (source, target) in enumerate(EDGES)
        if target == node and slot in live
        for name in [names[source]]
    ]


def _key(slot: int) -> str:
    source, target = EDGES[slot]
    return f"{source}->{target}"
