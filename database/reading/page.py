"""The store as one HTML page: accuracy against cost, agreement of protocols, learning curves.

The page is one file: no script, font or picture is fetched from anywhere, and all names are
escaped, since they may be anybody's.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import select

from database.reading.agreement import SHARED, agreement
from database.reading.charts import COLOURS, STYLE, Point, Series, chart
from database.reading.status import status
from database.schema import ARCHITECTURES, DATASETS, EVALUATIONS, PROTOCOLS, TASKS
from database.store import Store
from metad2a.errors import DatabaseError, InputError
from metad2a.spaces import SPACES

MOST_POINTS = 1500
"""Dots of one protocol in a chart; of more, evenly chosen ones are drawn."""
MOST_CURVES = 60
"""Learning curves of one protocol in a chart, chosen likewise."""
_T = TypeVar("_T")
_CSS = (
    STYLE
    + """
body { margin:0 auto; max-width:1240px; padding:1.5rem 1.2rem 3rem; color:var(--ink);
  background:var(--paper); font:15px/1.5 system-ui, sans-serif; overflow-wrap:anywhere; }
h1 { font-size:1.6rem; margin:0 0 .2rem; } h2 { font-size:1.2rem; margin:2.2rem 0 .2rem; }
p { max-width:75ch; margin:.2rem 0 .9rem; color:var(--soft); }
.charts { display:grid; grid-template-columns:repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap:16px; }
figure { margin:0; padding:10px 12px; border:1px solid var(--line); border-radius:8px; }
figcaption { font-size:.85rem; color:var(--soft); }
figcaption b { display:block; font-size:1rem; color:var(--ink); }
code { font-size:.78rem; }
.key { display:flex; flex-wrap:wrap; gap:4px 18px; list-style:none; padding:0; margin:0 0 .8rem; }
.key i { display:inline-block; width:11px; height:11px; border-radius:50%; margin-right:6px; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; font-variant-numeric:tabular-nums; font-size:.88rem; }
th { font-weight:600; text-align:left; padding:5px 9px; white-space:nowrap; }
td { padding:5px 9px; text-align:right; border:1px solid var(--line); white-space:nowrap; }
td small { display:block; color:var(--soft); }
"""
)


@dataclass(frozen=True)
class _Value:
    """One accuracy. ``macs``: millions; None where the architecture's space is unknown here."""

    dataset: int
    protocol: str
    architecture: str
    macs: float | None
    accuracy: float
    curve: tuple[float, ...]


def page(store: Store, path: Path | str) -> int:
    """Write the page and return its bytes.

    Raises:
        InputError: ``path`` is the database's own file.
        DatabaseError: the store cannot be read, or the page not be written.
    """
    path = Path(path)
    if store.path is not None and path.resolve() == store.path.resolve():
        raise InputError(f"The page would overwrite the database {str(path)!r}. Give another path.")
    content = _html(store).encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            partial = Path(folder) / path.name
            partial.write_bytes(content)
            partial.replace(path)
    except OSError as error:
        raise DatabaseError(
            f"Cannot write the page {str(path)!r}: {error}. Check that its folder "
            "may be written and that the disk has room."
        ) from error
    return len(content)


def _html(store: Store) -> str:
    counts = status(store)
    names, values = _values(store)
    protocols = sorted({value.protocol for value in values})
    colours = {name: number for number, name in enumerate(protocols)}
    facts = ", ".join(
        f"{counts[what]:,} {what}" for what in ("datasets", "tasks", "architectures", "evaluations")
    )
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>metad2a database</title><style>{_CSS}</style></head><body>",
            f"<h1>metad2a database</h1><p>{escape(Path(store.name).name)}: {facts}.</p>",
            _costs(names, values, colours),
            _agreement(store),
            _curves(names, values, colours),
            "</body></html>\n",
        ]
    )


# -- what is drawn ---------------------------------------------------------------------------


def _values(store: Store) -> tuple[dict[int, str], list[_Value]]:
    """Return the names of the datasets that have accuracies, by id, and the accuracies."""
    with store.reading() as connection:
        rows = connection.execute(
            select(
                DATASETS.c.id,
                DATASETS.c.name,
                DATASETS.c.classes,
                PROTOCOLS.c.name,
                ARCHITECTURES.c.space,
                ARCHITECTURES.c.canonical,
                EVALUATIONS.c.value,
                EVALUATIONS.c.curve,
            )
            .join_from(EVALUATIONS, TASKS)
            .join(DATASETS)
            .join(ARCHITECTURES)
            .join(PROTOCOLS, EVALUATIONS.c.protocol_id == PROTOCOLS.c.id)
            .where(EVALUATIONS.c.kind == "accuracy")
            .order_by(DATASETS.c.name, EVALUATIONS.c.id)
        ).all()
    names: dict[int, str] = {}
    wanted: dict[tuple[str, int], set[str]] = defaultdict(set)
    for number, name, classes, _, space, cell, *_ in rows:
        names[number] = name
        wanted[space, classes].add(cell)
    costs = {key: _macs(*key, cells) for key, cells in wanted.items()}
    return names, [
        _Value(number, protocol, cell, costs[space, classes].get(cell), value, tuple(curve))
        for number, _, classes, protocol, space, cell, value, curve in rows
    ]


def _macs(name: str, classes: int, cells: Iterable[str]) -> dict[str, float]:
    """Return millions of MACs of the architectures that can be read; ``db verify`` tells others."""
    if name not in SPACES.names():
        return {}
    space = SPACES.get(name)
    parsed = {}
    for cell in cells:
        try:
            parsed[cell] = space.parse(cell)
        except InputError:
            continue
    found = space.costs(space.as_array(list(parsed.values())), classes)[:, 1] / 1e6
    return dict(zip(parsed, found.tolist(), strict=True))


# -- the three parts -------------------------------------------------------------------------


def _costs(names: dict[int, str], values: list[_Value], colours: dict[str, int]) -> str:
    known = [one for one in values if one.macs is not None]
    figures = []
    for number, own in _by(known, "dataset"):
        drawn = [
            Series(colours[protocol], [[_dot(one)] for one in _even(mine, MOST_POINTS)])
            for protocol, mine in _by(own, "protocol")
        ]
        best = max(own, key=lambda one: one.accuracy)
        drawing = chart(
            drawn,
            "MACs, millions",
            "test accuracy, %",
            f"{names[number]}: accuracy against MACs",
            _dot(best),
        )
        figures.append(
            _figure(
                names[number],
                drawing,
                f"{_count(own, drawn)} values. Ringed: "
                f"{100 * best.accuracy:.1f} %, {escape(best.protocol)}, "
                f"<code>{escape(best.architecture)}</code>",
            )
        )
    return _section(
        "Accuracy against MACs",
        "One dot an evaluation. MACs are multiply-adds of one image "
        "through the space's published network with the dataset's classes, whatever smaller "
        "network a protocol may train.",
        figures,
        _key(known, colours),
        "No accuracies are stored yet.",
    )


def _curves(names: dict[int, str], values: list[_Value], colours: dict[str, int]) -> str:
    long = [one for one in values if len(one.curve) > 1]
    figures = []
    for number, own in _by(long, "dataset"):
        drawn = [
            Series(
                colours[protocol],
                [
                    [
                        (float(reading), 100 * accuracy)
                        for reading, accuracy in enumerate(one.curve, 1)
                    ]
                    for one in _even(sorted(mine, key=lambda one: one.accuracy), MOST_CURVES)
                ],
            )
            for protocol, mine in _by(own, "protocol")
        ]
        drawing = chart(
            drawn, "reading of the curve", "test accuracy, %", f"{names[number]}: learning curves"
        )
        figures.append(_figure(names[number], drawing, f"{_count(own, drawn)} curves."))
    return _section(
        "Learning curves",
        "Test accuracy each time that a training was judged, usually after an epoch.",
        figures,
        _key(long, colours),
        "No learning curves are stored yet.",
    )


def _agreement(store: Store) -> str:
    found = agreement(store)
    protocols = sorted({name for pair in found for name in pair})
    lines = ["<tr><th></th>" + "".join(f"<th>{escape(p)}</th>" for p in protocols) + "</tr>"]
    for row in protocols:
        cells = []
        for column in protocols:
            if row == column:
                cells.append("<td>1</td>")
            elif (pair := (min(row, column), max(row, column))) in found:
                one = found[pair]
                tint = "agree" if one.spearman > 0 else "oppose"
                cells.append(
                    f'<td style="background:color-mix(in srgb, var(--{tint}) '
                    f'{45 * abs(one.spearman):.0f}%, var(--paper))">{one.spearman:.2f}'
                    f"<small>{one.shared:,} in {one.tasks:,}</small></td>"
                )
            else:
                cells.append("<td>–</td>")
        lines.append(f"<tr><th>{escape(row)}</th>{''.join(cells)}</tr>")
    table = f'<div class="scroll"><table>{"".join(lines)}</table></div>'
    return (
        "<h2>Rank agreement between protocols</h2><p>Spearman's correlation over the "
        "architectures that both protocols measured on a task, mean over tasks. Below it: how "
        f"many architectures in how many tasks; one where they share fewer than {SHARED} does "
        "not count.</p>"
        + (table if found else "<p>No two protocols share enough architectures yet.</p>")
    )


def _section(title: str, text: str, figures: list[str], key: str, empty: str) -> str:
    body = f'{key}<div class="charts">{"".join(figures)}</div>' if figures else f"<p>{empty}</p>"
    return f"<h2>{title}</h2><p>{text}</p>{body}"


def _key(values: list[_Value], colours: dict[str, int]) -> str:
    items = "".join(
        f'<li><i class="c{colours[name] % COLOURS}"></i>{escape(name)}</li>'
        for name in sorted({one.protocol for one in values})
    )
    return f'<ul class="key">{items}</ul>'


def _figure(name: str, drawing: str, caption: str) -> str:
    return f"<figure>{drawing}<figcaption><b>{escape(name)}</b>{caption}</figcaption></figure>"


def _dot(one: _Value) -> Point:
    return (one.macs or 0.0, 100 * one.accuracy)


def _count(own: list[_Value], drawn: list[Series]) -> str:
    shown = sum(len(series.curves) for series in drawn)
    return f"{len(own):,}" if shown == len(own) else f"{shown:,} of {len(own):,}"


def _by(values: Iterable[_Value], key: str) -> list[tuple[Any, list[_Value]]]:
    """Group values by an attribute, keeping their order."""
    groups: dict[Any, list[_Value]] = defaultdict(list)
    for value in values:
        groups[getattr(value, key)].append(value)
    return list(groups.items())


def _even(items: Sequence[_T], most: int) -> list[_T]:
    """Return up to ``most`` of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, most)]
