"""What drawings are made of: one palette, text, arrows and the frame around them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

INK, PAPER, FRAME, NODE = "#1f2933", "#ffffff", "#d5dae1", "#eef1f5"
# Okabe and Ito's colours, told apart by colour-blind eyes too, darkened until text in them reads
# on white (contrast 4.5 or more); by the operation's index in its space.
COLOURS = (
    "#6b7280",
    "#5f6b7a",
    "#00795a",
    "#0062a8",
    "#b34a00",
    "#97477a",
    "#7a6200",
    "#1f2933",
)
LETTER = 7.8
"""Width of a letter of an edge's name, pixels."""
_HEAD = 8
Point = tuple[float, float]


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
    live: bool = True
    """Whether it is on a way from an input to the output; drawn in dashes where it is not."""


def document(width: float, height: float, description: str, parts: Sequence[str]) -> str:
    """Return one ``<svg>`` element of a frame and the parts in it; lengths in pixels."""
    frame = (
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1:.0f}" rx="8" '
        f'fill="{PAPER}" stroke="{FRAME}"/>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" '
        f'width="{width}" height="{height:.0f}" style="max-width:100%;height:auto" role="img" '
        f'aria-label="{escape(description)}" '
        f'font-family="system-ui, sans-serif">{frame}{"".join(parts)}</svg>'
    )


def text(
    place: Point, words: str, colour: str, size: int, weight: int = 400, anchor: str = "middle"
) -> str:
    """Return words whose baseline is centred at, starts at or ends at a place."""
    x, y = place
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{colour}">{escape(words)}</text>'
    )


def circle(place: Point, radius: float) -> str:
    """Return the outline of a node."""
    x, y = place
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{radius}" fill="{NODE}" '
        f'stroke="{INK}" stroke-width="1.5"/>'
    )


def gap(left: float, top: float, width: float, height: float) -> str:
    """Return paper to write on, over the lines that are there."""
    return (
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.0f}" '
        f'fill="{PAPER}"/>'
    )


def arrow(curve: tuple[Point, Point, Point, Point], edge: Edge) -> str:
    """Return a cubic curve with a head at its end; a polygon, as a marker would need an id."""
    a, b, c, tip = curve
    angle = math.atan2(tip[1] - c[1], tip[0] - c[0])
    wings = [
        (tip[0] - _HEAD * math.cos(angle + turn), tip[1] - _HEAD * math.sin(angle + turn))
        for turn in (0.45, -0.45)
    ]
    neck = ((wings[0][0] + wings[1][0]) / 2, (wings[0][1] + wings[1][1]) / 2)
    path = "M{:.1f} {:.1f}C{:.1f} {:.1f} {:.1f} {:.1f} {:.1f} {:.1f}".format(*a, *b, *c, *neck)
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (tip, *wings))
    dashes = "" if edge.live else ' stroke-dasharray="4 4"'
    return (
        f'<path d="{path}" fill="none" stroke="{edge.colour}" stroke-width="2.2"{dashes}/>'
        f'<polygon points="{head}" fill="{edge.colour}"/>'
    )


def straight(start: Point, end: Point) -> tuple[Point, Point, Point, Point]:
    """Return the control points of a straight line."""
    (x0, y0), (x1, y1) = start, end
    third = ((x1 - x0) / 3, (y1 - y0) / 3)
    return start, (x0 + third[0], y0 + third[1]), (x1 - third[0], y1 - third[1]), end
