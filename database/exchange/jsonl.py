"""Plain rows as JSON lines: a first line that says what follows and how much, then one row each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from database.exchange.rows import FORMAT_KEY, TABLE_KEY, TABLES, Row
from metad2a.errors import InputError

_COUNT_KEY = "rows"
_HEAD = 99  # bytes of the first line, which is only known after the last one


def write(file: IO[bytes], table: str, rows: Iterable[Row], version: int) -> int:
    """Write rows of ``table`` to a seekable file and return their number."""
    file.write(b" " * _HEAD + b"\n")
    written = 0
    for row in rows:
        file.write(_json({name: row[name] for name in TABLES[table]}) + b"\n")
        written += 1
    file.seek(0)
    file.write(_json({FORMAT_KEY: str(version), TABLE_KEY: table, _COUNT_KEY: written}))
    return written


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, allow_nan=False, ensure_ascii=False, default=_time).encode()


def _time(value: object) -> str:
    if not isinstance(value, datetime):
        raise TypeError(f"{value!r} has no JSON form")
    return value.isoformat()


def read(path: Path) -> tuple[Mapping[str, str], tuple[str, ...], Iterator[Row]]:
    """Return the file's own description, the names of its columns, and its rows.

    Raises:
        InputError: it is no such file, is cut off or damaged.
    """
    lines = _objects(path)
    head = next(lines, {})
    first = next(lines, None)
    about = {key: str(head[key]) for key in (FORMAT_KEY, TABLE_KEY) if key in head}
    names = tuple(TABLES.get(about.get(TABLE_KEY, ""), ())) if first is None else tuple(first)

    def rows() -> Iterator[Row]:
        found = 0
        for found, row in enumerate(() if first is None else _from(first, lines), 1):
            if set(row) != set(names):
                odd = ", ".join(sorted(set(row) ^ set(names)))
                raise InputError(
                    f"{str(path)!r}, row {found}: other columns than in row 1: {odd}. "
                    "Export the file again."
                )
            yield row
        if found != head.get(_COUNT_KEY):
            raise InputError(
                f"{str(path)!r} is cut off or was changed: it has {found} rows, and its first "
                f"line announces {head.get(_COUNT_KEY)!r}. Export or download it again."
            )

    return about, names, rows()


def _from(first: Row, rest: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rest


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    found = json.loads(line)
                except ValueError as error:
                    raise InputError(
                        f"{str(path)!r}, line {number}, is not JSON or is cut off: "
                        f"{error}. Export or download it again."
                    ) from error
                if not isinstance(found, dict):
                    raise InputError(
                        f"{str(path)!r}, line {number}, is not a JSON object. Give a "
                        "file that `metad2a db export` wrote."
                    )
                yield found
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as text: {error}. Give a file that "
            "`metad2a db export` wrote."
        ) from error
