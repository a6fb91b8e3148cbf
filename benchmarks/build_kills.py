"""Random ``kill -9`` of a real build, of its driver and of its worker in turn; and many writers.

Each kill comes at a random instant: while the driver starts, or within so many seconds of its first
job. When a build has come to its end in spite of them, its rows must be those of a build that
nothing happened to, and another begins in a new file until there were enough kills.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from _builds import Build, make_images, read, rows, still_there
from _report import parser, publish, required, run, table
from _writers import PROCESSES, SHARE, many_writers

TASKS, ARCHITECTURES = 6, 15
PLAN = f"""
[tasks]
count = {TASKS}
[[methods]]
name = "spread"
architectures = {ARCHITECTURES}
protocols = ["training_free"]
"""
WITHIN = 4.0
"""Seconds after the start, or after the first job, within which a kill comes."""
LIMIT_SECONDS = 5.0


@dataclass
class Tally:
    """What was seen."""

    drivers: int = 0
    workers: int = 0
    starting: int = 0
    """Kills of the driver with no job in hand, while it starts most of all."""
    builds: int = 0
    lost: int = 0
    twice: int = 0
    different: int = 0
    orphans: int = 0
    tries: int = 0
    recoveries: list[float] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """Of both."""
        return self.drivers + self.workers


def survive(folder: Path, database: Path, draw: random.Random, kills: int, tally: Tally) -> None:
    """Build to the end, with at most so many kills on the way."""
    before, again = 0, False
    while True:
        build = Build(folder, database)
        worker, starting = tally.kills % 2 == 1, draw.random() < 0.25
        instant = draw.uniform(0, WITHIN)
        if tally.kills >= kills:
            build.wait()
            return
        if worker or not starting:
            recovered = build.first_job()
            if recovered is not None and again:
                tally.recoveries.append(recovered)
        time.sleep(instant)
        left = build.workers()
        if worker and left and not build.has_ended():
            os.kill(left[0], signal.SIGKILL)
            tally.workers += 1
            time.sleep(draw.uniform(0, WITHIN))
        if build.has_ended() or tally.kills >= kills:
            build.wait()
            return
        claimed = build.has_claimed()
        left = build.workers()
        build.kill()
        tally.drivers += 1
        tally.starting += not claimed
        tally.orphans += still_there(left)
        count = read(database, "SELECT count(*) FROM evaluations")[0][0]
        tally.lost += max(0, before - count)
        before, again = count, True


def compare(database: Path, whole: list[dict[str, Any]], tally: Tally) -> None:
    """Count what differs from the build that nothing happened to."""
    found = [json.dumps(row, sort_keys=True) for row in rows(database)]
    wanted = {json.dumps(row, sort_keys=True) for row in whole}
    tally.builds += 1
    tally.twice += len(found) - len(set(found))
    tally.lost += len(wanted - set(found))
    tally.different += len(set(found) - wanted)
    tally.tries += read(database, "SELECT coalesce(sum(tries), 0) FROM jobs")[0][0]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--kills", type=int, default=200, help="in all (default: 200)")
    args = arguments.parse_args()
    draw, tally = random.Random(0), Tally()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / "data")
        (folder / "plan.toml").write_text(PLAN, encoding="utf-8")
        undisturbed = Build(folder, folder / "whole.sqlite")
        undisturbed.wait()
        whole = rows(folder / "whole.sqlite")
        while tally.kills < args.kills:
            database = folder / f"{tally.builds}.sqlite"
            survive(folder, database, draw, args.kills, tally)
            # A job whose worker was killed three times is set aside by design; this tries it again.
            Build(folder, database).wait()
            compare(database, whole, tally)
        done, written, seconds = many_writers(folder)
    report(tally, len(whole), args.kills, (done, written, seconds))


def report(tally: Tally, size: int, kills: int, writers: tuple[int, int, float]) -> None:
    """Write the section."""
    done, written, seconds = writers
    total, times = PROCESSES * SHARE, tally.recoveries or [float("nan")]
    publish(
        "build_kills",
        "Builds that are killed",
        [
            f"`kill -9` at random instants of real `metad2a db build` processes with one worker: "
            f"{TASKS} tasks, {ARCHITECTURES} architectures each, six training-free scores "
            f"({size:,} rows). Each build goes on after each kill, and its rows are then compared "
            "with those of a build that nothing happened to, in all but their seconds; a job that was "
            "set aside since its worker was killed three times is tried again first.",
            table(
                ("", "count"),
                [
                    ("kills of the driver", tally.drivers),
                    ("of these with no job in hand", tally.starting),
                    ("kills of its worker", tally.workers),
                    ("builds", tally.builds),
                    ("tries that failed, of all jobs", tally.tries),
                    ("starts timed until their first job", len(tally.recoveries)),
                    ("median of these, seconds", f"{median(times):.2f}"),
                    ("slowest, seconds", f"{max(times):.2f}"),
                ],
            ),
            f"{PROCESSES} processes x {SHARE} jobs on one SQLite file, each a claim and a result: "
            f"{seconds:.1f} s, {total / seconds:,.0f} jobs a second.",
            required(
                [
                    ("kills", tally.kills, kills, "", True),
                    ("rows lost", tally.lost, 0, "", False),
                    ("rows twice", tally.twice, 0, "", False),
                    ("rows that differ", tally.different, 0, "", False),
                    ("workers left behind", tally.orphans, 0, "", False),
                    ("median time to the first job", median(times), LIMIT_SECONDS, " s", False),
                    (f"jobs done by {PROCESSES} processes", done, total, "", True),
                    ("rows of these jobs", written, total, "", True),
                ]
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
