"""Tasks: class subsets of a dataset with a size, a balance and a resolution drawn for each.

Every draw is seeded by the dataset's fingerprint and the task's number alone, so that another
dataset, or more tasks of the same one, leave the tasks already drawn as they were.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from search.data import TaskImages, hold_out, image_side, in_rounds

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from metad2a.spaces import SearchSpace


@dataclass(frozen=True)
class TaskKind:
    """What tasks are drawn like."""

    classes: tuple[int, int]
    """Least and most classes; a dataset of fewer than the least gives all that it has."""
    train_images: tuple[int, int]
    """Range of the number of training images, drawn log-uniformly (before an imbalance)."""
    class_images: int
    """Least training images of a class, where the dataset has them."""
    test_images: tuple[int, int]
    """Fewer images than the first in a dataset's own test side, and one is held out instead; never
    more than the second."""
    resolutions: Mapping[int, float]
    """Sides of the square images, in pixels, with their odds. A dataset of smaller images keeps its
    own side. None at all: every network has its own."""
    whole: float
    """Share of tasks that have all classes of their dataset, where it has no more than the most;
    the others draw how many, log-uniformly where this is above 0."""


CELLS = TaskKind((5, 20), (200, 2000), 8, (100, 500), {16: 0.5, 24: 0.3, 32: 0.2}, 0.0)
"""For spaces whose networks are trained from scratch: a training at 32 pixels costs four at 16."""
PRETRAINED = TaskKind((2, 60), (200, 1500), 4, (40, 250), {}, 0.7)
"""For spaces whose networks bring weights and a resolution: few images are much there. Of fewer than
200 training steps say nothing that the frozen network does not."""
IMBALANCED = 1 / 3
"""Share of tasks whose classes keep different fractions of their training images."""
UPRIGHT = ("cards and coins", "charts", "digits and letters", "signs and logos")
"""Families of images that mean something else when they are mirrored."""
PUBLISHED = "published:"
"""Beginning of the fingerprint of a dataset that is known from a table alone, without images."""
_LEAST = 3  # images of a class that can still be learnt: two to train on, one to hold out


@dataclass(frozen=True)
class Task:
    """A classification task: images of a dataset, by index.

    ``dataset`` is its fingerprint, ``classes`` the class numbers, which the task renumbers to
    0 .. c-1 in this order, ``train`` and ``test`` image indices, ``resolution`` a side in pixels,
    0 where each network has its own.
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

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Task:
        """Return the task of a row of exported tasks."""
        return cls(
            row["name"],
            row["fingerprint"],
            tuple(row["classes"]),
            tuple(row["train"]),
            tuple(row["test"]),
            row["resolution"],
        )

    @cached_property
    def key(self) -> str:
        """SHA-256 of the dataset's fingerprint and the definition, in hexadecimal."""
        text = json.dumps([self.dataset, self.definition()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def load(self, dataset: ImageDataset) -> TaskImages:
        """Return the images of the task, to be decoded when they are asked for.

        Raises:
            InputError: ``dataset`` is not the one that the task was drawn from, or has changed.
        """
        if dataset.fingerprint() != self.dataset:
            raise InputError(
                f"The content of {dataset.name!r} is not what the task {self.name!r} was drawn "
                f"from: fingerprint {dataset.fingerprint()}, not {self.dataset}. Restore its files."
            )
        return TaskImages(
            dataset,
            np.array(self.train),
            np.array(self.test),
            np.array(self.classes),
            self.resolution,
            family_of(dataset.name) not in UPRIGHT,
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


def kind_of(space: SearchSpace) -> TaskKind:
    """Return what tasks for a space are drawn like."""
    return PRETRAINED if space.pretrained else CELLS


def draw_tasks(
    dataset: ImageDataset,
    count: int,
    seed: int,
    fingerprint: str | None = None,
    kind: TaskKind = CELLS,
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
    fingerprint = fingerprint or dataset.fingerprint()
    side = image_side(dataset) if kind.resolutions else 0
    return [
        _draw(dataset, fingerprint, usable, side, kind, seed=seed, number=number)
        for number in range(count)
    ]


def _draw(
    dataset: ImageDataset,
    fingerprint: str,
    usable: np.ndarray,
    side: int,
    kind: TaskKind,
    *,
    seed: int,
    number: int,
) -> Task:
    rng = seeded("task", fingerprint, seed, number)
    classes = np.sort(rng.choice(usable, _count(dataset, usable, kind, rng), replace=False))
    resolution = 0
    if kind.resolutions:
        fitting = {r: odds for r, odds in kind.resolutions.items() if r <= side} or {side: 1.0}
        odds = np.array(list(fitting.values()))
        resolution = int(rng.choice(list(fitting), p=odds / odds.sum()))
    size = math.exp(rng.uniform(*np.log(kind.train_images)))
    keep = rng.uniform(0.1, 1, len(dataset.classes))
    if rng.random() >= IMBALANCED:
        keep[:] = 1

    mine = np.isin(dataset.labels, classes)
    train = in_rounds(dataset.labels, np.flatnonzero(mine & (dataset.split == 0)), rng)
    test = in_rounds(dataset.labels, np.flatnonzero(mine & (dataset.split == 1)), rng)
    if len(test) < kind.test_images[0]:
        train, test = hold_out(dataset.labels, train)
    train = train[: max(round(size), kind.class_images * len(classes))]
    train = np.concatenate(
        [
            own[: max(kind.class_images, round(keep[label] * len(own)))]
            for label in classes
            for own in [train[dataset.labels[train] == label]]
        ]
    )
    return Task(
        name=f"{dataset.name}-{number:03d}",
        dataset=fingerprint,
        classes=tuple(classes.tolist()),
        train=tuple(np.sort(train).tolist()),
        test=tuple(np.sort(test[: kind.test_images[1]]).tolist()),
        resolution=resolution,
    )


def _count(
    dataset: ImageDataset, usable: np.ndarray, kind: TaskKind, rng: np.random.Generator
) -> int:
    """Draw how many classes a task has."""
    low, high = (min(bound, len(usable)) for bound in kind.classes)
    if not kind.whole:
        return int(rng.integers(low, high + 1))
    if len(usable) <= high and rng.random() < kind.whole:
        return len(usable)
    # Fewer classes would leave a test side that says nothing, or no training images to speak of.
    for part, least in ((0, kind.train_images[0]), (1, kind.test_images[0])):
        images = int(np.isin(dataset.labels[dataset.split == part], usable).sum())
        if images >= least:
            low = max(low, min(high, math.ceil(least * len(usable) / images)))
    return round(math.exp(rng.uniform(math.log(low), math.log(high))))
