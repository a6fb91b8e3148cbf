"""Published CSV files, plain or compressed, read row by row."""

from __future__ import annotations

import contextlib
import csv
import gzip
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from metad2a.errors import InputError


@dataclass(frozen=True)
class Line:
    """One row of a CSV file, with where it stands for errors."""

    path: Path
    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """Return a cell as it is."""
        return self.cells[column]

    def integer(self, column: str) -> int:
        """Return a cell as a whole number.

        Raises:
            InputError: it is none.
        """
        value = self.real(column)
        if value != int(value):
            raise self.wrong(column, "a whole number")
        return int(value)

    def real(self, column: str) -> float:
        """Return a cell as a finite number.

        Raises:
            InputError: it is none.
        """
        try:
            value = float(self.cells[column])
        except ValueError:
            raise self.wrong(column, "a number") from None
        if not abs(value) < float("inf"):
            raise self.wrong(column, "a finite number")
        return value

    def wrong(self, column: str, wanted: str) -> InputError:
        """Return the error that a cell is not what was ``wanted``."""
        return InputError(
            f"{str(self.path)!r}, row {self.number}: column {column!r} holds "
            f"{self.cells[column][:100]!r}, which is not {wanted}. Download the "
            "table again, or mend the row."
        )


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[IO[str]]:
    """Open a text file, unpacked if it is compressed with gzip.

    Raises:
        InputError: it is missing, is cut off while it is read, or is no text.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}. Give the table that was published.")
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
        opener = gzip.open if packed else open
        with cast(IO[str], opener(path, "rt", encoding="utf-8", newline="")) as file:
            yield file
    except (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read, or is cut off: {error}. Download it again."
        ) from error


def header(path: Path | str) -> tuple[str, ...]:
    """Return the names of the columns of a CSV file; none if it is empty."""
    with opened(path) as file:
        return tuple(next(csv.reader(file, strict=True), ()))


def lines(path: Path | str, columns: Collection[str]) -> Iterator[Line]:
    """Yield the rows of a CSV file that has these columns, and perhaps others.

    That a file is cut off shows where it is compressed, or where the cut left cells missing.

    Raises:
        InputError: it cannot be read, lacks a column, or a row has not one cell a column.
    """
    names = header(path)
    if missing := [name for name in columns if name not in names]:
        raise InputError(
            f"{str(path)!r} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(names)[:300] or 'none'}. Give the table in the form in "
            "which it was published."
        )
    with opened(path) as file:
        reader = csv.reader(file, strict=True)
        next(reader)
        for number, cells in enumerate(reader, 1):
            if len(cells) != len(names):
                raise InputError(
                    f"{str(path)!r}, row {number}, has {len(cells)} cells for "
                    f"{len(names)} columns; the file may be cut off. Download it "
                    "again."
                )
            yield Line(Path(path), number, dict(zip(names, cells, strict=True)))
