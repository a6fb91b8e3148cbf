"""The files that a visitor takes along, made when asked for."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from metad2a.page.report import report

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.page.visit import Visit

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
    "resolution, px",
    "measured accuracy, %",
    "measured by",
    "classes",
)


def code_file(visit: Visit, chosen: Candidate) -> bytes:
    """Return the untrained network as one Python module that imports torch alone."""
    from metad2a.export import code

    return code(replace(chosen, trained=None).delivery()).encode("utf-8", "replace")


def json_file(visit: Visit, chosen: Candidate) -> bytes:
    """Return the list as JSON, as ``metad2a suggest --json`` prints it."""
    found = visit.result.to_dict()
    found["candidates"] = found["candidates"][: visit.k]
    return json.dumps(found, indent=1, allow_nan=False).encode()


def svg_file(visit: Visit, chosen: Candidate) -> bytes:
    """Return the drawing of the network."""
    return chosen.draw().encode()


def csv_file(visit: Visit, chosen: Candidate) -> bytes:
    """Return the list as a table for a spreadsheet."""
    rows = [
        (
            visit.described.report.name,
            one.rank,
            one.space,
            one.architecture,
            f"{one.accuracy:.2f}",
            f"{one.interval[0]:.2f}",
            f"{one.interval[1]:.2f}",
            one.params,
            one.macs,
            one.resolution,
            f"{one.measured.accuracy:.2f}" if one.measured else "",
            one.measured.protocol if one.measured else "",
            "; ".join(one.class_names),
        )
        for one in visit.result[: visit.k]
    ]
    return table([_COLUMNS, *rows])


def report_file(visit: Visit, chosen: Candidate) -> bytes:
    """Return everything on one page that needs no other file."""
    return report(visit).encode("utf-8", "replace")


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


Maker = Callable[["Visit", "Candidate"], bytes]
FILES: dict[str, tuple[str, str, Maker]] = {
    "report": ("Report", "report.html", report_file),
    "csv": ("Table", "suggestions.csv", csv_file),
    "json": ("JSON", "suggestions.json", json_file),
    "code": ("Code", "model.py", code_file),
    "svg": ("Drawing", "network.svg", svg_file),
}
"""What can be had: the button's word, the file's name, and what makes it."""
