"""What a notebook shows of suggestions, trained networks and searches: tables and drawings as HTML.

A notebook brings its own look of tables, so there are no styles here but those that make wide
things fit; every name may be anybody's and is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.training.trained import Trained


def suggestions(result: Suggestions, beside: Sequence[str]) -> str:
    """Return the list as a table, what its accuracies mean, and a drawing of each network to open.

    Args:
        result: the list.
        beside: what it says of ties and of what less work costs.
    """
    measured = any(one.measured for one in result)
    head = ["", "accuracy", "90 % interval", "parameters", "file", "MACs", "pictures"]
    if measured:
        head.insert(1, "measured")
    if result.latency:
        head.append("one picture takes")
    rows = []
    for one in result:
        low, high = one.interval
        row = [
            f"{one.rank}",
            f"{one.accuracy:.1f} %",
            f"{low:.0f} to {high:.0f} %",
            f"{one.params:,}",
            f"{one.bytes / 1e6:.1f} MB",
            f"{one.macs:,}",
            f"{one.resolution} px",
        ]
        if measured:
            row.insert(1, f"{one.measured.accuracy:.1f} %" if one.measured else "–")
        if result.latency:
            row.append("–" if one.latency_ms is None else f"{one.latency_ms:.2f} ms")
        rows.append(row)
    notes = [*beside, result.answers.meaning(), str(result.latency or ""), result.note]
    if result.neighbourhood is not None and result.neighbourhood.warning:
        notes.append(result.neighbourhood.warning)
    drawings = (
        folded(
            f"Network {one.rank}: {one.reason}",
            f"{one.draw()}<p><code>{escape(one.architecture)}</code></p>",
        )
        for one in result
    )
    return f"{table(head, rows)}{paragraphs(notes)}{''.join(drawings)}"


def trained(network: Trained) -> str:
    """Return what a trained network reached, where it errs, and how it learnt."""
    from metad2a.export.charts import confusion, curve

    own = "the dataset's own test images" if network.own_test else "images held out"
    predicted = "–"
    if network.predicted is not None and network.interval is not None:
        low, high = network.interval
        predicted = f"{network.predicted:.1f} % ({low:.0f} to {high:.0f} %)"
    figures = facts(
        [
            ("accuracy", f"{network.accuracy:.1f} % of {network.evaluation.images:,} {own}"),
            ("balanced over the classes", f"{network.balanced_accuracy:.1f} %"),
            ("predicted before", predicted),
            ("parameters", f"{network.network.params:,}"),
            ("MACs", f"{network.network.macs:,} at {network.network.resolution} px"),
            ("training", f"{network.epochs:.1f} epochs, {network.seconds:.0f} s"),
            ("why", network.reason),
        ]
    )
    late = ["Stopped before the end: more time would have given more."] if network.partial else []
    drawings = folded(
        "What is taken for what", confusion(network.confusion, network.classes), shown=True
    )
    if len(network.curve) > 1:
        drawings += folded("How it learnt", curve(network.curve))
    return f"{figures}{paragraphs(late)}{drawings}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of texts."""
    titles = "".join(f"<th>{escape(one)}</th>" for one in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def facts(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of names and values."""
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for name, value in rows
    )
    return f"<table><tbody>{lines}</tbody></table>"


def paragraphs(texts: Iterable[str]) -> str:
    """Return a paragraph for each text that is not empty."""
    return "".join(f"<p>{escape(one)}</p>" for one in texts if one)


def folded(title: str, markup: str, shown: bool = False) -> str:
    """Return markup under a title that opens it."""
    return (
        f"<details{' open' if shown else ''}><summary>{escape(title)}</summary>{markup}</details>"
    )
