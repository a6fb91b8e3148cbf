"""The network that shares its weights between all cells of NAS-Bench-201."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from metad2a.spaces._nasbench201_cell import EDGES, NONE, OPERATIONS
from metad2a.spaces.networks.nasbench201 import MacroNetwork, make_operation
from metad2a.spaces.supernets.gates import Choice
from metad2a.spaces.supernets.mixed import MixedNetwork, MixedOperation, apart


class SuperCell(nn.Module):
    """A cell that holds every operation on every edge."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            MixedOperation(
                [
                    None if op == NONE else make_operation(name, channels, affine=False)
                    for op, name in enumerate(OPERATIONS)
                ],
                channels,
            )
            for _ in EDGES
        )

    def forward(self, x: Tensor, choice: Choice) -> Tensor:
        """Map (batch, channels, h, w) to the same shape, along a path, mixture or route."""
        nodes: list[Tensor | None] = [x, None, None, None]
        for slot, (source, target) in enumerate(EDGES):
            value = nodes[source]
            term = None if value is None else self.edges[slot](value, choice, slot)
            if term is not None:
                before = nodes[target]
                nodes[target] = term if before is None else before + term
        return torch.zeros_like(x) if nodes[3] is None else nodes[3]


class CellSuperNet(MacroNetwork, MixedNetwork):
    """The network that shares its weights between all 15,625 cells."""

    slots, operations = len(EDGES), len(OPERATIONS)

    def __init__(self, classes: int, channels: int, cells: int) -> None:
        super().__init__(SuperCell, classes, channels, cells, affine=False)

    def pooled(self, x: Tensor, choice: Choice) -> Tensor:
        """Return float (batch, 4 * channels), averaged over the positions."""

        def run(module: nn.Module, x: Tensor) -> Tensor:
            if isinstance(module, SuperCell):
                output: Tensor = module(x, choice)
                return output
            return apart(module, x, choice)

        return apart(self.head, self.stage_outputs(x, run)[-1], choice)

    def edges(self, slot: int) -> list[MixedOperation]:
        """Return the mixed operations of a slot, one a cell."""
        cells = (cell for stage in self.stages for cell in cast(nn.ModuleList, stage))
        return [cast(MixedOperation, cast(SuperCell, cell).edges[slot]) for cell in cells]

    def fixed_weights(self) -> list[Tensor]:
        """Return the weights of stem, residual blocks and classifier."""
        parts = (self.stem, self.reductions, self.classifier)
        return [p for part in parts for p in part.parameters() if p.dim() > 1]
