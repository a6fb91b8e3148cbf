"""Golden answers: what a released model must say of tiny datasets that anyone can draw again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from metad2a.datasets import ImageDataset, load_dataset
from metad2a.errors import ArtifactError, InputError

if TYPE_CHECKING:
    from metad2a.model.metad2a import MetaD2A

DATASETS = ("stripes", "dots")
TOLERANCE = 0.1
"""Points of accuracy by which CPUs may differ."""
_COUNT = 6
_MOST = 1000
"""Architectures that a golden file may ask about for one dataset."""


def synthetic(name: str) -> ImageDataset:
    """Draw a dataset of 60 images: ``stripes`` (3 classes, colour) or ``dots`` (2 classes, gray).

    Raises:
        ArtifactError: no such dataset.
    """
    rng = np.random.default_rng(20)
    y, x = np.mgrid[:24, :24]
    if name == "stripes":
        labels = np.arange(60) % 3
        waves = [np.sin(x / 2), np.sin(y / 2), np.sin((x + y) / 3)]
        images = np.stack([waves[label] for label in labels])[..., None] * [60, 40, 20] + 128
    elif name == "dots":
        labels = np.arange(60) % 2
        shape = [(x - 12) ** 2 + (y - 12) ** 2 < 40, (x - 12) ** 2 + 4 * (y - 12) ** 2 < 60]
        images = np.stack([shape[label] for label in labels])[..., None] * [150, 150, 150] + 50.0
    else:
        raise ArtifactError(f"Unknown synthetic dataset {name!r}; known: {', '.join(DATASETS)}.")
    noise = rng.normal(0, 12, images.shape[:3])[..., None]
    return load_dataset((np.clip(images + noise, 0, 255).astype(np.uint8), labels))


def answers(model: MetaD2A) -> dict[str, Any]:
    """Return a model's predictions and generated architectures on both datasets."""
    rng = np.random.default_rng(0)
    cells = [model.space.format(model.space.sample(rng)) for _ in range(_COUNT)]
    found = {}
    for name in DATASETS:
        dataset = synthetic(name)
        prediction = model.predict(dataset, cells)
        found[name] = {
            "architectures": cells,
            "mean": [round(float(v), 4) for v in prediction.mean],
            "std": [round(float(v), 4) for v in prediction.std],
            "generated": model.generate(dataset, _COUNT),
        }
    return found


def compare(model: MetaD2A) -> tuple[dict[str, float], list[str]]:
    """Answer again what ``golden.json`` answers.

    Returns:
        The largest difference by dataset and figure (``"stripes mean"``), in points of accuracy;
        and what is wrong: a difference above :data:`TOLERANCE`, other architectures generated, or
        golden answers that are none.
    """
    gaps: dict[str, float] = {}
    problems: list[str] = []
    for name in dict.fromkeys([*DATASETS, *model.golden]):
        expected = model.golden.get(name)
        if name not in DATASETS or not _is_answer(expected):
            what = "is of an unknown dataset" if name not in DATASETS else "is missing or malformed"
            problems.append(f"golden.json: the answer {name!r} {what}")
            continue
        dataset = synthetic(name)
        try:
            prediction = model.predict(dataset, expected["architectures"])
        except InputError as error:
            problems.append(f"{name}: {error}")
            continue
        for key, values in (("mean", prediction.mean), ("std", prediction.std)):
            gap = float(np.abs(values - np.array(expected[key], dtype=float)).max())
            gaps[f"{name} {key}"] = gap
            if not gap <= TOLERANCE:
                problems.append(f"{name}: {key} differs by {gap:.3f} points (at most {TOLERANCE})")
        if model.generate(dataset, len(expected["generated"])) != expected["generated"]:
            problems.append(f"{name}: other architectures are generated")
    return gaps, problems


def differences(model: MetaD2A) -> list[str]:
    """Return how a model's answers differ from its own golden ones; empty if they agree."""
    return compare(model)[1]


def _is_answer(value: object) -> TypeGuard[dict[str, list[Any]]]:
    """Tell whether a value of ``golden.json`` has the form that :func:`answers` gives it."""
    if not isinstance(value, dict) or set(value) != {"architectures", "mean", "std", "generated"}:
        return False
    if not all(isinstance(part, list) and 0 < len(part) <= _MOST for part in value.values()):
        return False
    cells, figures = value["architectures"], [value["mean"], value["std"]]
    return (
        all(isinstance(cell, str) for cell in cells + value["generated"])
        and all(len(one) == len(cells) for one in figures)
        and all(
            type(number) in (int, float) and 0 <= number <= 100 for one in figures for number in one
        )
    )
