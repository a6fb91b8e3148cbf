"""Charts as SVG for a page that styles them: see ``STYLE``.

All marks of a series are one path, so that a chart of thousands of points stays small. Colours come
from the page, which has a light and a dark set of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from metad2a._axes import ticks

WIDTH, HEIGHT = 380, 260
COLOURS = 8
"""Series beyond so many begin again with the first colour."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 40
_LIGHT = ("#0062a8", "#b34a00", "#00795a", "#97477a", "#7a6200", "#5f6b7a", "#5a4fcf", "#a12c2c")
_DARK = ("#6db3f2", "#f0a35e", "#4fc9a4", "#dd8fc0", "#d6bb4a", "#a9b4c2", "#a79ff5", "#f08585")


def _palette(colours: Sequence[str]) -> str:
    return "".join(f"--c{number}:{colour};" for number, colour in enumerate(colours))


STYLE = f"""
:root {{ --ink:#1f2933; --soft:#5b6673; --paper:#ffffff; --line:#d5dae1; --wash:#f4f6f9;
  --agree:#0062a8; --oppose:#b34a00; {_palette(_LIGHT)} color-scheme: light dark; }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink:#e6eaf0; --soft:#a9b4c2; --paper:#14181d;
  --line:#39424d; --wash:#1d232a; --agree:#6db3f2; --oppose:#f0a35e; {_palette(_DARK)} }} }}
svg {{ display:block; width:100%; height:auto; }}
svg text {{ fill:var(--soft); font:12px system-ui, sans-serif; }}
svg .grid {{ stroke:var(--line); stroke-width:1; fill:none; }}
svg .dots {{ fill:none; stroke-width:5; stroke-linecap:round; stroke-opacity:.55; }}
svg .lines {{ fill:none; stroke-width:1.6; stroke-linejoin:round; stroke-opacity:.6; }}
svg .ring {{ fill:none; stroke:var(--ink); stroke-width:1.8; }}
""" + "".join(
    f".c{number} {{ stroke:var(--c{number}); background:var(--c{number}); }}\n"
    for number in range(COLOURS)
)
"""CSS of the charts and of the colours that the page shares with them."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Series:
    """Curves of one colour; one of dots is a curve of one point each."""

    colour: int
    curves: Sequence[Sequence[Point]]


def chart(
    series: Sequence[Series], across: str, up: str, description: str, mark: Point | None = None
) -> str:
    """Draw points and curves over two linear axes.

    Args:
        series: what to draw; at least one point in all.
        across: name of the horizontal axis, with its unit.
        up: name of the vertical axis, with its unit.
        description: what a screen reader says.
        mark: a point with a ring around it.

    Returns:
        One ``<svg>`` element, to be styled by :data:`STYLE`.
    """
    points = [point for one in series for curve in one.curves for point in curve]
    columns, rows = (ticks(min(axis), max(axis)) for axis in zip(*points, strict=True))

    def place(point: Point) -> Point:
        x = (point[0] - columns[0]) / (columns[-1] - columns[0])
        y = (point[1] - rows[0]) / (rows[-1] - rows[0])
        return (
            _LEFT + x * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - y * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = []
    for value in columns:
        x, _ = place((value, rows[0]))
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
        parts.append(_text(x, HEIGHT - _BOTTOM + 16, f"{value:g}"))
    for value in rows:
        _, y = place((columns[0], value))
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:g}", "end"))
    parts.append(_text((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 6, across))
    middle = (_TOP + HEIGHT - _BOTTOM) / 2
    parts.append(_text(13, middle, up, rest=f' transform="rotate(-90 13 {middle:.0f})"'))
    for one in series:
        dots = [curve[0] for curve in one.curves if len(curve) == 1]
        lines = [curve for curve in one.curves if len(curve) > 1]
        colour = f"c{one.colour % COLOURS}"
        if dots:
            path = "".join("M{:.1f} {:.1f}h0".format(*place(dot)) for dot in dots)
            parts.append(f'<path class="dots {colour}" d="{path}"/>')
        if lines:
            path = "".join(
                "M" + "L".join("{:.1f} {:.1f}".format(*place(p)) for p in curve) for curve in lines
            )
            parts.append(f'<path class="lines {colour}" d="{path}"/>')
    if mark is not None:
        parts.append('<circle class="ring" cx="{:.1f}" cy="{:.1f}" r="6"/>'.format(*place(mark)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(description)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", rest: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{rest}>{escape(words)}</text>'
