"""Real builds in processes of their own, and what they wrote, for the benchmarks."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT
from PIL import Image

from database import Store
from database.exchange.rows import stored_rows
from metad2a.errors import MetaD2AError

PATIENCE = 600.0
"""Seconds until what should have ended is given up."""


def make_images(folder: Path) -> None:
    """Draw a dataset of noise."""
    rng = np.random.default_rng(0)
    for number in range(6):
        place = folder / "noise" / f"class {number}"
        place.mkdir(parents=True)
        for image in range(40):
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{image}.png")


class Build:
    """A ``metad2a db build`` in a process of its own."""

    def __init__(self, folder: Path, database: Path) -> None:
        self.database = database
        self.log = (folder / "messages.txt").open("wb")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "metad2a",
                "db",
                "build",
                str(folder / "plan.toml"),
                "--database",
                str(database),
                "--data",
                str(folder / "data"),
                "--retry",
            ],
            cwd=ROOT,
            stdout=self.log,
            stderr=self.log,
        )

    def has_ended(self) -> bool:
        """Whether the process has."""
        return self.process.poll() is not None

    def first_job(self) -> float | None:
        """Wait for its first lease; return the seconds since its start, None if it ended."""
        while not self.has_ended():
            if self.has_claimed():
                return time.monotonic() - self.began
            time.sleep(0.01)
        return None

    def has_claimed(self) -> bool:
        """Whether a job is in its hands."""
        owner = f"owner LIKE '%/{self.process.pid}/%'"
        return bool(read(self.database, f"SELECT count(*) FROM jobs WHERE {owner}")[0][0])

    def workers(self) -> list[int]:
        """Return the processes that it measures with."""
        pids = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        try:
            found = [int(one) for one in pids.read_text(encoding="ascii").split()]
        except OSError:
            return []
        return [pid for pid in found if b"spawn_main" in command(pid)]

    def wait(self) -> None:
        """Wait for its end, which must be a good one."""
        if self.process.wait(PATIENCE):
            raise MetaD2AError(Path(self.log.name).read_text(encoding="utf-8"))

    def kill(self) -> None:
        """Kill the driver and wait for its end."""
        self.process.kill()
        self.process.wait()
        self.log.close()


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def read(database: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask the file itself, past the package; nothing where there is no table yet."""
    if not database.exists():
        return [(0,)]
    connection = sqlite3.connect(database, timeout=30)
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return [(0,)]
    finally:
        connection.close()


def rows(database: Path) -> list[dict[str, Any]]:
    """Return all that does not depend on when it was measured."""
    with Store(database, create=False) as store:
        return [
            {key: value for key, value in row.items() if key not in ("created", "seconds")}
            for row in stored_rows(store, "evaluations")
        ]


def still_there(pids: list[int]) -> int:
    """Return how many of the processes live on for more than some seconds without a driver."""
    deadline = time.monotonic() + 30
    while (
        left := sum(b"spawn_main" in command(pid) for pid in pids)
    ) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
