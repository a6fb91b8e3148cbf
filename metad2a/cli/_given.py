"""Files of results: what networks are known to reach on a dataset."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from metad2a.errors import InputError

_COLUMNS = ("network", "accuracy")
_FORM = (
    'Write a JSON object {"NETWORK": PERCENT, ...}, or comma-separated lines of network and '
    "accuracy in percent."
)


def read_given(path: str | Path) -> dict[str, Any]:
    """Read accuracies in percent by the network's string.

    Whether they are networks and accuracies is left to :func:`metad2a.result.results_of`, which
    knows the space.

    Args:
        path: a JSON object, or CSV with or without the header ``network,accuracy``.

    Raises:
        InputError: the file cannot be read, or a row of it is none.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{str(path)!r} cannot be read as text: {error}. {_FORM}") from error
    found = _object(path, text) if text.lstrip()[:1] in ("{", "[") else _lines(path, text)
    if not found:
        raise InputError(f"{str(path)!r} holds no result. {_FORM}")
    return found


def _object(path: str | Path, text: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for number, (network, value) in enumerate(pairs, start=1):
            _new(path, number, network, found)
            found[network] = value
        return found

    try:
        found = json.loads(text, object_pairs_hook=once)
    except json.JSONDecodeError as error:
        raise InputError(f"{str(path)!r} is no JSON: {error}. {_FORM}") from error
    if not isinstance(found, dict):
        raise InputError(f"{str(path)!r} holds a list where an object is wanted. {_FORM}")
    return found


def _lines(path: str | Path, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    try:
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    except csv.Error as error:
        raise InputError(f"{str(path)!r} is no CSV: {error}. {_FORM}") from error
    if rows and tuple(cell.strip().lower() for cell in rows[0]) == _COLUMNS:
        del rows[0]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(_COLUMNS):
            raise InputError(
                f"{str(path)!r}, row {number}: {','.join(row)[:100]!r} has {len(row)} cells, not a "
                f"network and its accuracy. {_FORM}"
            )
        network = row[0].strip()
        _new(path, number, network, found)
        try:
            found[network] = float(row[1])
        except ValueError:
            raise InputError(
                f"{str(path)!r}, row {number}: the accuracy of {network[:100]!r} is "
                f"{row[1][:100]!r}, which is no number. {_FORM}"
            ) from None
    return found


def _new(path: str | Path, number: int, network: str, found: dict[str, Any]) -> None:
    if network in found:
        raise InputError(
            f"{str(path)!r}, row {number}: {network[:100]!r} is there a second time. Give it once, "
            "with the mean of its accuracies."
        )
