"""A trained network, as HTML: what it reached, where it errs, how it learnt; and its answers."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from metad2a.page import values
from metad2a.page.charts import curves, shares
from metad2a.page.hints import hint

if TYPE_CHECKING:
    from metad2a.page.training import TrainedHere
    from metad2a.prediction import Prediction

_PAIRS = 6
"""Mistakes that are named."""
_LONG = 60
_PROTOCOL = re.compile(r"; predicted under the protocol \S+")
"""What a reason names for programs."""


def trained_view(trained: TrainedHere) -> str:
    """Return figures, confusion matrix, learning curve, and how it came about."""
    return (
        f'<section class="m2" id="m2-trained"><h2>Your trained network</h2>{_lead(trained)}{_facts(trained)}'
        f'<div class="pair">{_confusion(trained)}{_learning(trained)}</div>{_notes(trained)}'
        f"{_how(trained)}</section>"
    )


def answer_view(prediction: Prediction, picture: str) -> str:
    """Return what a network says of a picture.

    Args:
        prediction: its answer.
        picture: the picture, small, as a data URI.
    """
    best = f"{_cut(prediction.label or '')}: {100 * (prediction.probability or 0):.0f}\u00a0%"
    rows = [(_cut(name), share) for name, share in prediction.top]
    return (
        f'<div class="m2 answer" role="status"><img src="{picture}" alt="the picture">'
        f"<div><b>{escape(best)}</b>{shares(rows)}</div></div>"
    )


def _lead(trained: TrainedHere) -> str:
    told = trained.told
    side = "the dataset's own test images" if trained.own_test else "images that were held out"
    predicted = ""
    if told["predicted"] is not None:
        predicted = f"; {told['predicted']:.1f}\u00a0% were predicted"
        if told["interval"] is not None:
            low, high = told["interval"]
            predicted += f" ({low:.0f} to {high:.0f}\u00a0%)"
    partial = " It was stopped before its end: more time would have given more."
    return (
        f'<p class="lead"><b>{trained.accuracy:.1f}\u00a0%</b> of {told["test_images"]:,} {side} '
        f"are named right; nothing was chosen by them{predicted}."
        f"{partial if told['partial'] else ''}</p>"
    )


def _facts(trained: TrainedHere) -> str:
    told = trained.told
    network = told["network"]
    predicted = "–" if told["predicted"] is None else f"{told['predicted']:.1f} %"
    facts = [
        (f"{trained.accuracy:.1f} %", hint("accuracy")),
        (f"{told['balanced_accuracy']:.1f} %", hint("balanced")),
        (predicted, "predicted"),
        (f"{network['resolution']} px", hint("resolution")),
        (_millions(network["params"]), hint("parameters")),
        (_millions(network["macs"]), hint("MACs")),
    ]
    tiles = "".join(f"<div><b>{value}</b><span>{what}</span></div>" for value, what in facts)
    return f'<div class="facts">{tiles}</div>'


def _confusion(trained: TrainedHere) -> str:
    from metad2a.export.charts import confusion

    drawing = confusion(trained.confusion, [_cut(name) for name in trained.classes])
    return (
        '<figure class="card drawn"><figcaption><b>What is taken for what</b>A row for each true '
        f"class, a column for each answer.</figcaption>{drawing}{_mistakes(trained)}</figure>"
    )


def _mistakes(trained: TrainedHere) -> str:
    """Name the most frequent mistakes: a matrix of many classes cannot be read."""
    wrong = trained.confusion.copy()
    np.fill_diagonal(wrong, 0)
    places = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [np.unravel_index(place, wrong.shape) for place in places]
    lines = "".join(
        f"<li>{escape(_cut(trained.classes[row]))} → {escape(_cut(trained.classes[column]))}: "
        f"{wrong[row, column]:,}</li>"
        for row, column in pairs
        if wrong[row, column]
    )
    if not lines:
        return '<p class="more">No mistake on the test images.</p>'
    return f'<p class="more">Most frequent mistakes:</p><ul class="more">{lines}</ul>'


def _learning(trained: TrainedHere) -> str:
    line = trained.curve
    drawing = curves([("", line)], "epochs", "accuracy, %")
    if not drawing:
        first = f"{line[0][1]:.1f}\u00a0%" if line else "none"
        words = (
            "The pretrained network stayed as it is, and only the classifier was fitted, in closed "
            f"form: there is no curve. Accuracy on the images that choices were made by: {first}."
        )
        return f'<figure class="card"><figcaption><b>How it learnt</b>{words}</figcaption></figure>'
    return (
        '<figure class="card"><figcaption><b>How it learnt</b>Accuracy on the images that choices '
        f"were made by; these flatter a little.</figcaption>{drawing}</figure>"
    )


def _notes(trained: TrainedHere) -> str:
    return "".join(
        f'<div class="warning" role="note"><p>{escape(note)}</p></div>' for note in trained.notes
    )


def _how(trained: TrainedHere) -> str:
    told = trained.told
    network, plan = told["network"], told["plan"]
    rate = (
        "frozen, classifier in closed form" if not plan["rate"] else f"peak rate {plan['rate']:g}"
    )
    rows = [
        ("family", values.SPACES.get(network["space"], network["space"])),
        (
            "why",
            _PROTOCOL.sub("; what was predicted is of a shorter training", str(plan["reason"])),
        ),
        ("training", f"{rate}; {told['epochs']:.1f} epochs over {told['images']:,} images"),
        ("time", f"{told['seconds']:.0f} s, reading and judging counted"),
        ("files", ", ".join(f"{name} ({_bytes(size)})" for name, size in trained.files.items())),
    ]
    if len(told["tried"]) > 1:
        tries = (
            f"at rate {one['rate']:g}: {one['accuracy']:.1f} %"
            for one in told["tried"]
            if one["accuracy"] is not None
        )
        rows.append(("tried", "; ".join(tries)))
    lines = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return (
        '<details class="fold"><summary>How it was trained, and what is in the folder</summary>'
        f"<dl>{lines}</dl></details>"
    )


def _cut(name: str) -> str:
    return name if len(name) <= _LONG else f"{name[: _LONG - 1]}…"


def _millions(value: int) -> str:
    return f"{value / 1e6:.2f} M" if value < 1e7 else f"{value / 1e6:.0f} M"


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
