"""What every benchmark shares: its arguments, its tables, and its section of docs/benchmarks.md."""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from metad2a.errors import MetaD2AError

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
INTRODUCTION = """# Benchmarks

Each section is written by the command that it names (`make bench` runs them all), with the machine
and the date of the run. CIFAR-10 and its table of 15,625 accuracies are a test set: nothing in the
package was fitted to them or chosen by them. Rows that do not flatter the model are kept.
"""
Row = Sequence[object]


def parser(description: str) -> argparse.ArgumentParser:
    """Return a parser with the one argument that all benchmarks have."""
    out = argparse.ArgumentParser(description=description.splitlines()[0])
    out.add_argument(
        "--shared",
        type=Path,
        default=ROOT.parent / "shared",
        metavar="DIR",
        help="folder with bench/ and data/ (default: ../shared of the project)",
    )
    return out


def need(shared: Path, name: str) -> Path:
    """Return a file or folder under ``shared``, or end with a message."""
    path = shared / name
    if not path.exists():
        print(
            f"error: {str(path)!r} does not exist. Give the folder that holds {name!r} with "
            "--shared DIR.",
            file=sys.stderr,
        )
        raise SystemExit(3)
    return path


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; the project's own errors end it with their message alone."""
    try:
        main()
    except MetaD2AError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(3) from error


def table(header: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table; all columns but the first are aligned to the right."""
    rule = [":--", *["--:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, rule, *rows))


def required(figures: Sequence[tuple[str, float, float, str, bool]]) -> str:
    """Return the table of what must be reached.

    Args:
        figures: name, measured value, limit, unit, and whether more is better.
    """
    rows = []
    for name, value, limit, unit, more in figures:
        reached = value >= limit if more else value <= limit
        rows.append(
            (
                name,
                f"{value:.3g}{unit}" if abs(value) < 10 else f"{value:.2f}{unit}",
                f"{'at least' if more else 'at most'} {limit:g}{unit}",
                "reached" if reached else "**not reached**",
            )
        )
    return table(("must be reached", "measured", "limit", ""), rows)


def number(value: float, digits: int = 3) -> str:
    """Write a number; one that is not defined is a dash."""
    return f"{value:.{digits}f}" if not math.isnan(value) else "–"


def publish(name: str, title: str, parts: Sequence[str]) -> None:
    """Print a section and put it into the document in the place of its last one.

    Args:
        name: of the section; two sections never share one.
        title: heading.
        parts: tables and paragraphs in Markdown.
    """
    command = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    facts = f"`{command}`, {datetime.now(UTC):%Y-%m-%d}, {hardware()}."
    body = "\n\n".join([f"## {title}", facts, *parts])
    print(body)
    section = f"<!-- {name} -->\n{body}\n<!-- /{name} -->"
    old = DOCUMENT.read_text(encoding="utf-8") if DOCUMENT.exists() else INTRODUCTION
    pattern = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
    if pattern.search(old):
        new = pattern.sub(lambda _: section, old)
    else:
        new = f"{old.rstrip()}\n\n{section}\n"
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(new, encoding="utf-8")


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hardware() -> str:
    """Return processor, usable cores, memory and versions in one line."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = "missing"
    return (
        f"{found[1] if found else 'unknown processor'}, {cores()} cores, {memory:.0f} GiB, "
        f"Python {sys.version.split()[0]}, torch {torch}"
    )
