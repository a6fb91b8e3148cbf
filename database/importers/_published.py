"""Datasets as they were published: known by name, for nobody hands on their images.

Such a dataset has the fingerprint ``published:NAME`` where others have the hash of their images,
and its tasks list no image, only how many there were. The family is that of the dataset's name,
so that a rule on families holds for published rows as for measured ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from database.exchange.rows import Row
from database.importers.base import Origin
from database.tasks import PUBLISHED, Task, family_of

CELLS = "nasbench201"
"""The search space of published cells."""


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset with the counts of its images and classes; ``side`` in pixels."""

    name: str
    train_images: int
    test_images: int
    classes: int
    side: int

    def task(
        self,
        classes: Sequence[int] | None = None,
        name: str = "",
        train_images: int | None = None,
        test_images: int | None = None,
    ) -> Row:
        """Return the task of some classes (their numbers from 0), or of all, as a plain row."""
        numbers = tuple(range(self.classes)) if classes is None else tuple(classes)
        task = Task(
            name or f"{self.name}-published", f"{PUBLISHED}{self.name}", numbers, (), (), self.side
        )
        return {
            "task": task.key,
            "name": task.name,
            "dataset": f"{self.name} (published)",
            "fingerprint": task.dataset,
            "family": family_of(self.name),
            "form": "published",
            "dataset_images": self.train_images + self.test_images,
            "dataset_classes": self.classes,
            "dataset_resolution": self.side,
            "train_images": self.train_images if train_images is None else train_images,
            "test_images": self.test_images if test_images is None else test_images,
            **task.definition(),
        }


CIFAR10 = PublishedDataset("cifar10", 50_000, 10_000, 10, 32)
CIFAR100 = PublishedDataset("cifar100", 50_000, 10_000, 100, 32)
IMAGENET16 = PublishedDataset("imagenet16-120", 151_700, 6_000, 120, 16)
IMAGENET32 = PublishedDataset("imagenet32", 1_281_167, 50_000, 1000, 32)


@dataclass(frozen=True)
class PublishedProtocol:
    """A recipe whose accuracies were published in percent, or scores as they are."""

    name: str
    description: str
    kind: str = "accuracy"
    """"accuracy" or "score"."""

    def evaluation(
        self,
        origin: Origin,
        task: Row,
        cell: str,
        index: int,
        value: float,
        seconds: float = 0.0,
        versions: str = "not published",
        space: str = CELLS,
    ) -> dict[str, Any]:
        """Return one value, as it was published, as a plain row.

        The seed is the official index of the cell: isomorphic cells, which are one architecture
        here, were trained one by one there. ``seconds`` is 0 where it was not published.
        """
        return {
            "task": task["task"],
            "space": space,
            "architecture": cell,
            "protocol": self.name,
            "kind": self.kind,
            "description": self.description,
            "seed": index,
            # As near to the decimal as can be: 63.364 % is 0.63364.
            "value": round(value / 100, 12) if self.kind == "accuracy" else value,
            "seconds": seconds,
            "curve": [],
            "device": "not published",
            "versions": versions,
            "created": origin.created,
            **origin.columns(),
        }
