"""Lists of labels beside images: which column names the files, and which the classes."""

from __future__ import annotations

import csv
import io
import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import PurePosixPath

from metad2a.datasets.layout import Folder, Reader, folded

_ENDINGS = (".csv", ".tsv", ".txt")
_LABELS = ("label", "labels", "class", "classid", "class_id", "category", "target", "species")
_ROWS = 2_000_000
_SAMPLE = 200
_NAMED, _KNOWN = 0.8, 0.95
"""Shares: of the images that a list has to name, and of those that must have a known class."""


def listed_labels(
    folder: Folder, beside: Iterable[Folder], reader: Reader, classes: Collection[str]
) -> tuple[dict[str, str], str] | None:
    """Return the classes of a folder's images from a list of names and labels, if there is one.

    Args:
        folder: whose images are looked for.
        beside: folders in which a list may lie.
        reader: reads the texts.
        classes: names that are known; a label is one of them or of the same number.

    Returns:
        Class by path, and the path of the list.
    """
    images: dict[str, str] = {}
    for path in folder.paths():
        file = PurePosixPath(path)
        images[file.name.lower()] = images[file.stem.lower()] = path
    known = {folded(name): name for name in classes}
    for place in beside:
        for name in sorted(place.others):
            if PurePosixPath(name).suffix.lower() in _ENDINGS:
                found = _read(reader.text(place.path + name), images, known)
                if len(found) >= _NAMED * folder.total:
                    return found, place.path + name
    return None


def _read(text: str, images: dict[str, str], known: dict[str, str]) -> dict[str, str]:
    rows = list(itertools.islice(_rows(text), _ROWS))
    column = _most(
        (i for row in rows[:_SAMPLE] for i, value in enumerate(row) if _image(value, images)),
    )
    if column is None:
        return {}
    found = [
        (path, row)
        for row in rows
        if len(row) > column and (path := _image(row[column], images)) is not None
    ]
    header = [value.strip().lower() for value in rows[0]]
    width = min((len(row) for _, row in found), default=0)
    best: tuple[bool, int, dict[str, str]] = (False, 0, {})
    for i in range(width):
        labels = {path: label for path, row in found if (label := _label(row[i], known))}
        named = i < len(header) and header[i] in _LABELS
        if i != column and len(labels) >= _KNOWN * len(found):
            best = max(best, (named, len(labels), labels), key=lambda one: one[:2])
    return best[2]


def _rows(text: str) -> Iterator[list[str]]:
    head = text[:10_000]
    delimiter = max("\t,;", key=head.count)
    if not head.count(delimiter):
        yield from (line.split() for line in text.splitlines() if line.strip())
        return
    try:
        yield from (row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row)
    except csv.Error:  # It is no list, whatever else it may be.
        return


def _image(value: str, images: dict[str, str]) -> str | None:
    return images.get(value.strip().replace("\\", "/").rpartition("/")[2].lower())


def _label(value: str, known: dict[str, str]) -> str | None:
    """Return the class that a field begins with; ImageNet's have boxes after it."""
    return known.get(folded(value)) or known.get(folded((value.split() or [""])[0]))


def _most(columns: Iterable[int]) -> int | None:
    counted = Counter(columns).most_common(1)
    return counted[0][0] if counted else None
