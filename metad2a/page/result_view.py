"""The suggested networks, as HTML: a table, a chart, past datasets like this one, and a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from metad2a.page.charts import Mark, trade_off
from metad2a.page.hints import glossary, hint
from metad2a.result import FRONT

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.suggestion import Candidate

_NAMED, _LONG = 30, 60
"""Classes that are named, and letters of a name."""


def result_view(result: Suggestions, k: int, searched: bool = False) -> str:
    """Return the best ``k`` networks of a result.

    Args:
        result: all networks that were compared, best first.
        k: how many are in the list; the others are faint dots in the chart.
        searched: whether a check or a refinement has put what it measured at the head of the list.
    """
    listed = list(result[:k])
    title = "Networks, measured on your images" if searched else "Networks for your images"
    return (
        f'<section class="m2"><h2>{title}</h2>{_warnings(result)}'
        f"{_lead(result, listed)}"
        f'<div class="pair wide">{_table(result, listed, searched)}{_chart(result, k)}</div>'
        f"{_offered(result, listed)}{_classes(result)}{glossary()}{_nearest(result)}</section>"
    )


def drawing_view(result: Suggestions, rank: int) -> str:
    """Return one network of the list, drawn, with why it is there; its row is marked."""
    one = result[rank - 1]
    return (
        f'<style>.m2 tr[data-rank="{rank}"] td {{ background:var(--accent-soft) !important; }}'
        '</style><div class="m2"><figure class="card drawn"><figcaption>'
        f"<b>Network {rank}: {accuracy(one):.1f}\u00a0%</b>{_size(one)}</figcaption>{one.draw()}"
        f'<p class="why">{escape(_sentence(one.reason))}</p>'
        f'<p class="why"><code>{escape(one.architecture)}</code></p></figure></div>'
    )


def accuracy(one: Candidate) -> float:
    """Return what is known best of a network's accuracy: the measurement, where there is one."""
    return one.accuracy if one.measured is None else one.measured.accuracy


def _alike(result: Suggestions) -> bool:
    """Whether networks are measured as their accuracies are predicted, so that both compare."""
    return result.answers.space.pretrained


def _warnings(result: Suggestions) -> str:
    far = None if result.neighbourhood is None else result.neighbourhood.warning
    told = [
        ("These images are unlike all that the model has seen", far),
        ("To be known", result.note),
    ]
    return "".join(
        f'<div class="warning" role="note"><b>{title}</b><p>{escape(words)}</p></div>'
        for title, words in told
        if words
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
    within = f" with {' and '.join(limits)}" if limits else ""
    lowest = max(one.interval[0] for one in listed)
    close = (
        ""
        if best.measured or len(listed) == 1 or any(one.interval[1] < lowest for one in listed)
        else " The intervals of all that are listed overlap, so a smaller one may do as well."
    )
    return (
        f'<p class="lead">The best{within} {found}; it has {_millions(best.params)} parameters '
        f"and sees pictures of {best.resolution}\u00a0px.{close}</p>"
    )


def _table(result: Suggestions, listed: Sequence[Candidate], searched: bool) -> str:
    measured = any(one.measured for one in listed)
    columns = ["", hint("Accuracy", "accuracy"), hint("Interval", "interval")]
    if measured:
        columns[1:] = [hint("Measured", "measured"), hint("Predicted", "interval")]
    columns += [hint("Resolution", "resolution"), hint("Parameters", "parameters"), hint("MACs")]
    rows = []
    for one in listed:
        span = f"{one.interval[0]:.0f}–{one.interval[1]:.0f} %"
        cells = [f"{one.accuracy:.1f} %", span]
        if measured:
            cells = ["–" if one.measured is None else f"{one.measured.accuracy:.1f} %", span]
        cells = [
            f"<b>{one.rank}</b>",
            *cells,
            f"{one.resolution} px",
            _millions(one.params),
            _millions(one.macs),
        ]
        inner = "".join(f"<td>{cell}</td>" for cell in cells)
        rows.append(f'<tr data-rank="{one.rank}">{inner}</tr>')
    head = "".join(f"<th>{name}</th>" for name in columns)
    meaning = escape(result.answers.meaning()).replace("`", "")
    return (
        f'<div class="list card"><table><thead><tr>{head}</tr></thead>'
        f'<tbody>{"".join(rows)}</tbody></table><p class="more">{meaning}</p>'
        f"{_protocols(listed, searched)}</div>"
    )


def _protocols(listed: Sequence[Candidate], searched: bool) -> str:
    """Say how accuracies were measured, and why their order may differ from the ranks."""
    found = [one.measured for one in listed if one.measured]
    if not found:
        return ""
    ways = "; ".join(dict.fromkeys(one.protocol for one in found))
    order = "" if searched else " The ranks are by what was predicted."
    return f'<p class="more">Measured by: {escape(ways)}.{order}</p>'


def _chart(result: Suggestions, k: int) -> str:
    listed = list(result[:k])
    # What was measured in another way than it was predicted has a chart for itself.
    apart = not _alike(result) and any(one.measured for one in listed)
    marks = [
        Mark(one.rank, one.macs / 1e6, accuracy(one))
        for one in listed
        if one.measured is not None or not apart
    ]
    others = [] if apart else [(one.macs / 1e6, one.accuracy) for one in result[k:]]
    limit = None if result.limits.max_macs is None else result.limits.max_macs / 1e6
    words = "Numbers are ranks" + (", dots the other networks compared" if others else "")
    return (
        f'<figure class="card"><figcaption><b>Accuracy against work</b>{words}. The line is '
        f"the {hint('front')}.</figcaption>{trade_off(others, marks, limit)}</figure>"
    )


def _offered(result: Suggestions, listed: Sequence[Candidate]) -> str:
    """Say which networks of the list are tied, and what less work costs, before any is measured."""
    if any(one.measured for one in listed):
        return ""
    told = []
    ties = [one for one in result.ties if one.rank <= len(listed)]
    if len(ties) > 1:
        ranks = ", ".join(str(one.rank) for one in ties)
        least = min(ties, key=lambda one: one.macs)
        points = result.answers.noise(max(one.accuracy for one in ties))
        told.append(
            f"Nothing tells {ranks} apart: a second training differs by {points:.1f} points as well. "
            f"The cheapest of them is {least.rank}."
        )
    told += [
        f"{FRONT[name]}{'' if name == 'fastest' else ' of the best'}: {one.accuracy:.0f}\u00a0% with "
        f"{_millions(one.params)} parameters and {_millions(one.macs)} MACs, "
        f"{escape(one.architecture)}."
        for name, one in result.front.items()
    ]
    return "".join(f'<p class="more">{words}</p>' for words in told)


def _classes(result: Suggestions) -> str:
    """Name what each of the networks tells apart."""
    names = list(result.dataset.classes)
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    told = ", ".join(
        escape(name if len(name) <= _LONG else f"{name[: _LONG - 1]}…") for name in names[:_NAMED]
    )
    return f'<p class="more">Each of them tells {len(names):,} classes apart: {told}{rest}.</p>'


def _nearest(result: Suggestions) -> str:
    if not result.nearest:
        return ""
    rows = "".join(
        f"<tr><td><b>{escape(one.name)}</b></td><td>{one.best_accuracy:.1f} %</td>"
        f"<td>{one.distance:.2f}</td></tr>"
        for one in result.nearest
    )
    head = f"<th>Dataset</th><th>Best there</th><th>{hint('Distance', 'distance')}</th>"
    return (
        "<h3>Known datasets most like yours, and what was reached there</h3>"
        f'<div class="list card"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody>'
        "</table></div>"
    )


def _size(one: Candidate) -> str:
    return (
        f"{_millions(one.params)} parameters, {_millions(one.macs)} MACs, pictures of "
        f"{one.resolution}\u00a0px"
    )


def _millions(value: int) -> str:
    return f"{value / 1e6:.2f} M" if value < 1e7 else f"{value / 1e6:.0f} M"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
