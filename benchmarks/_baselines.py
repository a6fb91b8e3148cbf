"""The baselines of ``metad2a.model.baselines``, fitted on the evaluations inside the package.

CIFAR-10 has no part in them; a run ends with an error if it had.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from _nasbench import SPACE

from metad2a.errors import InputError
from metad2a.model.baselines import one_hot, ridge
from metad2a.model.dataset_training import logit
from metad2a.model.description import RESOLUTION, TRAIN_IMAGES, Description
from metad2a.model.meta_training import ACCURACY

TEST_IMAGES = 500
"""Taken for the size of every test side, which only bounds the logit of 0 and 100 %."""


@dataclass(frozen=True)
class Baselines:
    """Scores of all asked-about cells, float64 (n,) each, and how the nearest was found."""

    average: np.ndarray
    nearest: np.ndarray
    additive: np.ndarray
    nearest_dataset: str
    measure: str


def evaluations(protocol: str = "") -> list[dict[str, Any]]:
    """Return the rows of the package's evaluations, of one protocol if it is named.

    Raises:
        InputError: the file is missing, or holds CIFAR-10.
    """
    import pyarrow.parquet as pq

    path = Path(str(resources.files("metad2a"))) / "assets" / "database" / "evaluations.parquet"
    if not path.exists():
        raise InputError(f"{str(path)!r} does not exist; 'make model' writes it.")
    names = [
        "dataset",
        "task",
        "architecture",
        "protocol",
        "value",
        "classes",
        "train_images",
        "resolution",
    ]
    rows: list[dict[str, Any]] = pq.read_table(path, columns=names).to_pylist()
    if any("cifar" in row["dataset"] for row in rows):
        raise InputError(f"{str(path)!r} holds evaluations on CIFAR, so CIFAR-10 cannot judge it.")
    return [row for row in rows if protocol in ("", row["protocol"])]


def fit(cells: np.ndarray, description: Description, classes: int, cache: Path) -> Baselines:
    """Fit on the shipped stand-alone trainings and score int (n, slots) canonical cells.

    Args:
        cells: what to score.
        description: of the judged dataset.
        classes: its classes.
        cache: folder of described tasks, as ``metad2a meta train --cache`` leaves it. Where it
            lacks a task, the nearest dataset is found by classes, images and resolution alone.
    """
    rows = evaluations(ACCURACY)
    keys = list(dict.fromkeys(row["task"] for row in rows))
    task = np.array([keys.index(row["task"]) for row in rows])
    dataset = np.array([row["dataset"] for row in rows])
    value, _ = logit(np.array([row["value"] for row in rows]), np.array(TEST_IMAGES))
    means = np.array([value[task == i].mean() for i in range(len(keys))])
    effect = value - means[task]
    operations = [len(decision.values) for decision in SPACE.decisions]
    x = one_hot(SPACE.as_array([row["architecture"] for row in rows]), operations)
    asked = one_hot(cells, operations)
    average = asked @ ridge(x, effect)

    files = [cache / f"{key[:32]}-0.safetensors" for key in keys]
    if all(file.exists() for file in files):
        from safetensors.torch import load_file

        old = np.stack([load_file(file)["statistics"].numpy() for file in files])
        new, measure = description.statistics.numpy(), "all statistics of the description"
    else:
        first = [rows[int((task == i).argmax())] for i in range(len(keys))]
        sizes = [(r["classes"], r["train_images"], r["resolution"]) for r in first]
        old = np.log(np.array(sizes, dtype=float))
        new = np.log(np.array([classes, TRAIN_IMAGES, RESOLUTION], dtype=float))
        measure = "numbers of classes and images and resolution alone"
    centre, scale = old.mean(0), old.std(0) + 1e-6
    old, new = (old - centre) / scale, (new - centre) / scale
    near = str(dataset[(task == ((old - new) ** 2).sum(1).argmin()).argmax()])
    own = dataset == near
    one = np.ones((len(old), 1))
    level = np.append(new, 1.0) @ ridge(np.hstack([old, one]), means, 1.0)
    return Baselines(average, asked @ ridge(x[own], effect[own]), level + average, near, measure)
