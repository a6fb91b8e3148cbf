"""Drawings of cells with many nodes: a vertical line a node, a row an operation.

As in a sequence diagram: an operation leaves the line of its source and arrives at the box of its
target, from which the target's own line begins. No two labels share a row, so a cell of eight
operations stays legible in 400 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

from metad2a._svg import FRAME, INK, LETTER, NODE, Edge, arrow, circle, gap, straight, text

WIDTH = 400
_MARGIN, _RADIUS, _BOX, _ROW, _SPACE = 38, 17, 15, 29, 14
_HEAD, _FOOT = 62, 40


def height(nodes: Sequence[str], edges: Sequence[Edge], inputs: int) -> int:
    """Return how high the drawing of one cell is, in pixels."""
    return _HEAD + _ROW * len(edges) + _SPACE * (len(nodes) - inputs + 1) + _FOOT


def cell(
    nodes: Sequence[str], edges: Sequence[Edge], inputs: int, heading: str, top: float
) -> list[str]:
    """Draw one cell whose output is the concatenation of its nodes.

    Args:
        nodes: names of at most four letters, in the order of the data flow, the inputs first.
        edges: the operations, in any order.
        inputs: how many of the nodes are inputs.
        heading: written above.
        top: where the drawing begins, in pixels from the upper rim.
    """
    step = (WIDTH - 2 * _MARGIN) / (len(nodes) - 1)
    columns = [_MARGIN + step * index for index in range(len(nodes))]
    foot = top + height(nodes, edges, inputs) - _FOOT
    lines, boxes, arrows = [], [], []
    ends = [top + _HEAD] * inputs
    y = top + _HEAD + _SPACE
    for node in range(inputs, len(nodes)):
        x = columns[node]
        into = sorted((e for e in edges if e.target == node), key=lambda edge: edge.source)
        tall = _ROW * len(into)
        for place, edge in enumerate(into):
            row = y + _ROW * (place + 0.5) + 4
            if edge.source < inputs:
                ends[edge.source] = max(ends[edge.source], row)
            arrows.append(_arrow(columns[edge.source], x - _BOX - 2, row, edge))
        boxes.append(
            f'<rect x="{x - _BOX:.1f}" y="{y:.1f}" width="{2 * _BOX}" height="{tall}" '
            f'rx="8" fill="{NODE}" stroke="{INK}" stroke-width="1.5"/>'
        )
        boxes.append(text((x, y + tall / 2 + 4.5), nodes[node], INK, 13))
        lines.append(_line(x, y + tall, foot))
        y += tall + _SPACE
    for index in range(inputs):
        x, start = columns[index], top + _HEAD - 10
        lines.append(_line(x, start, ends[index]))
        boxes.append(circle((x, start), _RADIUS))
        boxes.append(text((x, start + 4.5), nodes[index], INK, 13))
    left, right = columns[inputs] - _BOX, columns[-1] + _BOX
    boxes.append(
        f'<rect x="{left:.1f}" y="{foot:.1f}" width="{right - left:.1f}" height="26" '
        f'rx="8" fill="{NODE}" stroke="{INK}" stroke-width="1.5"/>'
    )
    boxes.append(text(((left + right) / 2, foot + 17.5), "out", INK, 13))
    return [
        text((_MARGIN - _RADIUS, top + 24), heading, INK, 15, 600, "start"),
        *lines,
        *arrows,
        *boxes,
    ]


def _line(x: float, start: float, end: float) -> str:
    return (
        f'<line x1="{x:.1f}" y1="{start:.1f}" x2="{x:.1f}" y2="{end:.1f}" stroke="{FRAME}" '
        'stroke-width="3"/>'
    )


def _arrow(start: float, end: float, row: float, edge: Edge) -> str:
    """Return an operation: its name above the end of its arrow, on paper of its own."""
    wide = len(edge.label) * LETTER
    return (
        gap(end - 6 - wide, row - 17, wide, 14)
        + f'<circle cx="{start:.1f}" cy="{row:.1f}" r="3.5" fill="{edge.colour}"/>'
        + arrow(straight((start, row), (end, row)), edge)
        + text((end - 6, row - 6), edge.label, edge.colour, 13, 600, "end")
    )
