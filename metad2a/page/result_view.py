"""The answer, as HTML: what is suggested and what it means, and the list that it is from."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from metad2a.page import values
from metad2a.page.charts import Mark, trade_off
from metad2a.page.choices import Choices, choices
from metad2a.page.hints import glossary, hint
from metad2a.result import GIVEN

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.datasets import DatasetReport
    from metad2a.result import Suggestions

_NAMED, _LONG = 30, 60
"""Classes that are named, and letters of a name."""
_TIES = 5
"""Ranks that are named of networks that cannot be told apart."""


def suggestion_view(result: Suggestions, searched: bool = False, live: bool = True) -> str:
    """Return what is suggested, what it means, and what is smaller or faster.

    Args:
        result: all networks that were compared, best first.
        searched: whether a check or a refinement has put what it measured at the head of the list.
        live: whether networks can be chosen, as on the page, or only read of, as in the report.
    """
    chosen = choices(result, searched)
    return (
        f'<section class="m2" id="m2-answer"><h2>Our suggestion</h2>{_read(result.report)}'
        f'<div class="offers">{_best(result, chosen, live)}{_others(chosen, live)}</div>'
        f"{_warnings(result)}</section>"
    )


def list_view(result: Suggestions, k: int, searched: bool = False, live: bool = True) -> str:
    """Return the networks one can choose from, each to be opened, and what they cost, as a chart.

    Args:
        result: all networks that were compared, best first.
        k: how many are in the list; the others are faint dots in the chart.
        searched: as in :func:`suggestion_view`, as is ``live``.
        live: see there.
    """
    listed = offered(result, k, searched)
    title = "Networks, measured on your images" if searched else "All networks to choose from"
    return (
        f'<section class="m2"><h2>{title}</h2><div class="pair wide">'
        f"{_list(result, listed, searched, live)}{_chart(result, listed)}</div>"
        f"{_classes(result)}{glossary()}{_nearest(result)}</section>"
    )


def offered(result: Suggestions, k: int, searched: bool = False) -> list[Candidate]:
    """Return the first ``k`` networks, and what is suggested where that is none of them."""
    chosen = choices(result, searched)
    wanted = {one.rank for one in (chosen.best, chosen.smaller, chosen.faster) if one is not None}
    return [one for one in result if one.rank <= k or one.rank in wanted]


def chosen_style(rank: int) -> str:
    """Return what marks the network of a rank wherever it is listed."""
    return (
        f'<style>.m2 .net[data-rank="{rank}"] > summary {{ background:var(--accent-soft); }}'
        f'.m2 button[data-rank="{rank}"]::after {{ content:" ✓"; }}</style>'
    )


def accuracy(one: Candidate) -> float:
    """Return what is known best of a network's accuracy: the measurement, where there is one."""
    return one.accuracy if one.measured is None else one.measured.accuracy


def megabytes(count: int) -> str:
    """Return the size of a file as people say it."""
    size = count / 1e6
    return f"{size:.1f} MB" if size < 10 else f"{size:.0f} MB"


def _read(report: DatasetReport) -> str:
    """Say in a line what the answer is for; the whole of it stands further down."""
    skipped = len(report.skipped)
    files = "" if not skipped else f", {skipped:,} {'file' if skipped == 1 else 'files'} skipped"
    return (
        f'<p class="lead">For <b>{escape(_cut(report.name))}</b>: {report.images:,} pictures of '
        f"{report.classes:,} classes{files}.</p>"
    )


def _best(result: Suggestions, chosen: Choices, live: bool) -> str:
    best = chosen.best
    low, high = best.interval
    guess = 100 * result.report.largest_class[1] / max(1, result.report.images)
    if best.measured is not None:
        found = (
            f"<b>{best.measured.accuracy:.0f}</b> of 100 pictures held out were named right"
            f"<small>{low:.0f} to {high:.0f} were expected</small>"
        )
    else:
        found = (
            f"<b>{best.accuracy:.0f}</b> of 100 new pictures are expected to be named right"
            f"<small>between {low:.0f} and {high:.0f} in 9 of 10 cases</small>"
        )
    promise = (
        f"That is after {values.TRAINING:g} minutes of training on this server, from weights that "
        "know photographs already"
        if result.answers.space.pretrained
        else "That is after a short training from random weights, which ranks networks but does "
        "not show all that they can do"
    )
    facts = [
        (megabytes(best.bytes), "size of its file"),
        (_millions(best.macs), hint("MACs") + " for one picture"),
        (f"{best.resolution} px", hint("resolution")),
    ]
    if best.latency_ms is not None:
        facts.insert(1, (f"{best.latency_ms:.1f} ms", "one picture takes here"))
    tiles = "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in facts)
    return (
        f'<article class="card best"><h3>Network {best.rank}{_within(result)}</h3>'
        f'<p class="found">{found}</p>'
        f"<p>{promise}. Always naming the largest class gets {guess:.0f} of 100.</p>"
        f'<div class="facts">{tiles}</div>{_tied(result, chosen)}'
        f"{_button(best, 'Train this one', live)}</article>"
    )


def _tied(result: Suggestions, chosen: Choices) -> str:
    """Say which networks cannot be told apart, so that nobody takes their order for knowledge."""
    best, count = chosen.best, len(chosen.ties)
    if count:
        named = ", ".join(str(rank) for rank in chosen.ties[:_TIES])
        rest = f" and {count - _TIES:,} more" if count > _TIES else ""
        return (
            f'<p class="tied"><b>A tie.</b> Network{"s" if count > 1 else ""} {named}{rest} '
            "cannot be told apart from it: they differ by less than one training does from the "
            "next. Of them it takes the least work.</p>"
        )
    overlap = [
        one
        for one in result
        if one is not best
        and one.interval[1] >= best.interval[0]
        and one.interval[0] <= best.interval[1]
    ]
    if best.measured is None and overlap:
        return (
            '<p class="tied">The intervals of others overlap with its own, so a smaller one may do '
            "as well.</p>"
        )
    return ""


def _others(chosen: Choices, live: bool) -> str:
    """Return what is smaller and what is faster, and what each gives up."""
    best, small, fast = chosen.best, chosen.smaller, chosen.faster
    if small is None and fast is None:
        return (
            '<article class="card"><h3>Smaller or faster</h3><p>None that was compared is both '
            "clearly cheaper and nearly as good.</p></article>"
        )
    if small is not None and fast is not None and small.rank == fast.rank:
        return _other("Smaller and faster", small, best, live)
    return "".join(
        _other(title, one, best, live)
        for title, one in (("Smaller", small), ("Faster", fast))
        if one is not None
    )


def _other(title: str, one: Candidate, best: Candidate, live: bool) -> str:
    lost = accuracy(best) - accuracy(one)
    price = f"about {lost:.1f} points less" if lost >= 0.05 else "as good, as far as is known"
    work = best.macs / one.macs
    speed = (
        f"{one.latency_ms:.1f} ms a picture here"
        if one.latency_ms is not None
        else f"{work:.1f} times less work for a picture"
        if work > 1.05
        else "about the same work for a picture"
    )
    return (
        f'<article class="card"><h3>{title}: network {one.rank}</h3>'
        f"<p><b>{accuracy(one):.0f} of 100</b>, {price}</p>"
        f"<p>{megabytes(one.bytes)} in place of {megabytes(best.bytes)}; {speed}; pictures of "
        f"{one.resolution}\u00a0px</p>{_button(one, 'Train this one', live)}</article>"
    )


def _button(one: Candidate, words: str, live: bool) -> str:
    return f'<button type="button" data-rank="{one.rank}">{words}</button>' if live else ""


def _within(result: Suggestions) -> str:
    """Name the limits that are set."""
    limits = result.limits
    told = []
    if limits.max_params is not None:
        told.append(f"a file of {4 * limits.max_params / 1e6:.1f} MB")
    if limits.max_latency_ms is not None:
        told.append(f"{limits.max_latency_ms:g} ms a picture")
    if limits.max_macs is not None:
        told.append(f"{_millions(limits.max_macs)} MACs")
    return f", within {' and '.join(told)}" if told else ""


def _warnings(result: Suggestions) -> str:
    around = result.neighbourhood
    told = []
    if around is not None and around.far:
        told.append(
            (
                "These images are unlike all that the model has seen",
                f"They lie far from all {around.known} datasets that it learnt from. Take the "
                "accuracies as a rough guess, and train before you choose.",
            )
        )
    if result.note:
        told.append(("To be known", result.note))
    return "".join(
        f'<div class="warning" role="note"><b>{title}</b><p>{escape(words)}</p></div>'
        for title, words in told
    )


def _list(result: Suggestions, listed: Sequence[Candidate], searched: bool, live: bool) -> str:
    measured = any(one.measured for one in listed)
    timed = any(one.latency_ms is not None for one in listed)
    tied = set() if searched else {(chosen := choices(result)).best.rank, *chosen.ties}
    columns = ["", hint("Accuracy", "accuracy"), "File", hint("Work", "MACs")]
    if measured:
        columns.insert(1, hint("Measured", "measured"))
    if timed:
        columns.append("Time")
    rows = []
    for one in listed:
        low, high = one.interval
        span = f"{one.accuracy:.0f} % <small>({low:.0f}–{high:.0f})</small>"
        cells = [span, megabytes(one.bytes), _millions(one.macs)]
        if measured:
            cells.insert(0, "–" if one.measured is None else f"{one.measured.accuracy:.1f} %")
        if timed:
            cells.append("–" if one.latency_ms is None else f"{one.latency_ms:.1f} ms")
        tie = " <i>tie</i>" if one.rank in tied and len(tied) > 1 else ""
        inner = "".join(f"<span>{cell}</span>" for cell in (f"<b>{one.rank}</b>{tie}", *cells))
        rows.append(
            f'<details class="net" data-rank="{one.rank}"><summary>{inner}</summary>'
            f"{_opened(one, live)}</details>"
        )
    head = "".join(f"<span>{name}</span>" for name in columns)
    return (
        f'<div class="nets card" style="--columns:{len(columns) - 1}">'
        f'<div class="head">{head}</div>{"".join(rows)}'
        f'<p class="more">Open a row for its drawing. Accuracies are expected ones, with the range '
        f"of 9 in 10 cases.{_measured(listed, searched)}</p></div>"
    )


def _opened(one: Candidate, live: bool) -> str:
    """Return what a row of the list holds: why it is there, its costs, its drawing."""
    return (
        f'<div class="inside drawn"><p>{escape(_sentence(one.reason))}</p><p class="why">'
        f"{_millions(one.params)} {hint('parameters')}, pictures of {one.resolution}\u00a0px</p>"
        f"{_button(one, 'Train this one', live)}{one.draw()}</div>"
    )


def _measured(listed: Sequence[Candidate], searched: bool) -> str:
    """Say how accuracies were measured, and why their order may differ from the ranks."""
    found = [one.measured for one in listed if one.measured]
    if not found:
        return ""
    trained = all(one.protocol == GIVEN or "test images" in one.protocol for one in found)
    how = (
        "after a training, on pictures held out"
        if trained
        else "on pictures held out: after a training, or with the weights that a search shares "
        "among networks, which give less"
    )
    order = "" if searched else " The order is by what was expected."
    return f" Measured: {how}.{order}"


def _chart(result: Suggestions, listed: Sequence[Candidate]) -> str:
    # What was measured in another way than it was predicted has a chart for itself.
    apart = not result.answers.space.pretrained and any(one.measured for one in listed)
    marks = [
        Mark(
            one.rank,
            one.macs / 1e6,
            accuracy(one),
            one.interval if one.measured is None else None,
        )
        for one in listed
        if one.measured is not None or not apart
    ]
    ranks = {one.rank for one in listed}
    others = [
        (one.macs / 1e6, one.accuracy) for one in result if not apart and one.rank not in ranks
    ]
    limit = None if result.limits.max_macs is None else result.limits.max_macs / 1e6
    words = "Numbers are ranks" + (", dots the other networks compared" if others else "")
    bars = "" if apart else "; bars hold the accuracy in 9 of 10 cases"
    return (
        f'<figure class="card"><figcaption><b>Accuracy against work</b>{words}{bars}. The line is '
        f"the {hint('front')}.</figcaption>{trade_off(others, marks, limit)}</figure>"
    )


def _classes(result: Suggestions) -> str:
    """Name what each of the networks tells apart."""
    names = list(result.dataset.classes)
    rest = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    told = ", ".join(escape(_cut(name)) for name in names[:_NAMED])
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


def _millions(value: int) -> str:
    return f"{value / 1e6:.2f} M" if value < 1e7 else f"{value / 1e6:.0f} M"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _cut(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"
