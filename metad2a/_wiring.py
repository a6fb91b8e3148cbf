"""Cells as drawings have them: named nodes, labelled operations, and which of them are used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metad2a._svg import COLOURS, Edge
from metad2a.errors import InputError
from metad2a.spaces.base import Architecture, SearchSpace

_WORDS = {"skip_connect": "skip", "nor_conv_1x1": "conv 1×1", "nor_conv_3x3": "conv 3×3"}
_ONLY_POOL = {"avg_pool_3x3": "pool 3×3"}
"""The shorter name where there is no other pool."""
_NONE = "none"


@dataclass(frozen=True)
class Wiring:
    """One cell."""

    heading: str
    """What kind of cell it is; empty where there is one kind only."""
    nodes: tuple[str, ...]
    """Names of at most four letters, in the order of the data flow, the inputs first."""
    inputs: int
    """How many of the nodes are inputs."""
    edges: tuple[Edge, ...]
    stacked: bool
    """Whether the output is all nodes but the inputs, stacked; False: it is the last node."""


def wirings(space: SearchSpace, architecture: str | Architecture) -> list[Wiring]:
    """Return the cells of an architecture.

    Args:
        space: the space that the architecture is of.
        architecture: its string or tuple form.

    Raises:
        InputError: the string is not of this space, or the space has no drawing.
    """
    if space.name not in _CELLS:
        raise InputError(
            f"There is no drawing of the space {space.name!r}; of "
            f"{' and '.join(map(repr, _CELLS))} only."
        )
    slots = space.parse(architecture) if isinstance(architecture, str) else architecture
    return _CELLS[space.name](space, slots)


def live_slots(space: SearchSpace, architecture: Architecture) -> set[int]:
    """Return the slots that lie on a way from an input to the output."""
    ways = [
        path
        for path in space.paths()
        if all(space.operations[architecture[slot]] != _NONE for slot in path)
    ]
    return {slot for path in ways for slot in path}


def _nasbench201(space: SearchSpace, cell: Architecture) -> list[Wiring]:
    from metad2a.spaces.nasbench201 import EDGES

    edges = _edges(space, cell, EDGES, 0)
    return [Wiring("", ("in", "1", "2", "out"), 1, edges, stacked=False)]


def _darts(space: SearchSpace, cells: Architecture) -> list[Wiring]:
    from metad2a.spaces._darts_cell import EDGES

    return [
        Wiring(
            heading,
            ("k−2", "k−1", "0", "1", "2", "3"),
            2,
            _edges(space, cells, EDGES, first),
            stacked=True,
        )
        for heading, first in (("normal cell", 0), ("reduction cell", len(EDGES)))
    ]


_CELLS = {"nasbench201": _nasbench201, "darts": _darts}


def _edges(
    space: SearchSpace, architecture: Architecture, ends: Sequence[tuple[int, int]], first: int
) -> tuple[Edge, ...]:
    """Return the edges of the cell whose slots begin at ``first``."""
    live = live_slots(space, architecture)
    return tuple(
        Edge(
            source,
            target,
            _words(space, architecture[slot]),
            COLOURS[architecture[slot] % len(COLOURS)],
            shown=space.operations[architecture[slot]] != _NONE,
            live=slot in live,
        )
        for slot, (source, target) in enumerate(ends, start=first)
    )


def _words(space: SearchSpace, operation: int) -> str:
    name = space.operations[operation]
    names = _WORDS if "max_pool_3x3" in space.operations else _WORDS | _ONLY_POOL
    return names.get(name, name.replace("_", " ").replace("3x3", "3×3").replace("5x5", "5×5"))
