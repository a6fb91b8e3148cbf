"""Drawings of cells as SVG: nodes in a row, one labelled, coloured curve an operation.

The picture brings its own background, so it reads the same on light and dark pages, and uses no
ids, scripts, fonts or files, so that many of them can stand in one page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from metad2a.errors import InputError
from metad2a.spaces.base import Architecture, SearchSpace

_STEP, _MARGIN, _RADIUS, _LANE = 112, 32, 17, 46
_ARROW, _LETTER = 8, 7.8
_INK, _PAPER, _FRAME, _NODE = "#1f2933", "#ffffff", "#d5dae1", "#eef1f5"
# Okabe and Ito's colours, told apart by colour-blind eyes too, darkened until text in them reads
# on white (contrast 4.5 or more); by the operation's index in its space.
_COLOURS = (
    "#6b7280", "#5f6b7a", "#00795a", "#0062a8", "#b34a00", "#97477a", "#7a6200", "#1f2933",
)
_WORDS = {
    "skip_connect": "skip",
    "nor_conv_1x1": "conv 1×1",
    "nor_conv_3x3": "conv 3×3",
    "avg_pool_3x3": "pool 3×3",
}
_Point = tuple[float, float]


@dataclass(frozen=True)
class Edge:
    """An operation between two nodes, numbered in the order in which data flows."""

    source: int
    target: int
    label: str
    """What is written on it."""
    colour: str
    """A CSS colour."""
    shown: bool = True
    """Whether it is drawn; an edge that is not still keeps its place free."""


def svg(space: SearchSpace, architecture: str | Architecture, title: str | None = None) -> str:
    """Draw the cell of an architecture.

    Args:
        space: the space that the architecture is of.
        architecture: its string or tuple form.
        title: a heading, written above the cell; none by default.

    Returns:
        One ``<svg>`` element, legible from 400 px of width.

    Raises:
        InputError: the string is not of this space, or the space has no drawing.
    """
    if space.name != "nasbench201":
        raise InputError(f"There is no drawing of the space {space.name!r}; of 'nasbench201' only.")
    from metad2a.spaces.nasbench201 import EDGES, NONE

    cell = space.parse(architecture) if isinstance(architecture, str) else architecture
    edges = [
        Edge(source, target, _words(space, op), _COLOURS[op % len(_COLOURS)], shown=op != NONE)
        for (source, target), op in zip(EDGES, cell, strict=True)
    ]
    return draw_cell(("in", "1", "2", "out"), edges, title, description=space.format(cell))


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
    step = max(_STEP, round(longest * _LETTER) + 2 * _RADIUS + 2 * _ARROW)
    width = 2 * _MARGIN + step * (len(nodes) - 1)
    height = axis + 26 + max(below, 0.4) * _LANE
    centres = [(float(_MARGIN + step * i), axis) for i in range(len(nodes))]
    parts = [
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1:.0f}" rx="8" '
        f'fill="{_PAPER}" stroke="{_FRAME}"/>'
    ]
    if title:
        parts.append(_text((width / 2, 24), title, _INK, 15, 600))
    pairs = [(edge, lane) for edge, lane in zip(edges, lanes, strict=True) if edge.shown]
    curves = [_curve(centres[e.source], centres[e.target], lane) for e, lane in pairs]
    # Labels come after all lines, so that no line crosses one.
    for (edge, _), curve in zip(pairs, curves, strict=True):
        parts.append(_line(curve, edge.colour))
    for (edge, lane), curve in zip(pairs, curves, strict=True):
        parts.append(_label(_middle(curve), edge, on_line=lane != 0))
    for (x, y), name in zip(centres, nodes, strict=True):
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{_RADIUS}" fill="{_NODE}" '
                     f'stroke="{_INK}" stroke-width="1.5"/>')
        parts.append(_text((x, y + 4.5), name, _INK, 13))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="{escape(f"{title}: {description}" if title else description)}" '
        f'font-family="system-ui, sans-serif">{"".join(parts)}</svg>'
    )


def _words(space: SearchSpace, operation: int) -> str:
    name = space.operations[operation]
    return _WORDS.get(name, name.replace("_", " "))


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


def _curve(source: _Point, target: _Point, lane: int) -> tuple[_Point, _Point, _Point, _Point]:
    """Return the control points of a cubic curve from the rim of one node to that of another."""
    if lane == 0:
        start, end = source[0] + _RADIUS, target[0] - _RADIUS - 2
        third = (end - start) / 3
        y = source[1]
        return (start, y), (start + third, y), (end - third, y), (end, y)
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


def _middle(curve: tuple[_Point, _Point, _Point, _Point]) -> _Point:
    a, b, c, d = curve
    return (a[0] + 3 * b[0] + 3 * c[0] + d[0]) / 8, (a[1] + 3 * b[1] + 3 * c[1] + d[1]) / 8


def _line(curve: tuple[_Point, _Point, _Point, _Point], colour: str) -> str:
    """Return the curve with an arrow head; a polygon, as a marker would need an id."""
    a, b, c, tip = curve
    angle = math.atan2(tip[1] - c[1], tip[0] - c[0])
    wings = [
        (tip[0] - _ARROW * math.cos(angle + turn), tip[1] - _ARROW * math.sin(angle + turn))
        for turn in (0.45, -0.45)
    ]
    neck = ((wings[0][0] + wings[1][0]) / 2, (wings[0][1] + wings[1][1]) / 2)
    path = "M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}".format(*a, *b, *c, *neck)
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (tip, *wings))
    return (
        f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.2"/>'
        f'<polygon points="{head}" fill="{colour}"/>'
    )


def _label(place: _Point, edge: Edge, on_line: bool) -> str:
    """Return an edge's name: above a straight line, in a gap of an arc."""
    x, y = place
    if not on_line:
        return _text((x, y - 7), edge.label, edge.colour, 13, 600)
    half = len(edge.label) * _LETTER / 2 + 3
    gap = (
        f'<rect x="{x - half:.1f}" y="{y - 9:.1f}" width="{2 * half:.1f}" height="18" '
        f'fill="{_PAPER}"/>'
    )
    return (gap if edge.label else "") + _text((x, y + 4.5), edge.label, edge.colour, 13, 600)


def _text(place: _Point, text: str, colour: str, size: int, weight: int = 400) -> str:
    x, y = place
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(text)}</text>'
    )
