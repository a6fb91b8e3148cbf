"""Labels of any kind as class indices and class names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from metad2a.datasets.arrays import as_numpy
from metad2a.errors import InputError


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
