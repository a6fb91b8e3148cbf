"""A small filled store for the tests that read one: three datasets, two protocols."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from database import Store, Task, draw_tasks
from metad2a.datasets import load_dataset
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
CELLS = [tuple(cell) for cell in SPACE.listed()[1000:1012].tolist()]
FORMS = [SPACE.format(cell) for cell in CELLS]
ACCURACY = Protocol("train-v1", "accuracy", "A training.")
SCORE = Protocol("score-v1", "score", "A score.")
NAMES = ("dots", "dots too", "stripes")


def write_images(root: Path) -> Path:
    """Write a folder a dataset: two of coloured noise, one of gray stripes."""
    for name in NAMES:
        rng = np.random.default_rng(len(name))
        for number in range(3):
            folder = root / name / f"class {number}"
            folder.mkdir(parents=True)
            for image in range(10):
                pixels = rng.integers(60 * number, 100 + 60 * number, (16, 16, 3))
                if name == "stripes":
                    pixels = np.zeros((16, 16, 3)) + 255 * (
                        np.arange(16)[:, None, None] // (number + 1 + image % 2) % 2
                    )
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{image}.png")
    return root


def fill(store: Store, data: Path) -> dict[str, list[Task]]:
    """Store the datasets with two tasks each and protocols; return the tasks, by dataset."""
    found = {}
    for protocol in (ACCURACY, SCORE):
        store.add_protocol(protocol)
    for name in NAMES:
        with load_dataset(data / name) as dataset:
            store.add_dataset(dataset, "noise" if "dots" in name else "patterns", 16)
            found[name] = draw_tasks(dataset, 2, seed=0)
        for task in found[name]:
            store.add_task(task)
    return found


def record(
    store: Store, task: Task, values: dict[int, float], protocol: str = "train-v1", seed: int = 0
) -> None:
    """Record the value of each of :data:`CELLS` that is named by its number."""
    curve = (0.1, 0.2) if protocol == "train-v1" else ()
    store.record(
        task.key,
        SPACE,
        [
            Measurement(protocol, CELLS[number], seed, value, 2.0, curve)
            for number, value in values.items()
        ],
        "cpu",
        "test 1",
    )
