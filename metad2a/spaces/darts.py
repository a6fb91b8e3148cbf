"""The DARTS space: a normal and a reduction cell of 14 edges and 8 operations.

Source: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019. A cell has two
inputs (nodes 0 and 1: the outputs of the two cells before it) and four intermediate nodes, each
the sum of two operations on nodes before it; its output is their concatenation. A decision is
taken for all 14 edges of either cell; on the edges that are not used it is ``none``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces import _genotype
from metad2a.spaces._topology import width_depth
from metad2a.spaces.base import SPACES, Architecture, Cost, SearchSpace

if TYPE_CHECKING:
    from torch_geometric.data import Batch

    from metad2a.spaces._darts_network import DartsNetwork
    from metad2a.spaces._mixed import MixedNetwork

NONE, MAX_POOL, AVG_POOL, SKIP, SEP3, SEP5, DIL3, DIL5 = range(8)
OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
    "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
)
EDGES: tuple[tuple[int, int], ...] = tuple(
    (source, target) for target in _genotype.NODES for source in range(target)
)
"""(source, target) of the 14 slots of one cell, node by node."""
CHANNELS = 36
CELLS = 20
_SLOTS = 2 * len(EDGES)
_NODES = tuple(
    tuple(cell * len(EDGES) + slot for slot, (_, target) in enumerate(EDGES) if target == node)
    for cell in range(2) for node in _genotype.NODES
)
"""The slots that lead into each of the four nodes of either cell."""
_KERNELS = {SEP3: 3, SEP5: 5, DIL3: 3, DIL5: 5}


def reductions(cells: int) -> set[int]:
    """Return which of the cells are reduction cells: those at one and two thirds."""
    return {cells // 3, 2 * cells // 3}


def _orders() -> list[dict[int, int]]:
    """Return, for each order of a cell's nodes, where the edges that it leaves forward go."""
    found = []
    for order in permutations(_genotype.NODES):
        place = {0: 0, 1: 1, **dict(zip(_genotype.NODES, order, strict=True))}
        moved = [(place[source], place[target]) for source, target in EDGES]
        found.append({slot: EDGES.index(edge) for slot, edge in enumerate(moved) if edge in EDGES})
    return found


_ORDERS = _orders()


def _macro(channels: int | None, cells: int | None) -> tuple[int, int]:
    """Return width and depth, those of the paper's CIFAR-10 network where None."""
    width, depth = CHANNELS if channels is None else channels, CELLS if cells is None else cells
    for name, value in (("channels", width), ("cells", depth)):
        if value < 1:
            raise InputError(f"{name}={value} cannot be built; use 1 or more.")
    return width, depth


class Darts(SearchSpace):
    """The cell space of DARTS, with the paper's network for CIFAR-10."""

    name = "darts"
    operations = OPERATIONS
    slots = _SLOTS
    input_size = 32
    node_types = ("input", "output", "previous", *(
        f"{cell}/{operation}" for cell in ("normal", "reduction") for operation in OPERATIONS
    ))
    search_macro = MappingProxyType({"channels": 8, "cells": 5})
    published_macro = MappingProxyType({"channels": 16, "cells": 8})

    def parse(self, text: str) -> Architecture:
        """Read the customary string, ``Genotype(normal=[('sep_conv_3x3', 0), ...], ...)``."""
        architecture = [NONE] * _SLOTS
        for start, cell in zip((0, len(EDGES)), _genotype.read(text, OPERATIONS[1:]), strict=True):
            for place, (operation, source) in enumerate(cell):
                slot = start + EDGES.index((source, 2 + place // 2))
                architecture[slot] = OPERATIONS.index(operation)
        return tuple(architecture)

    def format(self, architecture: Architecture) -> str:
        """Write the customary string, a node's entries by their sources.

        Raises:
            InputError: some node has not exactly two operations.
        """
        self._check(architecture)
        normal, reduction = (
            [(OPERATIONS[op], source) for (source, _), op in zip(EDGES, cell, strict=True) if op]
            for cell in (architecture[: len(EDGES)], architecture[len(EDGES) :])
        )
        return _genotype.write(normal, reduction)

    def _check(self, architecture: Architecture) -> None:
        if len(architecture) != _SLOTS or not self.is_connected(architecture):
            raise InputError(f"{architecture} is no architecture of the space 'darts': each of the "
                             "four nodes of either cell needs two operations other than 'none' "
                             f"among its edges, {_SLOTS} in all.")

    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the least of the architectures that only number the nodes differently."""
        found: list[int] = []
        for start in (0, len(EDGES)):
            used = [(slot, op) for slot, op in enumerate(architecture[start : start + len(EDGES)])
                    if op]
            forms = []
            for order in _ORDERS:
                if all(slot in order for slot, _ in used):
                    form = [NONE] * len(EDGES)
                    for slot, op in used:
                        form[order[slot]] = op
                    forms.append(form)
            found += min(forms)
        return tuple(found)

    def connected(self, architectures: np.ndarray) -> np.ndarray:
        """Whether every node has two operations: then all of them hang on the inputs."""
        used = np.asarray(architectures) != NONE
        joined: np.ndarray = np.all([used[:, node].sum(1) == 2 for node in _NODES], axis=0)
        return joined

    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill each node up to two operations with pools, which cost nothing."""
        given = prefixes.shape[1]
        whole = np.zeros((len(prefixes), _SLOTS), dtype=np.int64)
        whole[:, :given] = prefixes
        for node in _NODES:
            for slot in node:
                if slot >= given:
                    whole[(whole[:, node] != NONE).sum(1) < 2, slot] = MAX_POOL
        return whole

    def enumerate(self) -> Iterator[Architecture]:
        """Refuse: there are (180 x 7^8)^2 architectures.

        Raises:
            InputError: always.
        """
        raise InputError("The space 'darts' has about 1e18 architectures and cannot be enumerated; "
                         "draw some with its method sample.")

    def paths(self) -> list[tuple[int, ...]]:
        """Return the 30 paths of either cell from an input to a node, all of which are output."""
        found = []
        for start in (0, len(EDGES)):
            into: dict[int, list[tuple[int, ...]]] = {0: [()], 1: [()]}
            for slot, (source, target) in enumerate(EDGES):
                into.setdefault(target, []).extend(
                    (*path, start + slot) for path in into[source])
            found += [path for node in _genotype.NODES for path in into[node]]
        return found

    def preceding(self, slot: int) -> int | None:
        """Return the edge into this edge's source from the node just before it."""
        start, edge = divmod(slot, len(EDGES))
        source = EDGES[edge][0]
        return start * len(EDGES) + EDGES.index((source - 1, source)) if source > 1 else None

    def width_depth(self, architecture: Architecture) -> tuple[float, int]:
        """Measure the normal cell; the concatenation counts as a connection, as in the paper."""
        inputs = [[EDGES[slot][0] for slot in node if architecture[slot] != NONE]
                  for node in _NODES[: len(_NODES) // 2]]
        width, depth = width_depth(inputs, 2)
        return width, depth + 1

    # -- choosing two operations a node --------------------------------------------------------

    def discretise(self, scores: np.ndarray) -> Architecture:
        """Keep the best operation but ``none`` of each edge, and a node's two best edges.

        Section 2.4 of the paper; of equals, the first.
        """
        found = self.checked_scores(scores)[:, 1:]
        best, choice = found.max(1), 1 + found.argmax(1)
        architecture = [NONE] * _SLOTS
        for node in _NODES:
            slots = sorted(node, key=lambda slot: -best[slot])[:2]
            if best[slots].min() == -np.inf:
                raise InputError("The scores forbid all edges but one into a node of 'darts', which "
                                 "needs two; give two edges or more a finite score.")
            for slot in slots:
                architecture[slot] = int(choice[slot])
        return tuple(architecture)

    def _usable(self, allowed: np.ndarray | None) -> np.ndarray:
        """Return bool (slots, operations) without ``none``, which is not chosen but left over."""
        usable = np.ones((_SLOTS, len(OPERATIONS)), dtype=bool) if allowed is None else (
            allowed.copy())
        usable[:, NONE] = False
        if any(usable[list(node)].any(1).sum() < 2 for node in _NODES):
            raise InputError("Fewer than two edges into some node of 'darts' may have an operation "
                             "other than 'none'; allow one on two edges or more.")
        return usable

    def sample(
        self, rng: np.random.Generator, allowed: np.ndarray | None = None
    ) -> Architecture:
        """Draw two inputs for each node, and an operation other than ``none`` for each of them.

        Args:
            rng: source of the draw.
            allowed: bool (slots, operations); edges where only ``none`` is allowed are not used.

        Raises:
            InputError: fewer than two edges can be used into some node.
        """
        usable = self._usable(allowed)
        architecture = [NONE] * _SLOTS
        for node in _NODES:
            for slot in rng.choice([s for s in node if usable[s].any()], 2, replace=False):
                architecture[slot] = int(rng.choice(np.flatnonzero(usable[slot])))
        return tuple(architecture)

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
        allowed: np.ndarray | None = None,
    ) -> Architecture:
        """Give one used edge another operation, or move it to another source of its node.

        As in Real et al., "Regularized Evolution for Image Classifier Architecture Search", AAAI
        2019. The arguments and errors are those of :meth:`sample`.
        """
        usable = self._usable(allowed)
        changes = []
        for node in _NODES:
            free = [slot for slot in node if architecture[slot] == NONE]
            for slot in (slot for slot in node if architecture[slot] != NONE):
                op = architecture[slot]
                options = [(slot, int(o)) for o in np.flatnonzero(usable[slot]) if o != op]
                options += [(other, op) for other in free if usable[other, op]]
                if options:
                    changes.append((slot, options))
        changed = list(architecture)
        if changes:
            slot, options = changes[rng.integers(len(changes))]
            changed[slot] = NONE
            target, op = options[rng.integers(len(options))]
            changed[target] = op
        return tuple(changed)

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Keep the edges that both parents use and draw the rest from either's, node by node."""
        child = [NONE] * _SLOTS
        for node in _NODES:
            both = [s for s in node if first[s] != NONE and second[s] != NONE]
            one = [s for s in node if (first[s] != NONE) != (second[s] != NONE)]
            for slot in (*both, *rng.permutation(one)[: 2 - len(both)]):
                found = [op for op in (first[slot], second[slot]) if op != NONE]
                child[slot] = found[rng.integers(len(found))]
        return tuple(child)

    # -- costs, graphs, networks ---------------------------------------------------------------

    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Count the paper's network (C=36, 20 cells) without its auxiliary head.

        MACs are multiply-adds of convolutions and classifier.
        """
        table = np.zeros((_SLOTS, len(OPERATIONS), 2), dtype=np.int64)
        older, old, width, side, halved = 3 * CHANNELS, 3 * CHANNELS, CHANNELS, resolution, False
        fixed = np.array([29 * old, 27 * old * side**2])
        for index in range(CELLS):
            reduction = index in reductions(CELLS)
            width *= 1 + reduction
            convolved = (older + old) * width
            fixed += (convolved + 4 * width, convolved * side**2)
            side = (side + 1) // 2 if reduction else side
            start = reduction * len(EDGES)
            for op, kernel in _KERNELS.items():
                weights = (kernel**2 + width) * width * (2 if op in (SEP3, SEP5) else 1)
                norms = 2 * width * (2 if op in (SEP3, SEP5) else 1)
                table[start : start + len(EDGES), op] += (weights + norms, weights * side**2)
            if reduction:  # a skip that halves the side has a convolution
                halving = [start + slot for slot, (source, _) in enumerate(EDGES) if source < 2]
                table[halving, SKIP] += (width**2 + 2 * width, width**2 * side**2)
            older, old, halved = old, 4 * width, reduction
        fixed += ((old + 1) * classes, old * classes)
        return Cost(int(fixed[0]), int(fixed[1])), table
