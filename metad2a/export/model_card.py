"""``README.md``: the card of a delivered network, as people and the Hugging Face Hub read it."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from html import escape

import numpy as np

from metad2a.export.delivery import Delivery
from metad2a.export.model_py import facts
from metad2a.export.runtime import Int8, Measured

_MOST_ROWS, _MOST_PAIRS = 12, 10
_LICENCE = "Apache-2.0"
"""Of the code, this project's own."""
_REACHED = {"accuracy": "measured", "balanced": "balanced", "predicted": "predicted"}
"""Names of facts that have a section of their own, and how they are called there."""
_PICTURES = {
    "confusion.svg": "Confusion matrix: a row for each true class",
    "curve.svg": "Accuracy during the training",
}
_TORCH = """\
```python
from model import CLASSES, load, preprocess  # model.py of this folder; needs torch and Pillow

network = load()
chances = network(preprocess("image.jpg")).softmax(1)[0]
print(CLASSES[int(chances.argmax())], float(chances.max()))
```"""
_ONNX = """\
```python
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
images = preprocess("image.jpg").numpy()  # of model.py; float32 (n, 3, {side}, {side}), 0 to 1
[logits] = session.run(["logits"], {{"images": images}})
print(session.get_modelmeta().custom_metadata_map["classes"], logits.argmax(1))
```"""
_COMMAND = """\
```console
$ metad2a predict FOLDER image.jpg more_images/ --top 3
```"""
_UNTRAINED = """\
```python
from model import build  # model.py of this folder; needs torch alone

network = build()  # takes normalised images (batch, 3, {side}, {side}), gives logits
```"""


def card(
    delivery: Delivery,
    pictures: Collection[str],
    files: Mapping[str, Measured],
    int8: Int8 | None = None,
) -> str:
    """Write a network's card as Markdown.

    Args:
        delivery: the network and what is known of it.
        pictures: names of those in the folder.
        files: size and latency of the ONNX files in the folder, by name.
        int8: what the 8-bit file loses.
    """
    told = facts(delivery).items()
    parts = [
        _front_matter(delivery),
        f"# An image classifier for {len(delivery.classes):,} classes",
        _table("", "", ((name, _plain(value)) for name, value in told if name not in _REACHED)),
        f"```text\n{delivery.architecture}\n```",
        "![The network](drawing.svg)" if "drawing.svg" in pictures else "",
        "## Use\n\n" + _use(delivery, files),
        _reached(delivery, pictures),
        _files(delivery, files, int8),
        _origin(delivery),
        _limits(delivery),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(delivery: Delivery) -> str:
    """Return the metadata that the Hub reads; texts are JSON strings, which are YAML too."""
    figures = delivery.figures
    licence = delivery.weights_licence or _LICENCE
    lines = [
        "---",
        f"license: {json.dumps(licence.lower())}",
        "pipeline_tag: image-classification",
        "tags:",
        *(f"- {tag}" for tag in ("image-classification", "pytorch", "onnx", "metad2a")),
    ]
    if figures.accuracy is not None:
        measured = {"accuracy": figures.accuracy, "balanced_accuracy": figures.balanced_accuracy}
        found = {name: value for name, value in measured.items() if value is not None}
        lines += ["metrics:", *(f"- {name}" for name in found)]
        lines += [
            "model-index:",
            f"- name: {json.dumps(f'{delivery.space} {delivery.architecture}'[:100])}",
            "  results:",
            "  - task:",
            "      type: image-classification",
            "    dataset:",
            "      type: imagefolder",
            "      name: images held out from the training",
            "    metrics:",
        ]
        for name, value in found.items():
            lines += [f"    - type: {name}", f"      value: {value / 100:.4f}"]
    return "\n".join([*lines, "---"])


def _use(delivery: Delivery, files: Mapping[str, Measured]) -> str:
    side = delivery.resolution
    if not delivery.trained:
        return "It is untrained: this folder has no weights.\n\n" + _UNTRAINED.format(side=side)
    parts = [_TORCH]
    if "model.onnx" in files:
        parts.append(_ONNX.format(side=side))
    parts.append(_COMMAND)
    parts.append(
        "Normalisation is inside the network and the ONNX file: they take values from 0 to 1. "
        f"Pictures keep the ratio of their sides: the shorter one becomes {side} pixels, and the "
        "middle of the longer one is kept (`preprocessing.json`). `python model.py image.jpg` "
        "prints labels."
    )
    return "\n\n".join(parts)


def _reached(delivery: Delivery, pictures: Collection[str]) -> str:
    rows = [(_REACHED[name], value) for name, value in facts(delivery).items() if name in _REACHED]
    if not rows:
        return ""
    parts = ["## What it reaches", _table("accuracy", "", rows)]
    if delivery.figures.confusion is not None:
        parts.append(_confusion(delivery.figures.confusion, delivery))
    for name, title in _PICTURES.items():
        if name in pictures:
            parts.append(f"![{title}]({name})")
    return "\n\n".join(parts)


def _confusion(matrix: np.ndarray, delivery: Delivery) -> str:
    """Return a confusion matrix as a table where it is small, else its greatest confusions."""
    names = [_plain(name) for name in delivery.classes]
    if len(names) <= _MOST_ROWS:
        lines = [["true \\ given", *names], ["---", *["---:"] * len(names)]]
        for name, row in zip(names, matrix.tolist(), strict=True):
            lines.append([f"**{name}**", *(f"{count:,}" if count else "" for count in row)])
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    wrong = matrix * (1 - np.eye(len(names), dtype=matrix.dtype))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MOST_PAIRS]
    pairs = [divmod(int(place), len(names)) for place in order]
    rows = [
        (f"{names[truth]} taken for {names[given]}", f"{wrong[truth, given]:,}")
        for truth, given in pairs
        if wrong[truth, given]
    ]
    return _table("most often confused", "images", rows) if rows else "Nothing was confused."


def _files(delivery: Delivery, files: Mapping[str, Measured], int8: Int8 | None) -> str:
    if not files:
        return ""
    side = delivery.resolution
    rows = [
        (f"`{name}`", f"{found.bytes / 1e6:.2f} MB, {_latency(found)}")
        for name, found in files.items()
    ]
    parts = [
        "## Size and speed",
        _table("file", f"size, one image of {side}x{side} pixels", rows),
    ]
    if int8 is not None:
        parts.append(
            f"In 8 bits it is right on {int8.accuracy:.1f} % of {int8.images:,} images that had no "
            f"part in the training, in 32 bits on {int8.float_accuracy:.1f} %: "
            f"{-int8.drop:+.1f} points."
        )
    return "\n\n".join(parts)


def _latency(found: Measured) -> str:
    if found.ms is None:
        return "not timed (onnxruntime was not there)"
    return f"{found.ms:.2f} ms on one CPU thread where it was made"


def _origin(delivery: Delivery) -> str:
    figures, parts = delivery.figures, ["## Where it comes from"]
    rows = []
    for name, value, form in (
        ("images trained on", figures.images, "{:,}"),
        ("epochs", figures.epochs, "{:.3g}"),
        ("seconds", figures.seconds, "{:.0f}"),
    ):
        if value is not None:
            rows.append((name, form.format(value)))
    rows += [(_plain(name.replace("_", " ")), _plain(_told(v))) for name, v in figures.plan.items()]
    if rows:
        parts.append(_table("training", "", rows))
    if delivery.report:
        parts.append(f"Data: {_plain(delivery.report)}.")
    terms = f"`model.py` is {_LICENCE}. The images may have terms of their own."
    if delivery.pretrained:
        licence = delivery.weights_licence or "of unknown licence"
        origin = f"{_plain(delivery.pretrained)} ({_plain(licence)})"
        terms = f"The training started from the weights of {origin}. {terms}"
    parts.append(terms)
    return "\n\n".join(parts)


def _limits(delivery: Delivery) -> str:
    lines = ["## Limits", ""]
    if delivery.figures.accuracy is not None:
        lines.append(
            "* The accuracy is of images like those of the training; judge it on images of the "
            "place where it will be used."
        )
    lines.append("* One label an image. An image of none of the classes gets one all the same.")
    return "\n".join(lines)


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(first: str, second: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {first} | {second} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows)])


def _plain(text: str) -> str:
    """Return text as Markdown shows it letter by letter, on one line."""
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", escape(" ".join(text.split()), quote=False))
