"""Datasets for a first try without any of one's own: bundled with a package, or drawn here."""

from __future__ import annotations

import importlib.util

import numpy as np
from PIL import Image, ImageDraw

from metad2a.datasets import ImageDataset, load_dataset
from metad2a.errors import InputError

_SIDE, _EACH = 32, 60
_SHAPES = ("circle", "cross", "ring", "square", "stripes", "triangle")
_TITLES = {"digits": "Handwritten digits", "shapes": "Drawn shapes"}


def names() -> list[str]:
    """Return the examples that can be opened here."""
    known = ["shapes"]
    return ["digits", *known] if importlib.util.find_spec("sklearn") else known


def title(name: str) -> str:
    """Return what an example is called on the page."""
    return _TITLES[name]


def open_example(name: str) -> ImageDataset:
    """Open an example by its name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in names():
        raise InputError(f"There is no example {name[:60]!r}. Choose one of: {', '.join(names())}.")
    return load_dataset("sklearn:digits") if name == "digits" else _shapes()


def _shapes() -> ImageDataset:
    """Draw six kinds of coloured shapes on noisy ground; always the same ones."""
    rng = np.random.default_rng(0)
    images = np.stack([_draw(_SHAPES[i // _EACH], rng) for i in range(_EACH * len(_SHAPES))])
    labels = np.repeat(np.arange(len(_SHAPES)), _EACH)
    dataset = load_dataset(images, labels, classes=_SHAPES)
    dataset.name, dataset.form = "shapes", "example"
    return dataset


def _draw(shape: str, rng: np.random.Generator) -> np.ndarray:
    """Return uint8 (side, side, 3): a shape of random place, size and colour."""
    ground = Image.new("RGB", (_SIDE, _SIDE), tuple(rng.integers(150, 245, 3).tolist()))
    pen = ImageDraw.Draw(ground)
    radius = int(rng.integers(7, 12))
    x, y = rng.integers(radius + 1, _SIDE - radius - 1, 2).tolist()
    box = (x - radius, y - radius, x + radius, y + radius)
    ink = tuple(rng.integers(10, 120, 3).tolist())
    if shape == "circle":
        pen.ellipse(box, fill=ink)
    elif shape == "cross":
        pen.line((box[0], y, box[2], y), ink, 4)
        pen.line((x, box[1], x, box[3]), ink, 4)
    elif shape == "ring":
        pen.ellipse(box, outline=ink, width=3)
    elif shape == "square":
        pen.rectangle(box, fill=ink)
    elif shape == "stripes":
        for row in range(box[1], box[3] + 1, 5):
            pen.line((box[0], row, box[2], row), ink, 2)
    else:
        pen.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], ink)
    noisy = np.asarray(ground).astype(int) + rng.integers(-18, 19, (_SIDE, _SIDE, 3))
    return noisy.clip(0, 255).astype(np.uint8)
