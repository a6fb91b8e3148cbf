"""Which images of a dataset train, which choose, and which judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset

TEST_SHARE = 0.2
"""Of each class, where the dataset has no test side of its own."""
CHOICE_SHARE = 0.12
"""Of each class of the training side: what recipes and states are chosen by."""
MOST_CHOICE = 500
_LEAST = 2  # training images of a class


@dataclass(frozen=True)
class Sides:
    """Image indices, int64, sorted; no image is on two sides."""

    train: np.ndarray
    choice: np.ndarray
    """What decisions are taken by; may be empty."""
    test: np.ndarray
    """What nothing is chosen by."""
    own_test: bool
    """Whether the test side is the dataset's own."""


def split(dataset: ImageDataset, seed: int) -> Sides:
    """Divide a dataset.

    Its own test side is kept, if most of its classes are there, but for two images of each class
    that stands there alone; else every fifth image of a class is held out. Classes of few images
    give to the training side first.

    Raises:
        InputError: a class has fewer than two images to train on.
    """
    rng = np.random.default_rng([seed, 17])
    labels, classes = dataset.labels, len(dataset.classes)
    own = dataset.split.astype(bool)
    # A side that lacks half of the classes says nothing about them.
    own_test = len(np.unique(labels[own])) * 2 > classes and not own.all()
    if own_test:
        own = _lent(labels, own, rng)
    pool = np.flatnonzero(~own) if own_test else np.arange(len(labels))
    test = np.flatnonzero(own) if own_test else _held(labels, pool, TEST_SHARE, rng, least=1)
    rest = np.setdiff1d(pool, test)
    counts = np.bincount(labels[rest], minlength=classes)
    thin = np.flatnonzero(counts < _LEAST)
    if len(thin):
        raise InputError(
            f"Class {dataset.classes[thin[0]]!r} of {dataset.name!r} has {counts[thin[0]]} images "
            f"to train on beside the test side{_others(len(thin))}; at least {_LEAST} are needed. "
            "Add images, or remove the class."
        )
    choice = _held(labels, rest, CHOICE_SHARE, rng, least=0)
    if len(choice) > MOST_CHOICE:
        choice = np.sort(rng.permutation(choice)[:MOST_CHOICE])
    return Sides(np.setdiff1d(rest, choice), choice, test, own_test)


def _lent(labels: np.ndarray, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return bool (n,), the test side, which lends images to a class that has none to train on."""
    lacking = _LEAST - np.bincount(labels[~own], minlength=int(labels.max()) + 1)
    own = own.copy()
    for label in np.flatnonzero(lacking > 0):
        own[rng.permutation(np.flatnonzero(own & (labels == label)))[: lacking[label]]] = False
    return own


def _others(thin: int) -> str:
    return f" (and {thin - 1:,} other classes as few)" if thin > 1 else ""


def _held(
    labels: np.ndarray, pool: np.ndarray, share: float, rng: np.random.Generator, least: int
) -> np.ndarray:
    """Return a share of each class, rounded at random so that small classes give some too."""
    held = []
    for label in np.unique(labels[pool]):
        mine = rng.permutation(pool[labels[pool] == label])
        wanted = max(least, int(share * len(mine) + rng.random()))
        held.append(mine[: max(0, min(wanted, len(mine) - _LEAST))])
    return np.sort(np.concatenate([*held, np.empty(0, dtype=np.int64)]))
