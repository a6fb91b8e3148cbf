"""Labels in the names of image files: ``cat.12.jpg``, ``0012_cat.png``, ``rose_3f2a.jpg``."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import PurePosixPath

from metad2a.datasets.layouts._words import is_general
from metad2a.settings import LIMITS

_BEFORE = re.compile(r"(.*?[^\W_])[\s._\-#(]*?(?<!\d)\d+\)?")
_BEFORE_NUMBER = re.compile(r"(\d{1,4})[\s._\-]+\w+")
_AFTER = re.compile(r"\(?\d+\)?[\s._\-]*([^\W\d_].*)")
_FIRST = re.compile(r"([^\W\d_]+)[\s._\-]+.*")
_LAST = re.compile(r".*[\s._\-]([^\W\d_]+)")
_PATTERNS = (_BEFORE, _AFTER, _BEFORE_NUMBER, _FIRST, _LAST)
_LEAST = 3
"""Images that a class must have on average: names that tell no class are all different."""
_SHARE = 0.95
"""Share of the images whose names must tell a label."""


@dataclass(frozen=True)
class Named:
    """How the names of files tell labels."""

    pattern: re.Pattern[str]
    classes: frozenset[str]
    example: tuple[str, str]
    """A path, and its label."""

    def note(self) -> str:
        """Return what is said of it."""
        path, label = self.example
        shown = ", ".join(repr(name) for name in sorted(self.classes)[:6])
        more = ", ..." if len(self.classes) > 6 else ""
        return (
            f"The labels are taken from the names of the files: {path!r} is {label!r}, of "
            f"{len(self.classes):,} classes ({shown}{more}). --classes-at PATTERN or --labels FILE "
            "says otherwise."
        )


def label_of(named: Named, path: str) -> str | None:
    """Return the label in a file's name."""
    return _label(named.pattern, path)


def labels_in_names(paths: list[str]) -> Named | None:
    """Return how names tell labels, or None where it is not plain that they do."""
    for pattern in _PATTERNS:
        labels = [_label(pattern, path) for path in paths]
        counts = Counter(label for label in labels if label is not None)
        kept = {label for label, count in counts.items() if count >= LIMITS.min_class_images}
        told = sum(counts[label] for label in kept)
        if (
            not LIMITS.min_classes <= len(kept) <= LIMITS.max_classes
            or told < _SHARE * len(paths)
            or told < _LEAST * len(kept)
            or any(is_general(label) for label in kept)
        ):
            continue
        if all(label.isdecimal() for label in kept) and not _plain_numbers(kept, paths):
            return None
        first = next(i for i, label in enumerate(labels) if label in kept)
        return Named(pattern, frozenset(kept), (paths[first], str(labels[first])))
    return None


def _label(pattern: re.Pattern[str], path: str) -> str | None:
    found = pattern.fullmatch(PurePosixPath(path).stem)
    return found[1].strip(" ._-") or None if found else None


def _plain_numbers(labels: set[str], paths: list[str]) -> bool:
    """Whether numbers can be labels: 0 or 1 to the last without a gap, and all ids differ.

    Tiles are numbered by row and column; their second numbers come again.
    """
    numbers = sorted(int(label) for label in labels)
    ids = [re.sub(r"^\d+[\s._\-]+", "", PurePosixPath(path).stem) for path in paths]
    return numbers in (
        list(range(len(numbers))),
        list(range(1, len(numbers) + 1)),
    ) and len(set(ids)) == len(ids)
