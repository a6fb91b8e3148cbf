"""Tasks: class subsets of a dataset with a size, a balance and a resolution drawn for each.

Every draw is seeded by the dataset's fingerprint and the task's number alone, so that another
dataset, or more tasks of the same one, leave the tasks already drawn as they were.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from search.data import TaskData, hold_out, image_side, in_rounds, load_task

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset

CLASSES = (5, 20)
"""Least and most classes of a task; a dataset of fewer than the least gives all that it has."""
TRAIN_IMAGES = (200, 2000)
"""Range of the number of training images, drawn log-uniformly (before an imbalance)."""
CLASS_IMAGES = 8
"""Least training images of a class, where the dataset has them."""
TEST_IMAGES = (100, 500)
"""Fewer images than the first in a dataset's own test side, and one is held out instead; never
more than the second."""
RESOLUTIONS = {16: 0.5, 24: 0.3, 32: 0.2}
"""Sides of the square images, in pixels, with their odds: a training at 32 costs four at 16. A
dataset of smaller images keeps its own side."""
IMBALANCED = 1 / 3
"""Share of tasks whose classes keep different fractions of their training images."""
PUBLISHED = "published:"
"""Beginning of the fingerprint of a dataset that is known from a table alone, without images."""
_LEAST = 3  # images of a class that can still be learnt: two to train on, one to hold out


@dataclass(frozen=True)
class Task:
    """A classification task: images of a dataset, by index.

    ``dataset`` is its fingerprint, ``classes`` the class numbers, which the task renumbers to
    0 .. c-1 in this order, ``train`` and ``test`` image indices, ``resolution`` a side in pixels.
    """

    name: str
    dataset: str
    classes: tuple[int, ...]
    train: tuple[int, ...]
    test: tuple[int, ...]
    resolution: int

    def definition(self) -> dict[str, Any]:
        """Return what makes the task, as JSON: everything but the names."""
        return {
            "classes": self.classes,
            "train": self.train,
            "test": self.test,
            "resolution": self.resolution,
        }

    @cached_property
    def key(self) -> str:
        """SHA-256 of the dataset's fingerprint and the definition, in hexadecimal."""
        text = json.dumps([self.dataset, self.definition()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, dataset: ImageDataset) -> TaskData:
        """Decode the images of the task.

        Raises:
            InputError: ``dataset`` is not the one that the task was drawn from, or has changed.
        """
        if dataset.fingerprint() != self.dataset:
            raise InputError(
                f"The content of {dataset.name!r} is not what the task {self.name!r} was drawn "
                f"from: fingerprint {dataset.fingerprint()}, not {self.dataset}. Restore its files."
            )
        return load_task(
            dataset,
            np.array(self.train),
            np.array(self.test),
            np.array(self.classes),
            self.resolution,
        )


def seeded(*parts: object) -> np.random.Generator:
    """Return a generator seeded by ``parts``, the same in every process."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return np.random.default_rng(list(digest))


@cache
def _families() -> dict[str, str]:
    listed = tomllib.loads(files("database").joinpath("families.toml").read_text("utf-8"))
    return {name: family for family, names in listed.items() for name in names}


def family_of(name: str) -> str:
    """Return the family of a dataset; one that is not in ``families.toml`` is its own."""
    return _families().get(name, name)


def draw_tasks(
    dataset: ImageDataset, count: int, seed: int, fingerprint: str | None = None
) -> list[Task]:
    """Draw ``count`` tasks; the first ones are the same for every ``count``.

    ``fingerprint`` is the dataset's, for those who know it: to work it out reads every image.

    Raises:
        InputError: fewer than 2 classes have the 3 training images that a task needs of each.
    """
    sizes = np.bincount(dataset.labels[dataset.split == 0], minlength=len(dataset.classes))
    usable = np.flatnonzero(sizes >= _LEAST)
    if len(usable) < 2:
        raise InputError(
            f"{dataset.name!r} has {len(usable)} classes with {_LEAST} training images or more; a "
            "task needs 2. Add images."
        )
    side, fingerprint = image_side(dataset), fingerprint or dataset.fingerprint()
    return [
        _draw(dataset, fingerprint, usable, side, seed=seed, number=number)
        for number in range(count)
    ]


def _draw(
    dataset: ImageDataset,
    fingerprint: str,
    usable: np.ndarray,
    side: int,
    *,
    seed: int,
    number: int,
) -> Task:
    rng = seeded("task", fingerprint, seed, number)
    low, high = (min(bound, len(usable)) for bound in CLASSES)
    classes = np.sort(rng.choice(usable, rng.integers(low, high + 1), replace=False))
    fitting = {r: odds for r, odds in RESOLUTIONS.items() if r <= side} or {side: 1.0}
    odds = np.array(list(fitting.values()))
    resolution = int(rng.choice(list(fitting), p=odds / odds.sum()))
    size = math.exp(rng.uniform(*np.log(TRAIN_IMAGES)))
    keep = rng.uniform(0.1, 1, len(dataset.classes))
    if rng.random() >= IMBALANCED:
        keep[:] = 1

    mine = np.isin(dataset.labels, classes)
    train = in_rounds(dataset.labels, np.flatnonzero(mine & (dataset.split == 0)), rng)
    test = in_rounds(dataset.labels, np.flatnonzero(mine & (dataset.split == 1)), rng)
    if len(test) < TEST_IMAGES[0]:
        train, test = hold_out(dataset.labels, train)
    train = train[: max(round(size), CLASS_IMAGES * len(classes))]
    train = np.concatenate(
        [
            own[: max(CLASS_IMAGES, round(keep[label] * len(own)))]
            for label in classes
            for own in [train[dataset.labels[train] == label]]
        ]
    )
    return Task(
        name=f"{dataset.name}-{number:03d}",
        dataset=fingerprint,
        classes=tuple(classes.tolist()),
        train=tuple(np.sort(train).tolist()),
        test=tuple(np.sort(test[: TEST_IMAGES[1]]).tolist()),
        resolution=resolution,
    )
