"""Golden answers: what a released model must say of tiny datasets that anyone can draw again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.datasets import ImageDataset, load_dataset
from metad2a.errors import ArtifactError

if TYPE_CHECKING:
    from metad2a.model.metad2a import MetaD2A

TOLERANCE = 0.1
"""Points of accuracy by which CPUs may differ."""
_COUNT = 6


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
        raise ArtifactError(f"Unknown synthetic dataset {name!r}; known: stripes, dots.")
    noise = rng.normal(0, 12, images.shape[:3])[..., None]
    return load_dataset((np.clip(images + noise, 0, 255).astype(np.uint8), labels))


def answers(model: MetaD2A) -> dict[str, Any]:
    """Return a model's predictions and generated architectures on both datasets."""
    rng = np.random.default_rng(0)
    cells = [model.space.format(model.space.sample(rng)) for _ in range(_COUNT)]
    found = {}
    for name in ("stripes", "dots"):
        dataset = synthetic(name)
        prediction = model.predict(dataset, cells)
        found[name] = {
            "architectures": cells,
            "mean": [round(float(v), 4) for v in prediction.mean],
            "std": [round(float(v), 4) for v in prediction.std],
            "generated": model.generate(dataset, _COUNT),
        }
    return found


def differences(model: MetaD2A) -> list[str]:
    """Return how a model's answers differ from its own golden ones; empty if they agree."""
    problems = []
    for name, expected in model.golden.items():
        dataset = synthetic(name)
        prediction = model.predict(dataset, expected["architectures"])
        for key, values in (("mean", prediction.mean), ("std", prediction.std)):
            gap = float(np.abs(values - np.array(expected[key])).max())
            if not gap <= TOLERANCE:
                problems.append(f"{name}: {key} differs by {gap:.3f} points (at most {TOLERANCE})")
        if model.generate(dataset, len(expected["generated"])) != expected["generated"]:
            problems.append(f"{name}: other architectures are generated")
    return problems
