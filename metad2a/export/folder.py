"""A trained network as a folder: weights, code, ONNX, labels, card; written whole or not at all."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a import _files
from metad2a._files import new_folder, write_file
from metad2a.errors import ArtifactError, InputError
from metad2a.export import charts, onnx_model, runtime
from metad2a.export.delivered import Delivered
from metad2a.export.delivery import Delivery, Figures
from metad2a.export.model_card import card
from metad2a.export.model_py import code
from metad2a.export.runtime import Int8, Measured

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Delivery", "Figures", "Saved", "check_free", "description", "save", "write_onnx"]

FORMAT_VERSION = 2
"""Of ``architecture.json``; the first version described networks without class names."""
ARCHITECTURE, WEIGHTS, LABELS = "architecture.json", "model.safetensors", "labels.json"
PREPROCESSING, CARD = "preprocessing.json", "README.md"
FLOAT, EIGHT_BITS = "model.onnx", "model.int8.onnx"
OWN = (
    ARCHITECTURE,
    WEIGHTS,
    "model.py",
    FLOAT,
    EIGHT_BITS,
    LABELS,
    PREPROCESSING,
    CARD,
    "confusion.svg",
    "curve.svg",
    "drawing.svg",
    # Of folders of untrained networks, which a trained one may replace.
    "card.md",
    "architecture.svg",
    "__pycache__",  # of a model.py that was imported
)
"""What a folder of ours may hold."""


@dataclass(frozen=True)
class Saved:
    """What was written."""

    folder: Path
    files: Mapping[str, int]
    """Bytes by name."""
    int8: Int8 | None = None
    """What the 8-bit file loses, where one was wanted and there were images to tell."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def __str__(self) -> str:
        lines = [f"Written to {self.folder}: {', '.join(self.files)}"]
        if self.int8 is not None:
            lines.append(str(self.int8))
        return "\n".join([*lines, *self.notes])


def check_free(folder: str | Path) -> None:
    """Refuse a folder that :func:`save` could not write, before anything is trained for it.

    Raises:
        InputError: it is a file, or a folder that holds other files than an earlier result.
    """
    _files.check_free(Path(folder), OWN)


def save(delivery: Delivery, folder: str | Path, *, onnx: bool = True, int8: bool = False) -> Saved:
    """Write a network with all that belongs to it.

    What cannot be made of a network (an ONNX file of an unknown operation, say) is left out and
    said in ``notes``: a training is not lost for it. An untrained network leaves as code, without
    weights and ONNX files.

    Args:
        delivery: the network and what is known of it.
        folder: a new or an empty one, or one that an earlier call made, which is replaced.
        onnx: write ``model.onnx``; it takes about a second.
        int8: write ``model.int8.onnx`` and ``model.onnx``; it takes up to minutes.

    Raises:
        InputError: the folder holds other files, or ``int8`` is wanted without onnxruntime or
            images to calibrate with.
        ArtifactError: the folder cannot be written.
    """
    if int8 and delivery.trained:
        runtime.check_int8(delivery.calibration)
    text = code(delivery)
    with new_folder(folder, OWN) as made:
        _write_text(made / "model.py", text)
        labels = dict(enumerate(delivery.classes))
        _write_json(made / LABELS, labels)
        _write_json(made / PREPROCESSING, {"format_version": 1} | delivery.preprocessing())
        digest = _write_weights(made, delivery) if delivery.trained else None
        pictures, notes = _write_pictures(made, delivery)
        found: dict[str, Measured] = {}
        loss = None
        if delivery.trained and (onnx or int8):
            try:
                loss = _write_onnx(made, delivery, int8, found)
            except (ArtifactError, InputError) as error:
                notes.append(f"An ONNX file is left out: {error}")
        _write_text(made / CARD, card(delivery, pictures, found, loss))
        _write_json(made / ARCHITECTURE, described(delivery, digest, found, loss))
        sizes = {path.name: path.stat().st_size for path in sorted(made.iterdir())}
    return Saved(Path(folder), sizes, loss, tuple(notes))


def write_onnx(delivery: Delivery, path: str | Path) -> Delivered:
    """Write a network as one ONNX file, trained or not, and return it with its normalisation.

    Raises:
        InputError: the network is too large for one file, or the package onnx is missing.
        ArtifactError: the network has an operation without an ONNX form, or the file cannot be
            written.
    """
    network = copy.deepcopy(delivery.network).cpu()
    whole = Delivered(network, delivery.mean, delivery.deviation).eval()
    onnx_model.write(whole, path, delivery.resolution, metadata(delivery))
    return whole


def description(delivery: Delivery) -> str:
    """Return what ``architecture.json`` says of a network whose weights are not beside it."""
    return _json(described(delivery, None, {}, None))


def _write_weights(made: Path, delivery: Delivery) -> str:
    """Write the weights by the names of the plain network, and return their SHA-256."""
    from safetensors.torch import save as to_bytes

    state = delivery.network.state_dict()
    content = to_bytes({name: value.detach().cpu().contiguous() for name, value in state.items()})
    write_file(made / WEIGHTS, content)
    return hashlib.sha256(content).hexdigest()


def _write_pictures(made: Path, delivery: Delivery) -> tuple[list[str], list[str]]:
    """Write the pictures; return the names of their files, and notes."""
    from metad2a.draw import svg
    from metad2a.spaces import SPACES

    pictures, notes, figures = {}, [], delivery.figures
    if figures.confusion is not None:
        pictures["confusion.svg"] = charts.confusion(figures.confusion, delivery.classes)
    if figures.curve:
        pictures["curve.svg"] = charts.curve(figures.curve)
    try:
        pictures["drawing.svg"] = svg(SPACES.get(delivery.space), delivery.architecture)
    except InputError as error:
        notes.append(f"drawing.svg is left out: {error}")
    for name, text in pictures.items():
        _write_text(made / name, text)
    return list(pictures), notes


def _write_onnx(
    made: Path, delivery: Delivery, int8: bool, found: dict[str, Measured]
) -> Int8 | None:
    """Write the ONNX files, checked where ONNX Runtime is here; note what was ``found``."""
    path = made / FLOAT
    whole = write_onnx(delivery, path)
    try:
        if runtime.installed():
            runtime.check(path, whole, _examples(delivery))
    except ArtifactError:
        path.unlink()
        raise
    found[FLOAT] = runtime.measure(path, delivery.resolution)
    if not int8 or delivery.calibration is None:
        return None
    small = made / EIGHT_BITS
    runtime.quantise(path, small, delivery.calibration)
    found[EIGHT_BITS] = runtime.measure(small, delivery.resolution)
    return runtime.compare(path, small, delivery.test)


def _examples(delivery: Delivery) -> Tensor:
    """Return a few images to compare two forms of the network by, float32 0..1."""
    import torch

    if delivery.calibration is not None and len(delivery.calibration):
        return delivery.calibration[:3].cpu().contiguous().float() / 255
    side = delivery.resolution
    return torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))


def metadata(delivery: Delivery) -> dict[str, str]:
    """Return what the ONNX file says of itself, JSON where it is no plain text."""
    figures = delivery.figures
    told = {
        "classes": json.dumps(list(delivery.classes)),
        "preprocessing": json.dumps(delivery.preprocessing()),
        "output": "logits; their softmax are probabilities",
        "license": delivery.weights_licence or "Apache-2.0",
        "space": delivery.space,
        "architecture": delivery.architecture,
    }
    for name in ("accuracy", "balanced_accuracy"):
        if (value := getattr(figures, name)) is not None:
            told[name] = f"{value:.2f}"
    return told


def described(
    delivery: Delivery, digest: str | None, found: Mapping[str, Measured], loss: Int8 | None
) -> dict[str, Any]:
    """Return what ``architecture.json`` holds."""
    figures, network = delivery.figures, type(delivery.network)
    return {
        "format_version": FORMAT_VERSION,
        "space": delivery.space,
        "architecture": delivery.architecture,
        "classes": len(delivery.classes),
        "resolution": delivery.resolution,
        "params": figures.params,
        "macs": figures.macs,
        "network": {
            "file": network.__module__.rpartition(".")[2],
            "class": network.__name__,
            "config": delivery.network.config,
        },
        "weights": None if digest is None else {"file": WEIGHTS, "sha256": digest},
        "pretrained": {"weights": delivery.pretrained, "licence": delivery.weights_licence}
        if delivery.pretrained
        else None,
        "accuracy": figures.accuracy,
        "balanced_accuracy": figures.balanced_accuracy,
        "predicted": figures.predicted,
        "interval": None if figures.interval is None else list(figures.interval),
        "confusion": None if figures.confusion is None else figures.confusion.tolist(),
        "curve": [list(point) for point in figures.curve],
        "plan": dict(figures.plan),
        "images": figures.images,
        "epochs": figures.epochs,
        "seconds": figures.seconds,
        "report": delivery.report,
        "onnx": {name: {"bytes": one.bytes, "milliseconds": one.ms} for name, one in found.items()},
        "int8": None
        if loss is None
        else {
            "images": loss.images,
            "accuracy": loss.accuracy,
            "float_accuracy": loss.float_accuracy,
        },
    }


def _write_json(path: Path, value: Mapping[Any, Any]) -> None:
    _write_text(path, _json(value))


def _json(value: Mapping[Any, Any]) -> str:
    """Return an object, one line a key."""
    lines = [
        f"  {json.dumps(str(key))}: {json.dumps(inner, ensure_ascii=False, allow_nan=False)}"
        for key, inner in value.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _write_text(path: Path, text: str) -> None:
    # Half of a surrogate pair, from a file's name say, becomes the escape that JSON has for it.
    write_file(path, text.encode("utf-8", "backslashreplace"))
