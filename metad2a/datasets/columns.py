"""Columns of Arrow tables and of Hugging Face's data sets: which are images, which labels."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.tables import FILE_COLUMNS, LABEL_COLUMNS, plain
from metad2a.errors import InputError

_IMAGES = ("image", "img", "images", "picture", "photo", "jpg", "png", "imagebytes", "data")
"""Names of the column of images, the surest first, without signs and in lower case."""
_NO_LABELS = frozenset((*FILE_COLUMNS, "index", "idx", "width", "height", "url", "caption", "text"))
"""Names of columns of texts or integers that are no labels."""


@dataclass(frozen=True)
class Columns:
    """The columns of an Arrow table that are used."""

    image: str
    """Name of the column of images."""
    bytes_in: str | None
    """Field of the column that holds the bytes of the files; None: the column itself does."""
    label: str | None
    """Name of the column of labels; None where there is none."""
    names: tuple[str, ...] | None
    """Class names that integer labels index."""
    notes: tuple[str, ...]
    """Sentences on what was chosen, for the report."""


def label_column(
    kinds: Mapping[str, str], named: Sequence[str] = ()
) -> tuple[str | None, tuple[str, ...]]:
    """Return the column that holds the labels, and sentences on how it was chosen.

    It is ``label``, or one with class names, or one called as columns of labels are, or the only one
    of texts or integers that is not called like something else.

    Args:
        kinds: ``text``, ``integer``, ``float``, ``several`` (a list in each row) or ``other``, by the
            names of the columns.
        named: those that come with class names.

    Raises:
        InputError: the column of labels holds lists.
    """
    by_name = sorted(
        (name for name in kinds if plain(name) in LABEL_COLUMNS and kinds[name] != "other"),
        key=lambda name: LABEL_COLUMNS.index(plain(name)),
    )
    order = [*(name for name in ("label",) if name in by_name), *named, *by_name]
    if order and kinds[order[0]] == "several":
        raise InputError(
            f"The column {order[0]!r} holds several labels of each image. One label an image is "
            "learnt: keep one of them in a column of integers or texts."
        )
    if order:
        others = [name for name in dict.fromkeys(order[1:]) if name != order[0]]
        also = f", not {', '.join(map(repr, others))}" if others else ""
        return order[0], (f"The labels are those of {order[0]!r}{also}.",) if others else ()
    rest = [
        name
        for name, kind in kinds.items()
        if kind in ("text", "integer") and plain(name) not in _NO_LABELS
    ]
    if len(rest) != 1:
        return None, ()
    return rest[0], (f"The labels are those of the column {rest[0]!r}.",)


def image_column(names: Sequence[str]) -> str:
    """Return the one of several columns of images that is the picture itself."""
    known = [name for name in names if plain(name) in _IMAGES]
    return min(known, key=lambda name: _IMAGES.index(plain(name))) if known else names[0]


def arrow_columns(schema: Any) -> Columns:
    """Return the columns of an Arrow schema that are used.

    Raises:
        InputError: no column holds images, or that of labels holds lists.
    """
    import pyarrow as pa

    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = features.get("info", {}).get("features", {})
    images: dict[str, str | None] = {}
    kinds: dict[str, str] = {}
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            images[field.name] = "bytes"
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            images[field.name] = None
        else:
            kinds[field.name] = _kind(pa.types, kind)
    if not images:  # In base64, as JSON has it, or not at all.
        texts = [name for name in kinds if kinds[name] == "text" and plain(name) in _IMAGES]
        images = dict.fromkeys(texts[:1])
    if not images:
        raise InputError(
            "The Parquet file has no image column (binary, or a struct with 'bytes'); its columns "
            f"are {', '.join(schema.names)}. Rename or convert the right one."
        )
    image = image_column(list(images))
    kinds.pop(image, None)
    named = [name for name in kinds if features.get(name, {}).get("_type") == "ClassLabel"]
    label, notes = label_column(kinds, named)
    names = features.get(label, {}).get("names") if label else None
    return Columns(
        image,
        images[image],
        label,
        tuple(map(str, names)) if isinstance(names, list) else None,
        notes,
    )


def _kind(types: Any, kind: Any) -> str:
    if types.is_dictionary(kind):
        return _kind(types, kind.value_type)
    if types.is_integer(kind) or types.is_boolean(kind):
        return "integer"
    if types.is_floating(kind):
        return "float"
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    several = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    return "several" if any(test(kind) for test in several) else "other"


def no_label_column(names: Sequence[str], where: str) -> InputError:
    """Return the refusal of a table without labels."""
    return InputError(
        f"{where} has no label column (integer or string, called 'label'); its columns are "
        f"{', '.join(names)}. Rename or convert the right one."
    )


def arrow_labels(column: Any) -> np.ndarray:
    """Return the values of an Arrow column as integers, or as an array of objects."""
    import pyarrow as pa

    kind = column.type
    if not column.null_count and (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        # Its own to_numpy would import pandas, half a second.
        parts = [np.from_dlpack(chunk) for chunk in column.chunks if len(chunk)]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    values = column.to_pylist()
    if pa.types.is_boolean(kind):
        values = [None if value is None else str(value) for value in values]
    return np.fromiter(values, dtype=object, count=len(values))


def image_bytes(value: Any) -> bytes:
    """Return the bytes of an image file from what a table holds.

    Raises:
        UnreadableImage: there are none.
    """
    if not value:
        raise UnreadableImage("no image bytes in the row")
    if isinstance(value, str):
        try:
            return base64.b64decode(value.partition("base64,")[2] or value, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UnreadableImage("a text that is no image in base64") from error
    return bytes(value)
