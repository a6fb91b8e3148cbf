"""Drawings of networks as SVG, PNG or Mermaid.

A cell has named nodes and one labelled, coloured line an operation; a network of blocks is a column
of them, coloured by their kind. The picture brings its own background, so it reads the same on light and dark pages, and uses no
ids, scripts, fonts or files, so that many of them can stand in one page. Operations that lie on no
way from an input to the output are dashed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from metad2a import _column, _lifelines
from metad2a._files import write_file
from metad2a._mermaid import of_blocks, of_cells
from metad2a._svg import (
    COLOURS,
    INK,
    LETTER,
    Edge,
    Point,
    arrow,
    circle,
    document,
    gap,
    straight,
    text,
)
from metad2a.errors import InputError
from metad2a.spaces.base import Architecture, SearchSpace
from metad2a.spaces.sketch import Block, Cell

__all__ = ["FORMATS", "Drawing", "Edge", "draw_cell", "mermaid", "svg", "write"]

_STEP, _MARGIN, _RADIUS, _LANE = 112, 32, 17, 46
_ARROW = 8
_Curve = tuple[Point, Point, Point, Point]


class Drawing(str):
    """The text of one ``<svg>`` element, which a notebook shows as the picture that it is."""

    __slots__ = ()

    def _repr_svg_(self) -> str:
        return str(self)


def svg(space: SearchSpace, architecture: str | Architecture, title: str | None = None) -> Drawing:
    """Draw the cells or the blocks of an architecture.

    Args:
        space: the space that the architecture is of.
        architecture: its string or tuple form.
        title: a heading, written above; none by default.

    Returns:
        One ``<svg>`` element, legible from 400 px of width.

    Raises:
        InputError: the string is not of this space.
    """
    cells, blocks = _sketch(space, architecture)
    form = architecture if isinstance(architecture, str) else space.format(architecture)
    if cells and not cells[0].stacked:
        return Drawing(draw_cell(cells[0].nodes, _edges(cells[0]), title, form))
    top = 30 if title else 0
    parts = [text((_lifelines.WIDTH / 2, 24), title, INK, 15, 600)] if title else []
    if blocks:
        parts += _column.column(blocks, top)
        top += _column.height(blocks)
    for cell in cells:
        used = [edge for edge in _edges(cell) if edge.shown]
        parts += _lifelines.cell(cell.nodes, used, cell.inputs, cell.heading, top)
        top += _lifelines.height(cell.nodes, used, cell.inputs)
    told = f"{title}: {form}" if title else form
    return Drawing(document(_lifelines.WIDTH, top, told, parts))


def mermaid(space: SearchSpace, architecture: str | Architecture) -> str:
    """Return the cells or the blocks of an architecture as a Mermaid flowchart.

    The arguments and errors are those of :func:`svg`.
    """
    cells, blocks = _sketch(space, architecture)
    return of_cells(cells) if cells else of_blocks(blocks)


def _sketch(space: SearchSpace, architecture: str | Architecture) -> tuple[list[Cell], list[Block]]:
    """Return the cells and the blocks of an architecture, one of them empty."""
    found = space.sketch(
        space.parse(architecture) if isinstance(architecture, str) else architecture
    )
    return (
        [one for one in found if isinstance(one, Cell)],
        [one for one in found if isinstance(one, Block)],
    )


def _edges(cell: Cell) -> list[Edge]:
    return [
        Edge(e.source, e.target, e.label, COLOURS[e.kind % len(COLOURS)], e.shown, e.live)
        for e in cell.edges
    ]


def write(space: SearchSpace, architecture: str | Architecture, path: str | Path) -> None:
    """Write a drawing in the format that the file's name ends in.

    Args:
        space: the space that the architecture is of.
        architecture: its string or tuple form.
        path: ends in ``.svg``; ``.png``, which needs the extra ``png``; ``.mmd``; or ``.md``, a
            Mermaid drawing in a Markdown fence. The file is replaced whole or not at all.

    Raises:
        InputError: the ending is another one, a package is missing, or as :func:`svg`.
        ArtifactError: the file cannot be written.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        raise InputError(
            f"There is no drawing in the format {ending!r}; let the file's name end "
            f"in {', '.join(FORMATS)}."
        )
    write_file(path, FORMATS[ending](space, architecture))


def _png(space: SearchSpace, architecture: str | Architecture) -> bytes:
    from metad2a._png import png

    return png(svg(space, architecture))


FORMATS: dict[str, Callable[[SearchSpace, str | Architecture], bytes]] = {
    ".svg": lambda space, architecture: svg(space, architecture).encode(),
    ".png": _png,
    ".mmd": lambda space, architecture: mermaid(space, architecture).encode(),
    ".md": lambda space, architecture: f"```mermaid\n{mermaid(space, architecture)}```\n".encode(),
}
"""What a file's name may end in."""


def draw_cell(
    nodes: Sequence[str],
    edges: Sequence[Edge],
    title: str | None = None,
    description: str = "cell",
) -> str:
    """Draw any acyclic cell.

    Args:
        nodes: names, at most four letters each, in the order of the data flow.
        edges: the operations. Neighbours are joined by a straight line, all others by arcs in
            lanes above and below, so that no two lines run over each other.
        title: a heading; none by default.
        description: what a screen reader says.

    Returns:
        One ``<svg>`` element.
    """
    lanes = _lanes(edges)
    above, below = max([0, *lanes]), -min([0, *lanes])
    head = 30 if title else 0
    axis = head + 26 + max(above, 0.4) * _LANE
    longest = max((len(edge.label) for edge in edges), default=0)
    step = max(_STEP, round(longest * LETTER) + 2 * _RADIUS + 2 * _ARROW)
    width = 2 * _MARGIN + step * (len(nodes) - 1)
    height = axis + 26 + max(below, 0.4) * _LANE
    centres = [(float(_MARGIN + step * i), axis) for i in range(len(nodes))]
    parts = [text((width / 2, 24), title, INK, 15, 600)] if title else []
    pairs = [(edge, lane) for edge, lane in zip(edges, lanes, strict=True) if edge.shown]
    curves = [_curve(centres[e.source], centres[e.target], lane) for e, lane in pairs]
    # Labels come after all lines, so that no line crosses one.
    for (edge, _), curve in zip(pairs, curves, strict=True):
        parts.append(arrow(curve, edge))
    for (edge, lane), curve in zip(pairs, curves, strict=True):
        parts.append(_label(_middle(curve), edge, on_line=lane != 0))
    for (x, y), name in zip(centres, nodes, strict=True):
        parts.append(circle((x, y), _RADIUS))
        parts.append(text((x, y + 4.5), name, INK, 13))
    return document(width, height, f"{title}: {description}" if title else description, parts)


def _lanes(edges: Sequence[Edge]) -> list[int]:
    """Return the lane of each edge: 0 straight, 1, 2, ... above, -1, -2, ... below.

    Short arcs choose first and stay near the row; each takes the nearest lane in which it meets
    no other, above where both sides are as good. A lane is taken on both sides of its arc's span.
    """
    lanes = [0] * len(edges)
    taken: dict[int, list[tuple[int, int]]] = {}
    for index in sorted(range(len(edges)), key=lambda i: edges[i].target - edges[i].source):
        start, end = edges[index].source, edges[index].target
        lane, straight = 0, end - start == 1
        while (lane == 0 and not straight) or any(
            start < b and a < end for a, b in taken.get(lane, [])
        ):
            lane = 1 - lane if lane <= 0 else -lane
        lanes[index] = lane
        taken.setdefault(lane, []).append((start, end))
    return lanes


def _curve(source: Point, target: Point, lane: int) -> _Curve:
    """Return the control points of a cubic curve from the rim of one node to that of another."""
    if lane == 0:
        return straight((source[0] + _RADIUS, source[1]), (target[0] - _RADIUS - 2, source[1]))
    # Higher arcs leave and arrive more steeply, so that they do not touch the lower ones.
    angle = math.radians(40 + 22 * min(abs(lane) - 1, 2))
    side = -1 if lane > 0 else 1
    dx, dy = _RADIUS * math.cos(angle), side * _RADIUS * math.sin(angle)
    gap = 1 + 2 / _RADIUS
    first = (source[0] + dx, source[1] + dy)
    last = (target[0] - dx * gap, target[1] + dy * gap)
    # A cubic reaches 3/4 of the height of its control points.
    top = source[1] + side * (abs(lane) * _LANE - (abs(dy) / 4)) * 4 / 3
    lean = (top - first[1]) / math.tan(angle) * side
    lean = min(lean, (last[0] - first[0]) / 2)
    return first, (first[0] + lean, top), (last[0] - lean, top), last


def _middle(curve: _Curve) -> Point:
    a, b, c, d = curve
    return (a[0] + 3 * b[0] + 3 * c[0] + d[0]) / 8, (a[1] + 3 * b[1] + 3 * c[1] + d[1]) / 8


def _label(place: Point, edge: Edge, on_line: bool) -> str:
    """Return an edge's name: above a straight line, in a gap of an arc."""
    x, y = place
    if not on_line:
        return text((x, y - 7), edge.label, edge.colour, 13, 600)
    half = len(edge.label) * LETTER / 2 + 3
    paper = gap(x - half, y - 9, 2 * half, 18) if edge.label else ""
    return paper + text((x, y + 4.5), edge.label, edge.colour, 13, 600)
