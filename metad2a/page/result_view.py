"""The suggested networks, as HTML: a table, a chart, drawings, and past datasets like this one."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from metad2a.page.charts import Mark, trade_off
from metad2a.page.hints import glossary, hint

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.suggestion import Candidate

_DRAWN = 12
"""Networks drawn; the table has the others too."""


def result_view(result: Suggestions, k: int) -> str:
    """Return the best ``k`` networks of a result.

    Args:
        result: all networks that were compared, best first.
        k: how many are in the list; the others are faint dots in the chart.
    """
    listed = list(result[:k])
    measured = any(one.measured for one in listed)
    title = "Networks for your images" if not measured else "Networks, measured on your images"
    return (
        f'<section class="m2"><h2>{title}</h2>{_far(result)}{_lead(result, listed)}'
        f'<div class="pair">{_table(listed, measured)}{_chart(result, k, measured)}</div>'
        f"{glossary()}{_drawings(listed)}{_nearest(result)}</section>"
    )


def accuracy(one: Candidate) -> float:
    """Return what is known best of a network's accuracy: the measurement, where there is one."""
    return one.accuracy if one.measured is None else one.measured.accuracy


def _far(result: Suggestions) -> str:
    warning = result.neighbourhood.warning
    if warning is None:
        return ""
    return (
        '<div class="warning" role="note"><b>These images are unlike all that the model has '
        f"seen</b><p>{escape(warning)}</p></div>"
    )


def _lead(result: Suggestions, listed: Sequence[Candidate]) -> str:
    best = listed[0]
    low, high = best.interval
    if best.measured is not None:
        found = f"reached {best.measured.accuracy:.1f}\u00a0% here"
    else:
        found = f"is expected to reach {best.accuracy:.0f}\u00a0% ({low:.0f} to {high:.0f}\u00a0%)"
    limits = [
        f"at most {value:,} {name}"
        for value, name in (
            (result.limits.max_params, "parameters"),
            (result.limits.max_macs, "MACs"),
        )
        if value
    ]
    within = f", {' and '.join(limits)}" if limits else ""
    lowest = max(one.interval[0] for one in listed)
    close = (
        ""
        if best.measured or len(listed) == 1 or any(one.interval[1] < lowest for one in listed)
        else " The intervals of all that are listed overlap, so a smaller one may do as well."
    )
    done = "compared" if best.measured is None else "looked at"
    return (
        f'<p class="lead">Of {len(result):,} networks {done}{within}, the best {found} with '
        f"{_millions(best.params)} parameters.{close}</p>"
    )


def _table(listed: Sequence[Candidate], measured: bool) -> str:
    columns = ["", hint("Accuracy", "accuracy"), hint("Interval", "interval")]
    if measured:
        columns[1:] = [hint("Measured", "measured"), hint("Predicted", "interval")]
    rows = []
    for one in listed:
        span = f"{one.interval[0]:.0f}–{one.interval[1]:.0f} %"
        cells = [f"{one.accuracy:.1f} %", span]
        if measured:
            cells = ["–" if one.measured is None else f"{one.measured.accuracy:.1f} %", span]
        cells = [f"<b>{one.rank}</b>", *cells, _millions(one.params), _millions(one.macs)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    columns += [hint("Parameters", "parameters"), hint("MACs")]
    head = "".join(f"<th>{name}</th>" for name in columns)
    return (
        f'<div class="list card"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>{_protocols(listed)}</div>"
    )


def _protocols(listed: Sequence[Candidate]) -> str:
    """Say how accuracies were measured, and why their order may differ from the ranks."""
    found = [one.measured for one in listed if one.measured]
    if not found:
        return ""
    ways = "; ".join(dict.fromkeys(one.protocol for one in found))
    values = [one.accuracy for one in found]
    order = (
        ""
        if values == sorted(values, reverse=True)
        else " The ranks are the search's own, which looks at more than this accuracy."
    )
    return f'<p class="more">Measured by: {escape(ways)}.{order}</p>'


def _chart(result: Suggestions, k: int, measured: bool) -> str:
    listed = list(result[:k])
    marks = [
        Mark(one.rank, one.macs / 1e6, accuracy(one))
        for one in listed
        if one.measured is not None or not measured
    ]
    others = [] if measured else [(one.macs / 1e6, one.accuracy) for one in result[k:]]
    limit = None if result.limits.max_macs is None else result.limits.max_macs / 1e6
    words = "Numbers are ranks" + (", dots the other networks compared" if others else "")
    return (
        f'<figure class="card"><figcaption><b>Accuracy against work</b>{words}. The line is '
        f"the {hint('front')}.</figcaption>{trade_off(others, marks, limit)}</figure>"
    )


def _drawings(listed: Sequence[Candidate]) -> str:
    figures = "".join(
        f'<figure class="card"><figcaption><b>{one.rank}. {accuracy(one):.1f} %</b>'
        f"{_millions(one.params)} parameters, {_millions(one.macs)} MACs</figcaption>"
        f'{one.draw()}<p class="why">{escape(_sentence(one.reason))}</p></figure>'
        for one in listed[:_DRAWN]
    )
    return f'<h3>{hint("The cells", "cell")}</h3><div class="cells">{figures}</div>'


def _nearest(result: Suggestions) -> str:
    if not result.nearest:
        return ""
    cards = "".join(
        f'<figure class="card"><figcaption><b>{escape(one.name)}</b>Best there: '
        f"{one.best_accuracy:.1f} %. {hint('Distance', 'distance')}: {one.distance:.2f}"
        f"</figcaption>{_draw(result, one.best_architecture)}</figure>"
        for one in result.nearest
    )
    return (
        "<h3>Known datasets most like yours, and what won there</h3>"
        f'<div class="cells">{cards}</div>'
    )


def _draw(result: Suggestions, architecture: str) -> str:
    from metad2a.draw import svg
    from metad2a.spaces import SPACES

    return svg(SPACES.get(result[0].space), architecture)


def _millions(value: int) -> str:
    return f"{value / 1e6:.2f} M" if value < 1e7 else f"{value / 1e6:.0f} M"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
