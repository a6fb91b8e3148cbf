"""What the commands share: the parser, kinds of arguments, and how an answer is printed."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn

from metad2a.errors import InputError

DATABASE = "file, or postgresql+psycopg://USER@HOST/NAME"
"""Help text of a database's place."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_NUMBER = re.compile(r"([+-]?\d+(?:_\d+)*(?:\.\d+)?(?:e\d{1,2})?)([KMG]?)", re.IGNORECASE)


class UsageError(Exception):
    """The command line itself is wrong (exit code 2)."""


class Parser(argparse.ArgumentParser):
    """A parser that raises :class:`UsageError` where argparse would end the process.

    Options are never abbreviated: a new one must not change what a script means.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Raise the error, with the usage line."""
        raise UsageError(f"{message}\n{self.format_usage().rstrip()}")


def integer(text: str) -> int:
    """Read a whole number: ``2000000``, ``2_000_000``, ``2e6``, ``2M`` or ``2.5M``.

    Raises:
        argparse.ArgumentTypeError: it is not one.
    """
    found = _NUMBER.fullmatch(text.strip())
    value = Decimal(found[1]) * _UNITS[found[2].upper()] if found else Decimal("0.5")
    if value != int(value):
        raise argparse.ArgumentTypeError(
            f"{text[:100]!r} is not a whole number; write 2000000, 2_000_000, 2e6 or 2M"
        )
    return int(value)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print one JSON object on standard output, and nothing else there",
    )


def answer(args: argparse.Namespace, data: Mapping[str, Any], text: str) -> None:
    """Print a command's answer: ``data`` if ``--json`` was given, ``text`` if not."""
    if args.json:
        print_json(data)
    else:
        print(text)


def print_json(data: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON object, or one list, on one line."""
    print(json.dumps(data, allow_nan=False))


def existing(location: str) -> str:
    """Return a database's location, refused where it is a file that is not there.

    Raises:
        InputError: there is no such file.
    """
    if "://" not in location and not Path(location).is_file():
        raise InputError(
            f"There is no database {location!r}. Give the path of one made with "
            "`metad2a db build`, or its URL."
        )
    return location


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of equal length as lines of aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
