"""The files that a visitor takes along, made when asked for."""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.page.described import Described
from metad2a.page.report import report

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.suggestion import Candidate

_FORMULA = re.compile(r"^\s*[=+\-@\t\r\n]")
_COLUMNS = (
    "dataset",
    "rank",
    "space",
    "architecture",
    "predicted accuracy, %",
    "low, %",
    "high, %",
    "parameters",
    "MACs",
    "measured accuracy, %",
    "measured by",
)


def code_file(described: Described, result: Suggestions, listed: int, chosen: Candidate) -> bytes:
    """Return the network as one Python module that imports torch alone."""
    from metad2a.export import code

    return code(chosen).encode()


def onnx_file(described: Described, result: Suggestions, listed: int, chosen: Candidate) -> bytes:
    """Return the network as ONNX, with its weights if it was trained here."""
    from metad2a.export import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx(chosen, path)
        return path.read_bytes()


def json_file(described: Described, result: Suggestions, listed: int, chosen: Candidate) -> bytes:
    """Return the list as JSON, as ``metad2a suggest --json`` prints it."""
    found = result.to_dict()
    found["candidates"] = found["candidates"][:listed]
    return json.dumps(found, indent=1, allow_nan=False).encode()


def svg_file(described: Described, result: Suggestions, listed: int, chosen: Candidate) -> bytes:
    """Return the drawing of the network's cell."""
    return chosen.draw().encode()


def csv_file(described: Described, result: Suggestions, listed: int, chosen: Candidate) -> bytes:
    """Return the list as a table for a spreadsheet."""
    rows = [
        (
            described.report.name,
            one.rank,
            one.space,
            one.architecture,
            f"{one.accuracy:.2f}",
            f"{one.interval[0]:.2f}",
            f"{one.interval[1]:.2f}",
            one.params,
            one.macs,
            f"{one.measured.accuracy:.2f}" if one.measured else "",
            one.measured.protocol if one.measured else "",
        )
        for one in result[:listed]
    ]
    return table([_COLUMNS, *rows])


def report_file(described: Described, result: Suggestions, listed: int, chosen: Candidate) -> bytes:
    """Return everything on one page that needs no other file."""
    return report(described, result, listed).encode("utf-8", "replace")


def table(rows: Sequence[Sequence[object]]) -> bytes:
    """Return rows as CSV in which no spreadsheet takes a text for a formula."""
    out = io.StringIO()
    # A mark tells spreadsheets that this is UTF-8.
    out.write("\ufeff")
    writer = csv.writer(out)
    for row in rows:
        writer.writerow([_plain(cell) if isinstance(cell, str) else cell for cell in row])
    return out.getvalue().encode("utf-8", "replace")


def _plain(text: str) -> str:
    """Quote what a spreadsheet would run; all other texts stay as they are."""
    return f"'{text}" if _FORMULA.match(text) else text


Maker = Callable[["Described", "Suggestions", int, "Candidate"], bytes]
FILES: dict[str, tuple[str, str, Maker]] = {
    "code": ("Code", "model.py", code_file),
    "onnx": ("ONNX", "model.onnx", onnx_file),
    "svg": ("Drawing", "cell.svg", svg_file),
    "json": ("JSON", "suggestions.json", json_file),
    "csv": ("Table", "suggestions.csv", csv_file),
    "report": ("Report", "report.html", report_file),
}
"""What can be had: the button's word, the file's name, and what makes it."""
