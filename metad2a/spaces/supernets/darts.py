"""The network that shares its weights between all pairs of DARTS cells."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from metad2a.spaces._darts_cell import EDGES, NODES, NONE, OPERATIONS
from metad2a.spaces.networks.darts import CellInputs, MacroNetwork, make_operation
from metad2a.spaces.supernets.gates import Choice
from metad2a.spaces.supernets.mixed import MixedNetwork, MixedOperation, apart


class SuperCell(CellInputs):
    """A cell that holds every operation on every edge."""

    def __init__(self, older: int, old: int, channels: int, reduction: bool, halved: bool) -> None:
        super().__init__(older, old, channels, reduction, halved, affine=False)
        self.edges = nn.ModuleList(
            MixedOperation(
                [
                    None
                    if op == NONE
                    else make_operation(name, channels, self.stride(source), affine=False)
                    for op, name in enumerate(OPERATIONS)
                ],
                channels,
            )
            for source, _ in EDGES
        )

    def forward(self, older: Tensor, old: Tensor, choice: Choice) -> Tensor:
        """Map the outputs of the two cells before to (batch, 4 * channels, h, w)."""
        inputs = [apart(self.older, older, choice), apart(self.old, old, choice)]
        nodes: list[Tensor | None] = [*inputs, *[None] * len(NODES)]
        first = self.reduction * len(EDGES)
        for slot, (source, target) in enumerate(EDGES):
            value = nodes[source]
            term = None if value is None else self.edges[slot](value, choice, first + slot)
            if term is not None:
                before = nodes[target]
                nodes[target] = term if before is None else before + term
        step = 2 if self.reduction else 1
        nothing = torch.zeros_like(inputs[1][:, :, ::step, ::step])
        return torch.cat([nothing if n is None else n for n in nodes[len(inputs) :]], dim=1)


class DartsSuperNet(MacroNetwork, MixedNetwork):
    """The network that shares its weights between all pairs of cells."""

    slots, operations = 2 * len(EDGES), len(OPERATIONS)

    def __init__(self, classes: int, channels: int, cells: int) -> None:
        super().__init__(SuperCell, classes, channels, cells)

    def pooled(self, x: Tensor, choice: Choice) -> Tensor:
        """Return float (batch, F), averaged over the positions."""
        older = old = apart(self.stem, x, choice)
        for cell in self.cells:
            older, old = old, cell(older, old, choice)
        features: Tensor = self.head(old)
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
