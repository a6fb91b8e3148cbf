"""Random ``kill -9`` of a real build, of its driver and of its worker in turn; and many writers.

Each kill comes at a random instant: while the driver starts, or within so many seconds of its first
job. When a build has come to its end in spite of them, its rows must be those of a build that
nothing happened to, and another begins in a new file until there were enough kills.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from _report import ROOT, parser, publish, required, run, table
from PIL import Image

from database import Job, Jobs, Store, draw_tasks
from database._builds import register
from database.plan import parse_plan
from database.queries import evaluations
from metad2a.datasets import load_dataset
from metad2a.errors import MetaD2AError
from metad2a.spaces import SPACES
from search.labels import Measurement, Protocol

TASKS, ARCHITECTURES = 6, 40
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
PROCESSES, SHARE = 8, 200
LIMIT_SECONDS = 5.0
PATIENCE = 600.0


@dataclass
class Tally:
    """What was seen."""

    drivers: int = 0
    workers: int = 0
    starting: int = 0
    """Kills of the driver before its first job."""
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
            [sys.executable, "-m", "metad2a", "db", "build", str(folder / "plan.toml"),
             "--database", str(database), "--data", str(folder / "data"), "--retry"],
            cwd=ROOT, stdout=self.log, stderr=self.log)

    def has_ended(self) -> bool:
        """Whether the process has."""
        return self.process.poll() is not None

    def first_job(self) -> float | None:
        """Wait for its first lease; return the seconds since its start, None if it ended."""
        while not self.has_ended():
            if read(self.database, "SELECT count(*) FROM jobs WHERE owner LIKE "
                                   f"'%/{self.process.pid}/%'")[0][0]:
                return time.monotonic() - self.began
            time.sleep(0.01)
        return None

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
        return [{key: value for key, value in row.items() if key not in ("created", "seconds")}
                for row in evaluations(store)]


def survive(folder: Path, database: Path, draw: random.Random, kills: int, tally: Tally) -> None:
    """Build to the end, with at most so many kills on the way."""
    before = 0
    while True:
        build = Build(folder, database)
        worker, starting = tally.kills % 2 == 1, draw.random() < 0.25
        instant = draw.uniform(0, WITHIN)
        if tally.kills >= kills:
            build.wait()
            return
        if worker or not starting:
            recovered = build.first_job()
            if recovered is not None and before:
                tally.recoveries.append(recovered)
        time.sleep(instant)
        left = build.workers()
        if worker and left and not build.has_ended():
            os.kill(left[0], signal.SIGKILL)
            tally.workers += 1
            instant = draw.uniform(0, WITHIN)
            time.sleep(instant)
        if build.has_ended():
            build.wait()
            return
        if tally.kills >= kills:
            build.wait()
            return
        claimed = bool(read(database, "SELECT count(*) FROM jobs WHERE owner LIKE "
                                      f"'%/{build.process.pid}/%'")[0][0])
        left = build.workers()
        build.kill()
        tally.drivers += 1
        tally.starting += not claimed
        tally.orphans += still_there(left)
        count = read(database, "SELECT count(*) FROM evaluations")[0][0]
        tally.lost += max(0, before - count)
        before = count


def still_there(pids: list[int]) -> int:
    """Return how many of the processes live on for more than some seconds without a driver."""
    deadline = time.monotonic() + 30
    while (left := sum(b"spawn_main" in command(pid) for pid in pids)) \
            and time.monotonic() < deadline:
        time.sleep(0.02)
    return left


def compare(database: Path, whole: list[dict[str, Any]], tally: Tally) -> None:
    """Count what differs from the build that nothing happened to."""
    found = [json.dumps(row, sort_keys=True) for row in rows(database)]
    wanted = {json.dumps(row, sort_keys=True) for row in whole}
    tally.builds += 1
    tally.twice += len(found) - len(set(found))
    tally.lost += len(wanted - set(found))
    tally.different += len(set(found) - wanted)
    tally.tries += read(database, "SELECT coalesce(sum(tries), 0) FROM jobs")[0][0]


# -- many writers ----------------------------------------------------------------------------


def write(place: Path, build: int, owner: str, start: Barrier, done: Any) -> None:
    """Claim and finish jobs until none is left; report how many, and the seconds."""
    space = SPACES.get("nasbench201")
    with Store(place, create=False) as store:
        jobs, count = Jobs(store, build), 0
        start.wait(PATIENCE)
        began = time.monotonic()
        while claimed := jobs.claim(owner, 1, 60):
            for job in claimed:
                row = Measurement("quick-v1", space.parse(job.architectures[0]), job.seed, 0.5, 0.1)
                count += jobs.finish(owner, job, [row], space=space, device="cpu", versions="v",
                                     seconds=0.1) is not None
        done.put((count, time.monotonic() - began))


def many_writers(folder: Path) -> tuple[int, int, float]:
    """Return how many jobs were done by all, how many rows there are, and the seconds."""
    space, total = SPACES.get("nasbench201"), PROCESSES * SHARE
    place = folder / "shared.sqlite"
    dataset = load_dataset(folder / "data" / "noise")
    task = draw_tasks(dataset, 1, 0)[0]
    with Store(place) as store:
        store.add_dataset(dataset, "noise", 16)
        store.add_task(task)
        store.add_protocol(Protocol("quick-v1", "accuracy", "Made up."))
        plan = parse_plan({"tasks": {"count": 1}, "methods": [
            {"name": "spread", "architectures": total, "protocols": ["quick"]}]}, "shared", folder)
        build = register(store, plan, {}, "nobody/0/0")
        cells = space.distinct()[:total].tolist()
        Jobs(store, build).enqueue(
            Job(task.key, "quick", (space.format(tuple(cell)),), 0) for cell in cells)
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(PROCESSES), context.Queue()
    children = [context.Process(target=write, args=(place, build, f"owner {number}", start, done))
                for number in range(PROCESSES)]
    for child in children:
        child.start()
    ended = [done.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join()
    return sum(count for count, _ in ended), len(rows(place)), max(took for _, took in ended)


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
            compare(database, whole, tally)
        done, written, seconds = many_writers(folder)
    report(tally, len(whole), args.kills, (done, written, seconds))


def report(tally: Tally, size: int, kills: int, writers: tuple[int, int, float]) -> None:
    """Write the section."""
    done, written, seconds = writers
    total, times = PROCESSES * SHARE, tally.recoveries or [float("nan")]
    publish("build_kills", "Builds that are killed", [
        f"`kill -9` at random instants of real `metad2a db build` processes with one worker: "
        f"{TASKS} tasks, {ARCHITECTURES} architectures each, six training-free scores "
        f"({size:,} rows). Each build goes on after each kill, and its rows are then compared "
        "with those of a build that nothing happened to, in all but their seconds.",
        table(("", "count"), [
            ("kills of the driver", tally.drivers),
            ("of these while it started", tally.starting),
            ("kills of its worker", tally.workers),
            ("builds", tally.builds),
            ("tries that failed, of all jobs", tally.tries),
            ("starts timed until their first job", len(tally.recoveries)),
            ("median of these, seconds", f"{median(times):.2f}"),
            ("slowest, seconds", f"{max(times):.2f}"),
        ]),
        f"{PROCESSES} processes x {SHARE} jobs on one SQLite file, each a claim and a result: "
        f"{seconds:.1f} s, {total / seconds:,.0f} jobs a second.",
        required([
            ("kills", tally.kills, kills, "", True),
            ("rows lost", tally.lost, 0, "", False),
            ("rows twice", tally.twice, 0, "", False),
            ("rows that differ", tally.different, 0, "", False),
            ("workers left behind", tally.orphans, 0, "", False),
            ("median time to the first job", median(times), LIMIT_SECONDS, " s", False),
            (f"jobs done by {PROCESSES} processes", done, total, "", True),
            ("rows of these jobs", written, total, "", True),
        ])])


if __name__ == "__main__":
    run(main)
