"""The charts of the page and of the report, as SVG in the colours of the page around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from metad2a._axes import ticks

Point = tuple[float, float]
_TOP, _RIGHT, _BOTTOM, _LEFT = 16, 16, 48, 66
_NEAR = 15.0
"""Pixels below which two marks are drawn as one."""


@dataclass(frozen=True)
class Axes:
    """Two linear axes with round numbers, in a picture of a given size."""

    columns: Sequence[float]
    rows: Sequence[float]
    width: int = 460
    height: int = 300

    def place(self, x: float, y: float) -> Point:
        """Return where a point lies, in pixels; one beyond the axes lies on the edge."""
        (left, right), (low, high) = (ends[:: len(ends) - 1] for ends in (self.columns, self.rows))
        across = min(max((x - left) / (right - left), 0.0), 1.0)
        up = min(max((y - low) / (high - low), 0.0), 1.0)
        return (
            _LEFT + across * (self.width - _LEFT - _RIGHT),
            self.height - _BOTTOM - up * (self.height - _TOP - _BOTTOM),
        )

    def document(self, across: str, up: str, description: str, parts: Sequence[str]) -> str:
        """Return one ``<svg>`` element: grid, numbers, names of the axes, and the parts."""
        end, foot = self.width - _RIGHT, self.height - _BOTTOM
        grid = []
        for value in self.columns:
            x, _ = self.place(value, self.rows[0])
            grid.append(_text(x, foot + 17, f"{value:g}"))
        for value in self.rows:
            _, y = self.place(self.columns[0], value)
            grid.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{end}"/>')
            grid.append(_text(_LEFT - 8, y + 4, f"{value:g}", "end"))
        middle = (_TOP + foot) / 2
        names = [
            _text((_LEFT + end) / 2, self.height - 8, across, kind="name"),
            f'<g transform="rotate(-90 13 {middle:.0f})">{_text(13, middle, up, kind="name")}</g>',
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'class="chart" role="img" aria-label="{escape(description)}">'
            f"{''.join([*grid, *names, *parts])}</svg>"
        )


@dataclass(frozen=True)
class Mark:
    """A network in the chart of accuracy against cost."""

    rank: int
    macs: float
    """Millions."""
    accuracy: float
    """Percent."""


def trade_off(others: Sequence[Point], marks: Sequence[Mark], limit: float | None) -> str:
    """Draw accuracy against MACs: all networks faintly, the suggested ones with their ranks.

    Args:
        others: (millions of MACs, percent) of networks that are not in the list.
        marks: the networks of the list, at least one.
        limit: most MACs, millions.

    Returns:
        One ``<svg>`` element, with the front: the best accuracy to be had for so many MACs.
    """
    points = [*others, *((mark.macs, mark.accuracy) for mark in marks)]
    tall = [y for _, y in points]
    wide = [x for x, _ in points] + ([limit] if limit is not None else [])
    axes = Axes(ticks(0.0, 1.04 * max(wide)), ticks(min(tall), max(tall)))
    parts = []
    if limit is not None:
        x, _ = axes.place(limit, 0)
        parts.append(
            f'<rect class="beyond" x="{x:.1f}" y="{_TOP}" '
            f'width="{axes.width - _RIGHT - x:.1f}" '
            f'height="{axes.height - _TOP - _BOTTOM}"/>'
            f'<path class="limit" d="M{x:.1f} {_TOP}V{axes.height - _BOTTOM}"/>'
            + _text(x - 6, axes.height - _BOTTOM - 8, "your limit", "end")
        )
    dots = "".join("M{:.1f} {:.1f}h0".format(*axes.place(*point)) for point in others)
    parts.append(f'<path class="dots" d="{dots}"/>')
    steps = [axes.place(*point) for point in front(points)]
    line = "M{:.1f} {:.1f}".format(*steps[0]) + "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:])
    parts.append(f'<path class="front" d="{line}"/>')
    parts += [_pill(axes, group) for group in reversed(_together(axes, marks))]
    return axes.document(
        "millions of MACs (work for one image)",
        "accuracy, %",
        "Accuracy of the networks against the work that they take",
        parts,
    )


def _together(axes: Axes, marks: Sequence[Mark]) -> list[list[Mark]]:
    """Group marks that would hide one another, best first."""
    groups: list[list[Mark]] = []
    for mark in marks:
        x, y = axes.place(mark.macs, mark.accuracy)
        for group in groups:
            left, top = axes.place(group[0].macs, group[0].accuracy)
            if abs(x - left) < 2 * _NEAR and abs(y - top) < _NEAR:
                group.append(mark)
                break
        else:
            groups.append([mark])
    return groups


def _pill(axes: Axes, group: Sequence[Mark]) -> str:
    """Draw the ranks of a group at the place of its best."""
    x, y = axes.place(group[0].macs, group[0].accuracy)
    label = _ranks([mark.rank for mark in group])
    half = max(9.0, 3.6 * len(label) + 5)
    told = "; ".join(
        f"network {mark.rank}: {mark.accuracy:.1f} %, {mark.macs:,.0f} million MACs"
        for mark in group
    )
    return (
        f'<g><title>{escape(told)}</title><rect class="mark" x="{x - half:.1f}" '
        f'y="{y - 9:.1f}" width="{2 * half:.1f}" height="18" rx="9"/>'
        + _text(x, y + 4, label, kind="rank")
        + "</g>"
    )


def _ranks(ranks: Sequence[int]) -> str:
    """Write ranks shortly: 1–3, 5."""
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}–{run[-1]}" for run in runs)


def front(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats in both cost (first) and accuracy, by cost."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda one: (one[0], -one[1])):
        if not kept or point[1] > kept[-1][1]:
            kept.append(point)
    return kept


def curves(lines: Sequence[tuple[str, Sequence[Point]]], across: str, up: str) -> str:
    """Draw learning curves.

    Args:
        lines: a label, written at the end of the line, and its points, for each curve.
        across: name of the horizontal axis.
        up: name of the vertical axis.

    Returns:
        One ``<svg>`` element; an empty text where no curve has two points.
    """
    drawn = [(label, line) for label, line in lines if len(line) > 1]
    if not drawn:
        return ""
    xs, ys = zip(*(point for _, line in drawn for point in line), strict=True)
    axes = Axes(ticks(min(xs), max(xs)), ticks(min(ys), max(ys)), height=220)
    parts = []
    for number, (label, line) in enumerate(drawn):
        path = "L".join("{:.1f} {:.1f}".format(*axes.place(*point)) for point in line)
        x, y = axes.place(*line[-1])
        parts.append(
            f'<path class="line s{number % 5}" d="M{path}"/>'
            + _text(x - 4, y - 6, label, "end", "rank-plain")
        )
    return axes.document(across, up, f"{up} during the job", parts)


def bars(counts: Sequence[tuple[str, int]]) -> str:
    """Return class names with a bar and a number each, as HTML of the page's look."""
    most = max(count for _, count in counts)
    return (
        '<div class="bars">'
        + "".join(
            f'<span class="name" title="{escape(name)}">{escape(name)}</span>'
            f'<span class="bar"><i style="width:{100 * count / most:.1f}%"></i></span>'
            f'<span class="count">{count:,}</span>'
            for name, count in counts
        )
        + "</div>"
    )


def shares(rows: Sequence[tuple[str, float]]) -> str:
    """Return class names with the bar of a probability, 0 to 1, and its percent each, as HTML."""
    return (
        '<div class="bars">'
        + "".join(
            f'<span class="name" title="{escape(name)}">{escape(name)}</span>'
            f'<span class="bar"><i style="width:{100 * share:.1f}%"></i></span>'
            f'<span class="count">{100 * share:.1f} %</span>'
            for name, share in rows
        )
        + "</div>"
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
        f"{f' class={chr(34)}{kind}{chr(34)}' if kind else ''}>{escape(words)}</text>"
    )
