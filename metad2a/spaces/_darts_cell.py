"""A DARTS cell: its operations and its wiring, which is edges, paths and equal orders of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

NONE, MAX_POOL, AVG_POOL, SKIP, SEP3, SEP5, DIL3, DIL5 = range(8)
OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES = range(2, 6)
"""The intermediate nodes; nodes 0 and 1 are the inputs, the outputs of the two cells before."""
EDGES: tuple[tuple[int, int], ...] = tuple(
    (source, target) for target in NODES for source in range(target)
)
"""(source, target) of the 14 slots of a cell, node by node."""
INTO = tuple(
    tuple(slot for slot, (_, target) in enumerate(EDGES) if target == node) for node in NODES
)
"""The slots that lead into each node."""


def reductions(cells: int) -> set[int]:
    """Return which cells of a network halve the side: those at one and at two thirds."""
    return {cells // 3, 2 * cells // 3}


def paths() -> list[tuple[int, ...]]:
    """Return the slots of the 30 ways from an input to a node, all of which are output."""
    into: dict[int, list[tuple[int, ...]]] = {0: [()], 1: [()]}
    for slot, (source, target) in enumerate(EDGES):
        into.setdefault(target, []).extend((*path, slot) for path in into[source])
    return [path for node in NODES for path in into[node]]


def preceding(slot: int) -> int | None:
    """Return the slot into this slot's source from the node just before it."""
    source = EDGES[slot][0]
    return EDGES.index((source - 1, source)) if source in NODES else None


def _renumberings() -> list[dict[int, int]]:
    """Return, for each order of the nodes, where the edges that still lead forward go."""
    found = []
    for order in permutations(NODES):
        place = {0: 0, 1: 1, **dict(zip(NODES, order, strict=True))}
        moved = [(place[source], place[target]) for source, target in EDGES]
        found.append({slot: EDGES.index(edge) for slot, edge in enumerate(moved) if edge in EDGES})
    return found


_RENUMBERINGS = _renumberings()


def least(cell: Sequence[int]) -> tuple[int, ...]:
    """Return the least of the cells that differ from this one in their nodes' numbers only.

    Args:
        cell: an operation a slot, 0 on the edges that are not used.
    """
    used = [(slot, op) for slot, op in enumerate(cell) if op]
    forms = []
    for moved in _RENUMBERINGS:
        if all(slot in moved for slot, _ in used):
            form = [0] * len(EDGES)
            for slot, op in used:
                form[moved[slot]] = op
            forms.append(tuple(form))
    return min(forms)
