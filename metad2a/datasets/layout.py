"""Class folders: from the relative paths of a tree or an archive to classes, labels and split."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from metad2a.datasets.decode import EXTENSIONS
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.names import check_characters
from metad2a.errors import InputError

SPLITS = {
    "train": 0,
    "training": 0,
    "val": 1,
    "valid": 1,
    "validation": 1,
    "dev": 1,
    "test": 1,
    "testing": 1,
}
"""Folder and file names, in lower case, that say which side of the split they hold."""


@dataclass(frozen=True)
class Layout:
    """The images of a tree, sorted by path; the arrays are as in ``ImageDataset``."""

    paths: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    split: np.ndarray


def is_image(path: str) -> bool:
    """Whether a relative path is an image by its ending, and neither hidden nor system litter."""
    if "/." in f"/{path}" or "__MACOSX" in path.split("/"):
        return False
    _, dot, ending = path.rpartition(".")
    return f"{dot}{ending.lower()}" in EXTENSIONS


def read_layout(paths: Iterable[str]) -> Layout:
    """Find the class folders among relative paths with ``/``.

    Folders that wrap everything are passed through, and a level of ``train``, ``val`` and
    ``test`` folders gives the split. The first folder below is the class, however deep the image
    lies in it. Images beside the class folders have no label and are left out.

    Raises:
        InputError: there is no image, or none in a class folder, or a name with control characters.
    """
    found = sorted(path for path in paths if is_image(path))
    for path in found:
        check_characters(path)
    if not found:
        raise InputError(
            f"No image found. Images are files that end in "
            f"{' '.join(sorted(EXTENSIONS))}, one folder a class."
        )
    parts = [tuple(path.split("/")) for path in found]
    level, splits = _levels(parts)
    labelled = [i for i, part in enumerate(parts) if len(part) > level + 1]
    if not labelled:
        raise InputError(
            f"{len(found):,} images found, but none in a class folder: the first is "
            f"{found[0]!r}. Put the images of each class in a folder of their own."
        )
    labels, classes = encode_labels(np.array([parts[i][level] for i in labelled], dtype=object))
    split = [SPLITS[parts[i][level - 1].lower()] if splits else 0 for i in labelled]
    return Layout([found[i] for i in labelled], labels, classes, np.array(split, dtype=np.int8))


def _levels(parts: list[tuple[str, ...]]) -> tuple[int, bool]:
    """Return the depth of the class folders, and whether the level above is the split."""
    level = 0
    while True:
        heads = {part[level] for part in parts if len(part) > level + 1}
        deeper = any(len(part) > level + 2 for part in parts)
        if heads and deeper and all(head.lower() in SPLITS for head in heads):
            return level + 1, True
        if len(heads) != 1 or not deeper:
            return level, False
        level += 1
