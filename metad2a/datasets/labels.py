"""Labels of any kind as class indices and class names; what is no label, and what is several."""

from __future__ import annotations

import math
import statistics
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metad2a.datasets.arrays import as_numpy
from metad2a.errors import InputError

_NONE = frozenset(("", "nan", "<na>", "null"))
"""What a table writes, in lower case, where there is no label. ``none`` may be a class's name."""
_SEPARATORS = "|;,"
"""What stands between several labels of one image; spaces and slashes stand in names, too."""


@dataclass(frozen=True)
class Labelled:
    """The images of a list that have a label."""

    kept: np.ndarray
    """int64 (n,): their positions in the list, ascending."""
    labels: np.ndarray
    """int64 (n,): indices of their classes."""
    classes: tuple[str, ...]
    """Class names; every one has an image."""
    notes: tuple[str, ...]
    """Sentences on what was left out, for the report."""


def read_labels(labels: Any, names: Sequence[str] | None = None) -> Labelled:
    """Encode the labels of those images that have one.

    No label is: None, NaN, an empty text, ``nan``, ``<NA>`` or ``null``; a one-hot row of zeros; and
    -1 where the classes are counted from 0 or have names (as in STL-10, and in the test sides of
    sets whose answers are kept back).

    Args:
        labels: as in :func:`encode_labels`; one label in a list of its own is the label.
        names: class names that integer labels index.

    Raises:
        InputError: no image has a label, several labels stand for one image, or a label is no class.
    """
    values = _listed(labels)
    known = ~_missing(values, names)
    kept = np.flatnonzero(known)
    if len(values) and not len(kept):
        raise InputError(
            f"{len(values):,} of {len(values):,} labels are missing. Label the images, or some of them."
        )
    values = values[kept]
    if values.dtype.kind in "OU":
        refuse_several([value for value in values if isinstance(value, str)])
    encoded, classes = encode_labels(values, names)
    notes: tuple[str, ...] = ()
    if len(kept) < len(known):
        without = len(known) - len(kept)
        notes = (f"{without:,} of {len(known):,} images have no label and are left out.",)
    return Labelled(kept, encoded, classes, notes)


def refuse_several(texts: Sequence[str]) -> None:
    """Refuse texts that look like several labels of one image, such as ``cat|outdoor``.

    They do if half of those that differ are made of parts and parts are shared; parts between
    spaces, which names have too, must be three or more, each of them shared.

    Raises:
        InputError: they do.
    """
    distinct = sorted(set(texts))
    for separator in (*_SEPARATORS, " "):
        split = [
            parts
            for parts in ([p.strip() for p in t.split(separator) if p.strip()] for t in distinct)
            if len(parts) > 1
        ]
        if len(split) < 2 or 2 * len(split) < len(distinct):
            continue
        uses = Counter(part for parts in split for part in set(parts))
        several = (
            min(uses.values()) > 1 and statistics.median(map(len, split)) >= 3
            if separator == " "
            else max(uses.values()) > 1
        )
        if several:
            example = separator.join(split[0])
            raise InputError(
                f"Labels such as {example[:60]!r} look like several labels of one image. One label "
                "an image is learnt: keep one of them, or join them with '_' if the combination "
                "is the class."
            )


def one_spelling(labels: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Write class names that differ in case, Unicode form or spaces alone in one way, the usual one.

    Single characters are left alone: ``a`` and ``A`` are two letters.

    Returns:
        The labels, and a sentence on each name that was changed, for the report.
    """
    spellings: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for label, count in Counter(labels).items():
        spellings[_folded(label)][label] = count
    chosen: dict[str, str] = {}
    notes = []
    for folded, found in spellings.items():
        if len(found) > 1 and len(folded) > 1:
            best = max(sorted(found), key=lambda spelling: found[spelling])
            chosen.update(dict.fromkeys(found, best))
            notes.append(
                f"{', '.join(map(repr, sorted(found)))} are taken for one class, {best!r}."
            )
    return [chosen.get(label, label) for label in labels], tuple(notes)


def _folded(label: str) -> str:
    return " ".join(unicodedata.normalize("NFC", label).casefold().split())


def _listed(labels: Any) -> np.ndarray:
    """Return labels as an array with one row an image."""
    if isinstance(labels, (list, tuple)):
        if any(isinstance(label, str) or label is None for label in labels):
            labels = np.fromiter(labels, dtype=object)
        elif labels and all(isinstance(label, (list, tuple)) for label in labels):
            counts = {len(label) for label in labels}
            if counts == {1}:
                labels = np.fromiter((label[0] for label in labels), dtype=object)
            elif len(counts) > 1 or any(isinstance(part, str) for part in labels[0]):
                raise InputError(
                    f"The labels are lists of {min(counts)} to {max(counts)}: several labels of "
                    "one image. One label an image is learnt: keep one of them."
                )
    values = as_numpy(labels, "Labels")
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if not values.ndim:
        raise InputError("Labels have shape (); give one an image, shape (N,).")
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _missing(values: np.ndarray, names: Sequence[str] | None) -> np.ndarray:
    """Return bool (N,): which rows are no label."""
    if values.ndim == 2 and values.dtype.kind in "iufb":
        return np.asarray(~values.astype(bool).any(axis=1))
    if values.ndim != 1:
        return np.zeros(len(values) if values.ndim else 0, dtype=bool)
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        return np.asarray(missing | (_from_minus_one(values[~missing], names) & (values == -1)))
    if values.dtype.kind == "i":
        return np.asarray(_from_minus_one(values, names) & (values == -1))
    if values.dtype.kind not in "OU":
        return np.zeros(len(values), dtype=bool)
    none = [
        value is None
        or (isinstance(value, str) and value.strip().lower() in _NONE)
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ == "NAType"  # of pandas, which need not be there
        for value in values
    ]
    whole = [v for v in values if isinstance(v, (int, np.integer)) and not isinstance(v, bool)]
    if len(whole) == len(values) - sum(none) and _from_minus_one(np.array(whole), names):
        none = [was or value == -1 for was, value in zip(none, values, strict=True)]
    return np.array(none, dtype=bool)


def _from_minus_one(values: np.ndarray, names: Sequence[str] | None) -> bool:
    """Whether -1 stands beside labels that are counted from 0, so that it is none of them."""
    if not len(values) or values.min() != -1:
        return False
    return names is not None or bool((values == 0).any())


def encode_labels(
    labels: Any, names: Sequence[str] | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Turn labels into indices of the classes that have an image.

    Args:
        labels: integers, whole floats, strings, (N,) or (N, 1), or one-hot rows (N, K).
        names: class names that integer labels index; without them the name is the label itself.

    Returns:
        int64 (N,) indices, and the class names in their order. A class without an image is left
        out, and the others keep their order.

    Raises:
        InputError: labels of another kind, or outside ``names``.
    """
    if isinstance(labels, (list, tuple)) and any(isinstance(label, str) for label in labels):
        labels = np.fromiter(labels, dtype=object)  # NumPy would make text of a missing label.
    values = _flat(as_numpy(labels, "Labels"))
    if values.dtype.kind in "OU":
        found = sorted({str(value) for value in values})
        if names is not None:
            unknown = sorted(set(found) - set(names))
            if unknown:
                raise InputError(
                    f"Label {unknown[0]!r} is none of the {len(names)} class names "
                    f"given. Add it to the classes, or mend the label."
                )
            found = [name for name in names if name in set(found)]
        index = {name: i for i, name in enumerate(found)}
        return np.array([index[str(value)] for value in values], dtype=np.int64), tuple(found)
    present, encoded = np.unique(values, return_inverse=True)
    if names is None:
        return encoded.astype(np.int64), tuple(str(value) for value in present)
    outside = present[(present < 0) | (present >= len(names))]
    if len(outside):
        raise InputError(
            f"Label {outside[0]} is outside 0 to {len(names) - 1}, the indices of the "
            f"{len(names)} class names. Leave those images out, or mend the labels."
        )
    return encoded.astype(np.int64), tuple(str(names[value]) for value in present)


def _flat(values: np.ndarray) -> np.ndarray:
    """Return int64 (N,), or strings of dtype object or str, (N,)."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and values.dtype.kind in "iufb":
        if not (np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all()):
            raise InputError(
                f"Labels of shape {values.shape} are not one-hot: each row needs one "
                f"1 and zeros. Give one integer or string an image."
            )
        values = values.argmax(1)
    if values.ndim != 1:
        raise InputError(f"Labels have shape {values.shape}; give one an image, shape (N,).")
    if values.dtype.kind == "O":
        values = _plain(values)
    if values.dtype.kind == "U":
        return values
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind not in "iubfO":
        raise InputError(
            f"Labels of type {values.dtype} are not classes. Give integers or strings."
        )
    if values.dtype.kind in "uf":
        wrong = values[
            ~np.isfinite(values)
            | (values != np.rint(values))
            | (values >= 2.0**63)
            | (values < -(2.0**63))
        ]
        if len(wrong):
            raise InputError(f"Label {wrong[0]} is not a class. Give integers or strings.")
    return values if values.dtype.kind == "O" else values.astype(np.int64)


def _plain(values: np.ndarray) -> np.ndarray:
    """Return labels of dtype object as int64, or as strings of dtype object."""
    missing = sum(
        value is None or (isinstance(value, float) and math.isnan(value)) for value in values
    )
    if missing:
        raise InputError(
            f"{missing:,} of {len(values):,} labels are missing. "
            "Leave those images out, or label them."
        )
    wrong = [value for value in values if not isinstance(value, (str, int, np.integer))]
    if wrong:
        raise InputError(
            f"Label {str(wrong[0])[:60]!r} is a {type(wrong[0]).__name__}, not a "
            "class. Give integers or strings."
        )
    if any(isinstance(value, str) for value in values):
        return values
    if not all(-(2**63) <= value < 2**63 for value in values):
        raise InputError(
            "A label is an integer of more than 63 bits. Give smaller integers, or strings."
        )
    return values.astype(np.int64)
