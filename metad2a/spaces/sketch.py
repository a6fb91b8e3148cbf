"""What a drawing of a network shows, before anything is drawn (``metad2a.draw``).

A space of cells sketches its cells, any other space a column of blocks from the images downwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.spaces.base import Architecture, WeightSharing

_NONE = "none"
_WORDS = {"skip_connect": "skip", "nor_conv_1x1": "conv 1×1", "nor_conv_3x3": "conv 3×3"}
_ONLY_POOL = {"avg_pool_3x3": "pool 3×3"}
"""The shorter name where there is no other pool."""


@dataclass(frozen=True)
class Connection:
    """An operation between two nodes, numbered in the order in which data flows."""

    source: int
    target: int
    label: str
    """What is written on it."""
    kind: int
    """Connections of one kind have one colour."""
    shown: bool = True
    """Whether it is drawn; one that is not still keeps its place free."""
    live: bool = True
    """Whether it is on a way from an input to the output."""


@dataclass(frozen=True)
class Cell:
    """One cell."""

    heading: str
    """What kind of cell it is; empty where there is one kind only."""
    nodes: tuple[str, ...]
    """Names of at most four letters, in the order of the data flow, the inputs first."""
    inputs: int
    """How many of the nodes are inputs."""
    edges: tuple[Connection, ...]
    stacked: bool
    """Whether the output is all nodes but the inputs, stacked; False: it is the last node."""


@dataclass(frozen=True)
class Block:
    """One of the blocks that follow one another."""

    group: str
    """What it is a part of, such as ``stage 2``; at most ten letters."""
    label: str
    """What it does; at most 18 letters."""
    output: str
    """What comes out of it; at most 18 letters."""
    size: float
    """How wide it is drawn, 0 to 1."""
    kind: int
    """Blocks of one kind have one colour."""


def connections(
    space: WeightSharing,
    architecture: Architecture,
    ends: Sequence[tuple[int, int]],
    first: int = 0,
) -> tuple[Connection, ...]:
    """Return the edges of the cell whose slots begin at ``first``.

    Args:
        space: of the architecture.
        architecture: one operation index per slot.
        ends: (source, target) of each slot of the cell.
        first: the cell's first slot.
    """
    passes = [space.operations[op] != _NONE for op in architecture]
    live = {slot for path in space.paths() if all(passes[s] for s in path) for slot in path}
    return tuple(
        Connection(
            source,
            target,
            _words(space, architecture[slot]),
            architecture[slot],
            shown=passes[slot],
            live=slot in live,
        )
        for slot, (source, target) in enumerate(ends, start=first)
    )


def _words(space: WeightSharing, operation: int) -> str:
    name = space.operations[operation]
    names = _WORDS if "max_pool_3x3" in space.operations else _WORDS | _ONLY_POOL
    return names.get(name, name.replace("_", " ").replace("3x3", "3×3").replace("5x5", "5×5"))
