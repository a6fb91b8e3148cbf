"""What is wrong with labelled images: pictures that are there twice, and labels that are in doubt.

A picture on both sides of a split flatters whatever is judged by it (leakage), and one under two
labels teaches nothing. Two pictures are *copies* where their pixels are equal, and *alike* where
small versions of them, brought to one brightness and contrast, differ by less than
:data:`ALIKE` of what there is to see: the same picture in another size or format, or two moments of
one film. What is mirrored, turned or cropped is not found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from PIL import Image

from metad2a.datasets.base import ImageDataset

ALIKE = 0.07
"""Distance of unit vectors below which pictures are alike; JPEG at quality 75 is 0.01 to 0.06."""
LISTED = 20
"""Pairs that are listed."""
DOUBTS = 10
"""Labels in doubt that are listed."""
_SIDE = 16
_FLAT = 3.0
"""Deviation of the values, 0..255, below which there is nothing to see but one shade."""
_ROWS = 512


@dataclass(frozen=True)
class Twins:
    """Two pictures that are the same, or nearly."""

    first: str
    second: str
    copies: bool
    """Whether their pixels are equal."""
    across: bool
    """Whether one is for training and the other for validation or test."""
    labels: tuple[str, str]

    def __str__(self) -> str:
        one, other = self.labels
        about = [
            "copies" if self.copies else "alike",
            *(["one for training and one for test"] if self.across else []),
            *([f"labelled {one!r} and {other!r}"] if one != other else []),
        ]
        return f"{self.first} = {self.second} ({', '.join(about)})"


@dataclass(frozen=True)
class Doubt:
    """A label that the other images speak against."""

    index: int
    """Of the image in its dataset."""
    name: str
    label: str
    """The one that it has."""
    likelier: str
    """The one that a classifier gives it that was fitted without it."""
    probability: float
    """Of that, 0..1."""

    def __str__(self) -> str:
        return f"{self.name}: {self.label!r}, or {self.likelier!r} ({self.probability:.0%})"


@dataclass(frozen=True)
class Quality:
    """What was found among the images looked at."""

    looked: int
    """Images compared with one another."""
    copies: int
    """Images that another one has the pixels of, the first of each kind not counted."""
    alike: int
    """Images that are like another one without being its copy."""
    across: int
    """Images for validation or test that are like one for training, or a copy of it."""
    contrary: int
    """Images that are like one, or a copy of one, with another label."""
    twins: tuple[Twins, ...] = ()
    """The first :data:`LISTED`, the worst kinds first."""
    judged: int = 0
    """Images whose labels were held against the others'."""
    doubts: tuple[Doubt, ...] = ()
    """At most :data:`DOUBTS`, the most doubtful first."""

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know, a sentence each."""
        told = []
        if self.copies or self.alike:
            told.append(
                f"Of the {self.looked:,} images compared {self.copies:,} are copies of another one "
                f"and {self.alike:,} nearly so."
            )
        if self.across:
            told.append(
                f"Warning: {self.across:,} images for validation or test are also among those for "
                "training, or nearly: what is measured on them flatters."
            )
        if self.contrary:
            told.append(
                f"Warning: {self.contrary:,} images are there under two labels, or nearly so."
            )
        if self.doubts:
            told.append(
                f"Labels in doubt, of {self.judged:,}: "
                f"{'; '.join(str(one) for one in self.doubts[:3])}"
                + (f"; and {len(self.doubts) - 3:,} more." if len(self.doubts) > 3 else ".")
            )
        return tuple(told)

    def lines(self) -> list[str]:
        """Return all that is listed, a line each."""
        found = [*map(str, self.twins), *map(str, self.doubts)]
        return found and ["Copies, pictures alike and labels in doubt:", *(f"  {x}" for x in found)]

    def to_dict(self) -> dict[str, Any]:
        """Return the same as plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Print:
    """What is kept of a picture to find others like it."""

    digest: bytes
    """Of its size and pixels."""
    small: np.ndarray
    """uint8 (16, 16, 3)."""


def print_of(image: np.ndarray) -> Print:
    """Take the print of uint8 (height, width, 3)."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(image).data)
    small = Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return Print(digest.digest(), np.asarray(small))


def compare(dataset: ImageDataset, prints: Mapping[int, Print]) -> Quality:
    """Find the copies and the pictures alike among images of a dataset, by their prints."""
    indices = np.array(sorted(prints), dtype=np.int64)
    if len(indices) < 2:
        return Quality(len(indices), 0, 0, 0, 0)
    labels, test = dataset.labels[indices], dataset.split[indices] == 1
    _, kind = np.unique(
        np.array([prints[int(i)].digest for i in indices], dtype="S16"), return_inverse=True
    )
    small = np.stack([prints[int(i)].small for i in indices])
    partner, across, contrary = _partners(small, kind, labels, test)
    paired = partner >= 0
    first = np.zeros(len(indices), dtype=bool)
    first[np.unique(kind, return_index=True)[1]] = True
    copied = np.bincount(kind)[kind] > 1
    pairs: dict[tuple[int, int], tuple[bool, bool, bool]] = {}
    for i in np.flatnonzero(paired).tolist():
        j = int(partner[i])
        worst = (not (across[i] and contrary[i]), not across[i], not contrary[i])
        pairs.setdefault((min(i, j), max(i, j)), worst)
    twins = [
        Twins(
            dataset.locate(int(indices[i])),
            dataset.locate(int(indices[j])),
            bool(kind[i] == kind[j]),
            bool(test[i] != test[j]),
            (dataset.classes[labels[i]], dataset.classes[labels[j]]),
        )
        for i, j in sorted(pairs, key=lambda pair: (pairs[pair], pair))[:LISTED]
    ]
    return Quality(
        looked=len(indices),
        copies=int((copied & ~first).sum()),
        alike=int((paired & ~copied).sum()),
        across=int((across & test).sum()),
        contrary=int(contrary.sum()),
        twins=tuple(twins),
    )


def _partners(
    small: np.ndarray, kind: np.ndarray, labels: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each picture another one like it, or -1; one on the other side if there is any.

    Args:
        small: uint8 (n, 16, 16, 3).
        kind: int (n,), equal for copies.
        labels: int (n,).
        test: bool (n,).

    Returns:
        int64 (n,); bool (n,), whether any is on the other side; bool (n,), whether any has another
        label.
    """
    n = len(small)
    x = small.reshape(n, -1, small.shape[-1]).astype(np.float32)
    # Of each channel: where all are of one colour, that is not what there is to see.
    x = (x - x.mean(1, keepdims=True)).reshape(n, -1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    flat = length[:, 0] < _FLAT * np.sqrt(x.shape[1])
    x /= np.maximum(length, 1e-6)
    x[flat] = 0  # Like nothing but its copies.
    # Pictures alike are alike in any one direction, so that in the order of the one in which all
    # differ most they are near one another.
    rng = np.random.default_rng(0)
    centred = x[rng.permutation(n)[:2000]] - x.mean(0)
    direction = centred[0] + 1e-3
    for _ in range(8):
        direction = centred.T @ (centred @ direction)
        direction /= np.linalg.norm(direction) + 1e-12
    place = x @ direction
    order = np.argsort(place, kind="stable")
    x, place = x[order], place[order]
    kind, labels, test = kind[order], labels[order], test[order]
    partner = np.full(n, -1, dtype=np.int64)
    across, contrary = np.zeros(n, dtype=bool), np.zeros(n, dtype=bool)
    for start in range(0, n, _ROWS):
        rows = slice(start, min(start + _ROWS, n))
        low = int(np.searchsorted(place, place[rows][0] - ALIKE))
        high = int(np.searchsorted(place, place[rows][-1] + ALIKE, side="right"))
        near = slice(low, high)
        like = x[rows] @ x[near].T > 1 - ALIKE**2 / 2
        like |= kind[rows, None] == kind[None, near]
        like[np.arange(rows.stop - start), np.arange(start, rows.stop) - low] = False
        other_side = like & (test[rows, None] != test[None, near])
        other_label = like & (labels[rows, None] != labels[None, near])
        for some, told in ((like, None), (other_label, contrary), (other_side, across)):
            there = some.any(1)
            partner[rows][there] = some.argmax(1)[there] + low
            if told is not None:
                told[rows] = there
    back_partner = np.full(n, -1, dtype=np.int64)
    back_partner[order] = np.where(partner >= 0, order[partner], -1)
    back = np.empty(n, dtype=np.int64)
    back[order] = np.arange(n)
    return back_partner, across[back], contrary[back]
