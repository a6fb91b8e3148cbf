"""The NAS-Bench-201 space: a cell of 4 nodes, 6 edges and 5 operations; 15,625 cells.

Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020. The 15,625 cells fall into 6,466 classes of isomorphic networks.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from metad2a.registry import suggest_name
from metad2a.spaces._nasbench201_cell import CONV1, CONV3, EDGES, NONE, OPERATIONS, SKIP
from metad2a.spaces._topology import width_depth
from metad2a.spaces.base import SPACES, Architecture, Cost, Decision, WeightSharing
from metad2a.spaces.sketch import Cell, connections

if TYPE_CHECKING:
    from torch import nn
    from torch_geometric.data import Batch

    from metad2a.spaces.supernets.mixed import MixedNetwork

CHANNELS = 16
CELLS = 5
_INDEX = {name: index for index, name in enumerate(OPERATIONS)}
_STRING = re.compile(
    r"\+".join(
        r"\|" + "".join(rf"([^|~+]+)~{source}\|" for source in range(target))
        for target in (1, 2, 3)
    )
)
_STAGES = 3


def _signature(architecture: Architecture) -> str:
    """Return the benchmark's own isomorphism string, which is equal for isomorphic cells.

    Each node is the sorted sum of its inputs; a skip passes its source on, ``none`` and whatever
    follows a lone ``none`` is zero (``#``). Terms sort by operation name, as in the benchmark:
    that is what makes the classes 6,466.
    """
    nodes = ["0"]
    for first in (0, 1, 3):
        terms = []
        for slot in range(first, first + len(nodes)):
            source, op = nodes[EDGES[slot][0]], architecture[slot]
            if op == NONE or source == "#":
                terms.append("#")
            else:
                terms.append(source if op == SKIP else f"({source})@{OPERATIONS[op]}")
        nodes.append("+".join(sorted(terms)))
    return nodes[3]


@lru_cache(maxsize=1)
def _representatives() -> dict[Architecture, Architecture]:
    """Map every cell to the first one that has its signature."""
    first: dict[str, Architecture] = {}
    return {
        architecture: first.setdefault(_signature(architecture), architecture)
        for architecture in itertools.product(range(5), repeat=6)
    }


@lru_cache(maxsize=1)
def _connected_cells() -> np.ndarray:
    """Return int (cells, 6): every connected cell, in lexicographic order."""
    cells = np.array(list(itertools.product(range(5), repeat=6)))
    connected: np.ndarray = cells[NasBench201().connected(cells)]
    return connected


class NasBench201(WeightSharing):
    """The cell space of NAS-Bench-201, with the benchmark's own macro network."""

    name = "nasbench201"
    decisions = tuple(Decision(f"{source}->{target}", OPERATIONS) for source, target in EDGES)
    operations = OPERATIONS
    input_size = 32
    node_features = ("input", "output", *OPERATIONS)
    counted_macro = MappingProxyType({"channels": CHANNELS, "cells": CELLS})
    cell_types = MappingProxyType({"cell": range(6)})
    search_macro = MappingProxyType({"channels": CHANNELS, "cells": 1})
    published_macro = counted_macro

    def parse(self, text: str) -> Architecture:
        """Read the official string, ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""
        found = _STRING.fullmatch(text.strip())
        if not found:
            raise InputError(
                f"{text[:200]!r} is not a NAS-Bench-201 cell, whose three nodes list "
                f"their inputs in order; write it as {self.format((CONV3,) * 6)!r}."
            )
        unknown = [op for op in found.groups() if op not in _INDEX]
        if unknown:
            raise InputError(
                f"Unknown operation {unknown[0][:50]!r} in a NAS-Bench-201 cell."
                f"{suggest_name(unknown[0], list(self.operations))}"
            )
        return tuple(_INDEX[op] for op in found.groups())

    def format(self, architecture: Architecture) -> str:
        """Write the official string."""
        nodes: list[list[str]] = [[], [], []]
        for (source, target), op in zip(EDGES, architecture, strict=True):
            nodes[target - 1].append(f"{self.operations[op]}~{source}")
        return "+".join(f"|{'|'.join(edges)}|" for edges in nodes)

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the first isomorphic cell in the order of :meth:`enumerate`.

        In the benchmark's sense, where a convolution that two nodes share through a skip equals
        two convolutions, and a dead end equals nothing: cells of one class can differ in cost.
        """
        return _representatives()[tuple(architecture)]

    def connected(self, architectures: np.ndarray) -> np.ndarray:
        """Whether some path without ``none`` joins input and output."""
        live = np.asarray(architectures) != NONE
        joined: np.ndarray = np.any([live[:, path].all(1) for path in self.paths()], axis=0)
        return joined

    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill with skips: they join whatever can be joined, and cost nothing."""
        rest = np.full((len(prefixes), self.slots - prefixes.shape[1]), SKIP)
        return np.concatenate([prefixes, rest], axis=1)

    def enumerate(self) -> Iterator[Architecture]:
        """Yield all 15,625 cells in lexicographic order."""
        yield from itertools.product(range(5), repeat=6)

    def representatives(self) -> list[Architecture]:
        """Return the 6,466 canonical cells, in the order of :meth:`enumerate`."""
        return list(dict.fromkeys(_representatives().values()))

    def listed(self) -> np.ndarray:
        """Return int (6461, 6): the canonical cells that are connected."""
        cells = self.as_array(self.representatives())
        joined: np.ndarray = cells[self.connected(cells)]
        return joined

    def paths(self) -> list[tuple[int, ...]]:
        """Return the four paths from node 0 to node 3 as slots."""
        slot = {edge: i for i, edge in enumerate(EDGES)}
        ways = ((0, 3), (0, 1, 3), (0, 2, 3), (0, 1, 2, 3))
        return [tuple(slot[edge] for edge in itertools.pairwise(way)) for way in ways]

    def preceding(self, slot: int) -> int | None:
        """Return the edge into this edge's source from the node just before it."""
        source = EDGES[slot][0]
        return EDGES.index((source - 1, source)) if source else None

    def discretise(self, scores: np.ndarray) -> Architecture:
        """Return the connected cell with the largest sum of scores; of equals, the first."""
        found = self.checked_scores(scores)
        cells = _connected_cells()
        totals = found[np.arange(self.slots), cells].sum(1)
        if totals.max() == -np.inf:
            raise InputError(
                "The scores forbid every connected cell of NAS-Bench-201; leave one "
                "path from node 0 to node 3 with finite scores."
            )
        return tuple(cells[totals.argmax()].tolist())

    def width_depth(self, architecture: Architecture) -> tuple[float, int]:
        """Count nodes 1 to 3, which sum operations, and the edges of the living paths."""
        alive = [path for path in self.paths() if all(architecture[slot] for slot in path)]
        used = [EDGES[slot] for slot in sorted({slot for path in alive for slot in path})]
        return width_depth(
            [[source for source, end in used if end == node] for node in (1, 2, 3)], 1
        )

    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Count the benchmark's network (C=16, N=5): convolutions, batch norms, classifier.

        MACs are multiply-adds of convolutions and classifier, as in the benchmark's own table.
        """
        table = np.zeros((6, 5, 2), dtype=np.int64)
        params, macs, width, side = 0, 0, CHANNELS, resolution
        params += 27 * width + 2 * width
        macs += 27 * width * side**2
        for stage in range(_STAGES):
            if stage:
                narrow, width, side = width, 2 * width, (side + 1) // 2
                params += 9 * narrow * width + 9 * width**2 + 4 * width + narrow * width
                macs += (9 * narrow * width + 9 * width**2 + narrow * width) * side**2
            for op, kernel in ((CONV1, 1), (CONV3, 9)):
                table[:, op, 0] += CELLS * (kernel * width**2 + 2 * width)
                table[:, op, 1] += CELLS * kernel * width**2 * side**2
        params += 2 * width + (width + 1) * classes
        macs += width * classes
        return Cost(params, macs), table

    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return cells as graphs of 8 nodes: input, one node an edge's operation, output.

        A node's features say of which type it is, one-hot.
        """
        import torch
        from torch.nn.functional import one_hot

        from metad2a.spaces._graphs import equal_graphs

        cells = torch.as_tensor(np.asarray(architectures), dtype=torch.long)
        ends = torch.tensor([[0, 1]]).expand(len(cells), 2)
        x = torch.cat([ends[:, :1], cells + 2, ends[:, 1:]], dim=1)
        pairs = [(0, 1 + i) for i, (source, _) in enumerate(EDGES) if source == 0]
        pairs += [(1 + i, 7) for i, (_, target) in enumerate(EDGES) if target == 3]
        pairs += [
            (1 + i, 1 + j)
            for i, (_, target) in enumerate(EDGES)
            for j, (source, _) in enumerate(EDGES)
            if target == source
        ]
        return equal_graphs(one_hot(x, len(self.node_features)).float(), torch.tensor(pairs).T)

    def sketch(self, architecture: Architecture) -> list[Cell]:
        """Return the one cell."""
        edges = connections(self, architecture, EDGES)
        return [Cell("", ("in", "1", "2", "out"), 1, edges, stacked=False)]

    def build(
        self,
        architecture: Architecture,
        classes: int,
        *,
        pretrained: bool = False,
        **macro: Any,
    ) -> nn.Module:
        """Return the network of this cell; 16 ``channels`` and 5 ``cells`` are the benchmark's.

        Raises:
            InputError: pretrained weights, of which there are none, or a size below 1.
        """
        from metad2a.spaces.networks.nasbench201 import CellNetwork

        self.refuse_pretrained(pretrained)
        edges = {
            decision.name: OPERATIONS[op]
            for decision, op in zip(self.decisions, architecture, strict=True)
            if op != NONE
        }
        return CellNetwork(edges, classes, **self.sizes(macro))

    def supernet(
        self, classes: int, *, channels: int | None = None, cells: int | None = None
    ) -> MixedNetwork:
        """Return the weight-sharing network of all cells (batch norm without affine)."""
        from metad2a.spaces.supernets.nasbench201 import CellSuperNet

        return CellSuperNet(classes, **self.sizes({"channels": channels, "cells": cells}))


SPACES.register(NasBench201.name)(NasBench201())
