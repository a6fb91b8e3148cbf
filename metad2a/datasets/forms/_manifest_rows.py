"""The rows of a manifest: CSV as spreadsheets and scripts write it, or JSON lines."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from metad2a.errors import InputError

MOST_BYTES = 64 * 2**20
"""Bytes of a manifest."""
MOST_COLUMNS = 1_000
"""Columns of a CSV manifest."""
_DELIMITERS = ",;\t"
_LISTED = 5
_WANTED = "file_name, label and, if wanted, split"


class Row(NamedTuple):
    """One image of a manifest."""

    line: int
    """Where the row ends in the file, counted from 1."""
    file: str
    label: str | int
    split: str


def read_rows(path: Path) -> list[Row]:
    """Return the rows of a ``.jsonl`` file, or of a CSV separated by comma, semicolon or tab.

    Raises:
        InputError: it is too large, no UTF-8 text, or a row cannot be understood.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(
                f"{path.name!r} has more than {MOST_BYTES / 2**20:.0f} MiB, the limit "
                "of a manifest. Split it."
            )
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path.name!r} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path.name!r} is no UTF-8 text (byte {error.start:,}). Save it with "
            "the encoding UTF-8."
        ) from error
    try:
        return list(_json_rows(text) if path.suffix.lower() == ".jsonl" else _csv_rows(text))
    except InputError as error:
        raise InputError(f"{path.name!r}: {error}") from error


def lines(numbers: list[int]) -> str:
    """Return line numbers for a message, the first few of many."""
    rest = len(numbers) - _LISTED
    return (
        ("line " if len(numbers) == 1 else "lines ")
        + ", ".join(f"{number:,}" for number in numbers[:_LISTED])
        + (f" and {rest:,} more" if rest > 0 else "")
    )


def _csv_rows(text: str) -> Iterator[Row]:
    head = text.split("\n", 1)[0]
    # Strict: a quote that is never closed would otherwise swallow the rest of the file.
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=max(_DELIMITERS, key=head.count)
    )
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        _check_header(header)
        unlabelled: list[int] = []
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if len(fields) != len(header):
                raise InputError(
                    f"Line {reader.line_num:,} has {len(fields):,} fields, but the header has "
                    f"{len(header):,}. Put text that holds the separator in double quotes."
                )
            record = dict(zip(header, (field.strip() for field in fields), strict=True))
            if not record["file_name"] or not record["label"]:
                unlabelled.append(reader.line_num)
            yield Row(
                reader.line_num, record["file_name"], record["label"], record.get("split", "")
            )
    except csv.Error as error:
        raise InputError(
            f"Line {reader.line_num:,} is no CSV ({str(error)[:100]}). Mend the line."
        ) from error
    _refuse(unlabelled, "no file name or no label", "Fill them in, or remove the rows.")


def _check_header(header: list[str]) -> None:
    if len(header) > MOST_COLUMNS:
        raise InputError(
            f"The first line has {len(header):,} columns, more than the limit of "
            f"{MOST_COLUMNS:,}. Keep {_WANTED}."
        )
    for name in ("file_name", "label", "split"):
        found = header.count(name)
        if found > 1 or (not found and name != "split"):
            shown = ", ".join(repr(column[:40]) for column in header[:_LISTED]) or "nothing"
            raise InputError(
                f"The first line must name the column {name!r} once; it names "
                f"{shown}{', ...' if len(header) > _LISTED else ''}. "
                f"Name the columns {_WANTED}."
            )


def _json_rows(text: str) -> Iterator[Row]:
    broken: list[int] = []
    unlabelled: list[int] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            record = None
        if not isinstance(record, Mapping):
            broken.append(number)
            continue
        row = _json_row(number, record)
        if row is None:
            unlabelled.append(number)
        else:
            yield row
    _refuse(
        broken,
        "no JSON object",
        'Each line must be one, as in {"file_name": "a/1.png", "label": "a"}.',
    )
    _refuse(
        unlabelled,
        "no 'file_name' that is text, no 'label' that is text or an integer, or a "
        "'split' that is no text",
        "Fill them in, or remove the lines.",
    )


def _json_row(number: int, record: Mapping[str, Any]) -> Row | None:
    file, label, split = record.get("file_name"), record.get("label"), record.get("split") or ""
    good = (
        isinstance(file, str)
        and file
        and label != ""
        and isinstance(split, str)
        and isinstance(label, (str, int))
        and not isinstance(label, bool)
    )
    return Row(number, file, label, split) if good else None  # type: ignore[arg-type]


def _refuse(numbers: list[int], what: str, remedy: str) -> None:
    if numbers:
        raise InputError(f"{len(numbers):,} rows hold {what}: {lines(numbers)}. {remedy}")
