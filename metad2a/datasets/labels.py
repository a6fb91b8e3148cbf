"""Labels of any kind as class indices and class names."""

from __future__ import annotations

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
    values = _flat(as_numpy(labels, "Labels"))
    if values.dtype.kind in "OUS":
        found = sorted({str(value) for value in values})
        if names is not None:
            unknown = sorted(set(found) - set(names))
            if unknown:
                raise InputError(f"Label {unknown[0]!r} is none of the {len(names)} class names "
                                 f"given. Add it to the classes, or mend the label.")
            found = [name for name in names if name in set(found)]
        index = {name: i for i, name in enumerate(found)}
        return np.array([index[str(value)] for value in values], dtype=np.int64), tuple(found)
    present, encoded = np.unique(values, return_inverse=True)
    if names is None:
        return encoded.astype(np.int64), tuple(str(value) for value in present)
    outside = present[(present < 0) | (present >= len(names))]
    if len(outside):
        raise InputError(f"Label {outside[0]} is outside 0 to {len(names) - 1}, the indices of the "
                         f"{len(names)} class names. Leave those images out, or mend the labels.")
    return encoded.astype(np.int64), tuple(str(names[value]) for value in present)


def _flat(values: np.ndarray) -> np.ndarray:
    """Return (N,) integers or strings."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.dtype.kind == "O" and all(isinstance(value, int) for value in values.flat):
        values = values.astype(np.int64)
    if values.ndim == 2 and values.dtype.kind in "iufb":
        if not (np.isin(values, (0, 1)).all() and (values.sum(1) == 1).all()):
            raise InputError(f"Labels of shape {values.shape} are not one-hot: each row needs one "
                             f"1 and zeros. Give one integer or string an image.")
        values = values.argmax(1)
    if values.ndim != 1:
        raise InputError(f"Labels have shape {values.shape}; give one an image, shape (N,).")
    if values.dtype.kind == "f":
        wrong = values[~np.isfinite(values) | (values != np.rint(values))]
        if len(wrong):
            raise InputError(f"Label {wrong[0]} is not a class. Give integers or strings.")
        values = values.astype(np.int64)
    if values.dtype.kind not in "iubOUS":
        raise InputError(f"Labels of type {values.dtype} are not classes. "
                         "Give integers or strings.")
    if values.dtype.kind == "O" and any(value is None for value in values):
        missing = sum(value is None for value in values)
        raise InputError(f"{missing:,} of {len(values):,} labels are missing. "
                         "Leave those images out, or label them.")
    return values.astype(np.int64) if values.dtype.kind in "iub" else values
