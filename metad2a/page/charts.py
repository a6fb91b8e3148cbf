"""The charts of the page and of the report, as SVG in the colours of the page around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from metad2a._axes import ticks

Point = tuple[float, float]
_TOP, _RIGHT, _BOTTOM, _LEFT = 16, 16, 48, 66
_NEAR = 15.0
"""Pixels below which two marks are drawn as one."""
_LEAST_SPAN = 20.0
"""Points of accuracy that the vertical axis holds at least: less would magnify noise."""


@dataclass(frozen=True)
class Axes:
    """Two linear axes with round numbers, in a picture of a given size."""

    columns: Sequence[float]
    rows: Sequence[float]
    width: int = 460
    height: int = 300
    names: Sequence[str] = ()
    """What is written below the columns; empty: their numbers."""

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
        names = self.names or [f"{value:g}" for value in self.columns]
        for value, name in zip(self.columns, names, strict=True):
            x, _ = self.place(value, self.rows[0])
            grid.append(_text(x, foot + 17, name))
        for value in self.rows:
            _, y = self.place(self.columns[0], value)
            grid.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{end}"/>')
            grid.append(_text(_LEFT - 8, y + 4, f"{value:g}", "end"))
        middle = (_TOP + foot) / 2
        titles = [
            _text((_LEFT + end) / 2, self.height - 8, across, kind="name"),
            f'<g transform="rotate(-90 13 {middle:.0f})">{_text(13, middle, up, kind="name")}</g>',
        ]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" '
            f'class="chart" role="img" aria-label="{escape(description)}">'
            f"{''.join([*grid, *titles, *parts])}</svg>"
        )


@dataclass(frozen=True)
class Mark:
    """A network in the chart of accuracy against cost."""

    rank: int
    macs: float
    """Millions."""
    accuracy: float
    """Percent."""
    interval: tuple[float, float] | None = None
    """Its bounds, percent; None: the accuracy was measured."""


def trade_off(others: Sequence[Point], marks: Sequence[Mark], limit: float | None) -> str:
    """Draw accuracy against MACs: all networks faintly, the suggested ones with their ranks.

    The vertical axis holds the intervals and at least :data:`_LEAST_SPAN` points, so that what is
    noise looks like it; the horizontal one is logarithmic, as costs differ by factors.

    Args:
        others: (millions of MACs, percent) of networks that are not in the list.
        marks: the networks of the list, at least one.
        limit: most MACs, millions.

    Returns:
        One ``<svg>`` element, with the front: the best accuracy to be had for so many MACs.
    """
    points = [*others, *((mark.macs, mark.accuracy) for mark in marks)]
    ends = [end for mark in marks for end in mark.interval or ()]
    costs = _decades([x for x, _ in points] + ([limit] if limit is not None else []))
    axes = Axes(
        [math.log10(cost) for cost in costs],
        ticks(*_span([*ends, *(y for _, y in points)])),
        names=[f"{cost:g}" for cost in costs],
    )

    def place(macs: float, accuracy: float) -> Point:
        return axes.place(math.log10(macs), accuracy)

    parts = []
    if limit is not None:
        x, _ = place(limit, 0)
        parts.append(
            f'<rect class="beyond" x="{x:.1f}" y="{_TOP}" '
            f'width="{axes.width - _RIGHT - x:.1f}" '
            f'height="{axes.height - _TOP - _BOTTOM}"/>'
            f'<path class="limit" d="M{x:.1f} {_TOP}V{axes.height - _BOTTOM}"/>'
            + _text(x - 6, axes.height - _BOTTOM - 8, "your limit", "end")
        )
    dots = "".join("M{:.1f} {:.1f}h0".format(*place(*point)) for point in others)
    parts.append(f'<path class="dots" d="{dots}"/>')
    groups = _together(place, marks)
    for first, *_ in groups:
        if first.interval is not None:
            (x, low), (_, high) = (place(first.macs, end) for end in first.interval)
            parts.append(
                f'<path class="interval" d="M{x:.1f} {low:.1f}V{high:.1f}'
                f'M{x - 5:.1f} {low:.1f}h10M{x - 5:.1f} {high:.1f}h10"/>'
            )
    steps = [place(*point) for point in front(points)]
    line = "M{:.1f} {:.1f}".format(*steps[0]) + "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:])
    parts.append(f'<path class="front" d="{line}"/>')
    parts += [_pill(place(group[0].macs, group[0].accuracy), group) for group in reversed(groups)]
    return axes.document(
        "millions of MACs (work for one picture)",
        "accuracy, %",
        "Accuracy of the networks against the work that they take",
        parts,
    )


def _span(values: Sequence[float]) -> Point:
    """Return the ends of an axis of percents that holds all values and no less than its least."""
    low, high = min(values), max(values)
    missing = max(0.0, _LEAST_SPAN - (high - low)) / 2
    low, high = low - missing, high + missing
    over, under = max(0.0, high - 100), max(0.0, -low)
    return max(0.0, low - over), min(100.0, high + under)


def _decades(costs: Sequence[float]) -> list[float]:
    """Return 1, 2, 5, 10, ... around costs, two at least."""
    steps = [
        round(factor * 10.0**power, 6)
        for power in range(
            math.floor(math.log10(min(costs))), math.ceil(math.log10(max(costs))) + 1
        )
        for factor in (1, 2, 5)
    ]
    first = max(index for index, step in enumerate(steps) if step <= min(costs))
    last = min(index for index, step in enumerate(steps) if step >= max(costs))
    return steps[first : max(last, first + 1) + 1]


def _together(place: Callable[[float, float], Point], marks: Sequence[Mark]) -> list[list[Mark]]:
    """Group marks that would hide one another, best first."""
    groups: list[list[Mark]] = []
    for mark in marks:
        x, y = place(mark.macs, mark.accuracy)
        for group in groups:
            left, top = place(group[0].macs, group[0].accuracy)
            if abs(x - left) < 2 * _NEAR and abs(y - top) < _NEAR:
                group.append(mark)
                break
        else:
            groups.append([mark])
    return groups


def _pill(at: Point, group: Sequence[Mark]) -> str:
    """Draw the ranks of a group at the place of its best."""
    x, y = at
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


def curves(
    lines: Sequence[tuple[str, Sequence[Point]]], across: str, up: str, percent: bool = True
) -> str:
    """Draw learning curves.

    Args:
        lines: a label, written at the end of the line, and its points, for each curve.
        across: name of the horizontal axis.
        up: name of the vertical axis.
        percent: whether that is of percents, whose noise is not to be magnified.

    Returns:
        One ``<svg>`` element; an empty text where no curve has two points.
    """
    drawn = [(label, line) for label, line in lines if len(line) > 1]
    if not drawn:
        return ""
    xs, ys = zip(*(point for _, line in drawn for point in line), strict=True)
    ends = _span(ys) if percent else (min(ys), max(ys))
    axes = Axes(ticks(min(xs), max(xs)), ticks(*ends), height=220)
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
