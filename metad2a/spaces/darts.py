"""The DARTS space: a normal and a reduction cell of 14 edges and 8 operations.

Source: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019. A cell has two
inputs (nodes 0 and 1: the outputs of the two cells before it) and four intermediate nodes, each
the sum of two operations on nodes before it; its output is their concatenation. A decision is
taken for all 14 edges of either cell; on the edges that are not used it is ``none``.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces import _darts_cell, _genotype
from metad2a.spaces._darts_cell import (
    DIL3,
    DIL5,
    EDGES,
    INTO,
    MAX_POOL,
    NONE,
    OPERATIONS,
    SEP3,
    SEP5,
    SKIP,
    reductions,
)
from metad2a.spaces._topology import width_depth
from metad2a.spaces._two_inputs import TwoInputs
from metad2a.spaces.base import SPACES, Architecture, Cost, Decision
from metad2a.spaces.sketch import Cell, connections

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from metad2a.spaces.networks.darts import DartsNetwork
    from metad2a.spaces.supernets.mixed import MixedNetwork

CHANNELS = 36
CELLS = 20
_HALF = len(EDGES)
_SLOTS = 2 * _HALF
_DEPTHWISE = {SEP3: (3, 2), SEP5: (5, 2), DIL3: (3, 1), DIL5: (5, 1)}
"""Kernel and number of the depthwise separable convolutions in an operation."""


class Darts(TwoInputs):
    """The cell space of DARTS, with the paper's network for CIFAR-10."""

    name = "darts"
    operations = OPERATIONS
    decisions = tuple(
        Decision(f"{cell} {source}->{target}", OPERATIONS)
        for cell in ("normal", "reduction")
        for source, target in EDGES
    )
    nodes = tuple(tuple(start + slot for slot in node) for start in (0, _HALF) for node in INTO)
    free_operation = MAX_POOL
    input_size = 32
    node_features = (
        "input",
        "output",
        "previous",
        *(f"{cell}/{operation}" for cell in ("normal", "reduction") for operation in OPERATIONS),
    )
    counted_macro = MappingProxyType({"channels": CHANNELS, "cells": CELLS})
    cell_types = MappingProxyType({"normal": range(_HALF), "reduction": range(_HALF, _SLOTS)})
    search_macro = MappingProxyType({"channels": 8, "cells": 5})
    published_macro = MappingProxyType({"channels": 16, "cells": 8})
    recipes = ("darts600",)

    def parse(self, text: str) -> Architecture:
        """Read the customary string, ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)``."""
        architecture = [NONE] * _SLOTS
        for start, cell in zip((0, _HALF), _genotype.read(text, OPERATIONS[1:]), strict=True):
            for place, (operation, source) in enumerate(cell):
                slot = start + EDGES.index((source, 2 + place // 2))
                architecture[slot] = OPERATIONS.index(operation)
        return tuple(architecture)

    def format(self, architecture: Architecture) -> str:
        """Write the customary string, a node's entries by their sources.

        Raises:
            InputError: some node has not exactly two operations.
        """
        return _genotype.write(*self._pairs(architecture))

    def _pairs(self, architecture: Architecture) -> list[list[tuple[str, int]]]:
        """Return (operation, source) of all used edges of either cell, or refuse."""
        self._check(architecture)
        return [
            [(OPERATIONS[op], source) for (source, _), op in zip(EDGES, cell, strict=True) if op]
            for cell in (architecture[:_HALF], architecture[_HALF:])
        ]

    def _check(self, architecture: Architecture) -> None:
        if len(architecture) != _SLOTS or not self.is_connected(architecture):
            raise InputError(
                f"{architecture} is no architecture of the space 'darts': each of the "
                "four nodes of either cell needs two operations other than 'none' "
                f"among its edges, {_SLOTS} in all."
            )

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the least of the architectures that only number the nodes differently."""
        return (*_darts_cell.least(architecture[:_HALF]), *_darts_cell.least(architecture[_HALF:]))

    def enumerate(self) -> Iterator[Architecture]:
        """Refuse: there are (180 x 7^8)^2 architectures.

        Raises:
            InputError: always.
        """
        raise InputError(
            "The space 'darts' has about 1e18 architectures and cannot be enumerated; "
            "draw some with its method sample."
        )

    def paths(self) -> list[tuple[int, ...]]:
        """Return the 30 paths of either cell from an input to a node, all of which are output."""
        return [
            tuple(start + slot for slot in path)
            for start in (0, _HALF)
            for path in _darts_cell.paths()
        ]

    def preceding(self, slot: int) -> int | None:
        """Return the edge into this edge's source from the node just before it."""
        before = _darts_cell.preceding(slot % _HALF)
        return None if before is None else slot - slot % _HALF + before

    def width_depth(self, architecture: Architecture) -> tuple[float, int]:
        """Measure the normal cell; the concatenation counts as a connection, as in the paper."""
        inputs = [
            [EDGES[slot][0] for slot in node if architecture[slot] != NONE]
            for node in self.nodes[: len(INTO)]
        ]
        width, depth = width_depth(inputs, 2)
        return width, depth + 1

    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Count the paper's network (C=36, 20 cells) without its auxiliary head.

        MACs are multiply-adds of convolutions and classifier.
        """
        table = np.zeros((_SLOTS, len(OPERATIONS), 2), dtype=np.int64)
        older, old, width, side = 3 * CHANNELS, 3 * CHANNELS, CHANNELS, resolution
        fixed = np.array([29 * old, 27 * old * side**2])
        for index in range(CELLS):
            reduction = index in reductions(CELLS)
            width *= 1 + reduction
            convolved = (older + old) * width
            fixed += (convolved + 4 * width, convolved * side**2)
            side = (side + 1) // 2 if reduction else side
            start = reduction * _HALF
            for op, (kernel, times) in _DEPTHWISE.items():
                weights = times * (kernel**2 + width) * width
                table[start : start + _HALF, op] += (weights + times * 2 * width, weights * side**2)
            if reduction:  # a skip that halves the side has a convolution
                halving = [start + slot for slot, (source, _) in enumerate(EDGES) if source < 2]
                table[halving, SKIP] += (width**2 + 2 * width, width**2 * side**2)
            older, old = old, 4 * width
        fixed += ((old + 1) * classes, old * classes)
        return Cost(int(fixed[0]), int(fixed[1])), table

    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return architectures as graphs of 31 nodes, one for each edge of either cell.

        The images lead to the older input of a cell, and over the node "previous" to the younger
        one, as the cell before stands between them; every edge leads on, and to the output. A
        node's features say of which type it is, one-hot.
        """
        import torch
        from torch.nn.functional import one_hot

        from metad2a.spaces._graphs import equal_graphs

        chosen = torch.as_tensor(np.asarray(architectures), dtype=torch.long)
        first = len(self.node_features) - 2 * len(OPERATIONS)
        kind = torch.arange(_SLOTS) // _HALF * len(OPERATIONS)
        ends = torch.tensor([[0, 2, 1]]).expand(len(chosen), 3)
        x = torch.cat([ends[:, :2], first + kind + chosen, ends[:, 2:]], dim=1)
        pairs = [(0, 1)]
        for start in (2, 2 + _HALF):
            for slot, (source, target) in enumerate(EDGES):
                if source < 2:
                    pairs.append((source, start + slot))
                pairs += [
                    (start + slot, start + later)
                    for later, (other, _) in enumerate(EDGES)
                    if other == target
                ]
                pairs.append((start + slot, 2 + _SLOTS))
        return equal_graphs(one_hot(x, len(self.node_features)).float(), torch.tensor(pairs).T)

    def sketch(self, architecture: Architecture) -> list[Cell]:
        """Return the two cells."""
        nodes = ("k−2", "k−1", "0", "1", "2", "3")
        return [
            Cell(heading, nodes, 2, connections(self, architecture, EDGES, first), stacked=True)
            for heading, first in (("normal cell", 0), ("reduction cell", _HALF))
        ]

    def build(
        self,
        architecture: Architecture,
        classes: int,
        *,
        pretrained: bool = False,
        auxiliary: bool = False,
        **macro: Any,
    ) -> DartsNetwork:
        """Return the network of these cells; 36 channels and 20 cells are the paper's own.

        Args:
            architecture: one operation index per slot.
            classes: outputs of the network.
            pretrained: refused, as there are no pretrained weights.
            auxiliary: add a second classifier after two thirds of the cells, whose logits are
                returned beside the others in training mode; :meth:`costs` does not count it.
            macro: ``channels`` of the first cells, and ``cells`` in all, of which those at one
                and two thirds are reduction cells.

        Raises:
            InputError: pretrained weights, a width or a depth below 1, or some node has not
                exactly two operations.
        """
        from metad2a.spaces.networks.darts import DartsNetwork

        self.refuse_pretrained(pretrained)
        normal, reduction = self._pairs(architecture)
        sizes = self.sizes(macro)
        return DartsNetwork(normal, reduction, classes, **sizes, auxiliary=auxiliary)

    def supernet(
        self, classes: int, *, channels: int | None = None, cells: int | None = None
    ) -> MixedNetwork:
        """Return the weight-sharing network of all cells (batch norm without affine)."""
        from metad2a.spaces.supernets.darts import DartsSuperNet

        return DartsSuperNet(classes, **self.sizes({"channels": channels, "cells": cells}))


SPACES.register(Darts.name)(Darts())
