"""What tests of builds share: datasets, plans, rows, and real ``metad2a db build`` processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from labelling import PATIENCE, Quick
from PIL import Image
from sqlalchemy import func, select

from database import Store
from database.exchange.rows import stored_rows
from database.plan import parse_plan
from database.schema import EVALUATIONS, JOBS
from database.workers.base import Ended, Workers, perform
from database.workers.local import _Images
from metad2a.errors import DatabaseError
from search.labellers.base import LABELLERS

ROOT = Path(__file__).parents[1]
SCRIPT = "from labelling import *; run({})"


def make_data(root, classes=(("first", 6), ("second", 3)), images=12):
    """Make folders of noise as PNG class folders, and a file that is none."""
    rng = np.random.default_rng(0)
    for name, count in classes:
        for number in range(count):
            folder = root / name / f"class {number}"
            folder.mkdir(parents=True)
            for image in range(images):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")
    (root / "README.md").write_text("not a dataset")
    return root


def spread(*protocols, architectures=2):
    """Return the plan of a method that takes architectures evenly."""
    return {"name": "spread", "architectures": architectures, "protocols": list(protocols)}


def table(*methods, tasks=2, **more):
    """Return the tables of a plan whose driver is in a hurry.

    ``tasks`` is a number or the table, ``more`` keys of the plan or of its ``run``.
    """
    run = {"lease_seconds": 4, "heartbeat_seconds": 1, "workers": 1}
    tasks = tasks if isinstance(tasks, dict) else {"count": tasks}
    top = {"tasks": tasks, "methods": list(methods)}
    for key, value in more.items():
        (top if key in ("data", "database", "seed", "name", "space") else run)[key] = value
    top["run"] = run
    return top


def make_plan(*methods, **more):
    """Return a plan; arguments as in :func:`table`."""
    return parse_plan(table(*methods, **more), "a plan", Path())


def write_plan(path, *methods, **more):
    """Write the plan as TOML, and return its path."""
    top = table(*methods, **more)
    lines = [
        f"{key} = {json.dumps(value)}"
        for key, value in top.items()
        if key not in ("tasks", "run", "methods")
    ]
    for heading, tables in (
        ("[tasks]", [top["tasks"]]),
        ("[run]", [top["run"]]),
        ("[[methods]]", top["methods"]),
    ):
        for one in tables:
            lines += [heading, *(f"{key} = {json.dumps(value)}" for key, value in one.items())]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def rows(location, without=("created",)):
    """Return all evaluations: nothing of them may depend on how often a build was broken off."""
    with Store(location, create=False) as store:
        return [
            {key: value for key, value in row.items() if key not in without}
            for row in stored_rows(store, "evaluations")
        ]


def count(location, table=EVALUATIONS):
    """Return the number of rows; 0 of a store that is not there yet."""
    if isinstance(location, Path) and not location.exists():
        return 0
    try:
        with Store(location, create=False) as store, store.reading() as connection:
            return connection.scalar(select(func.count()).select_from(table))
    except DatabaseError:  # its tables are being made
        return 0


def jobs_by_state(location):
    """Return the number of jobs of all builds in each state."""
    with Store(location, create=False) as store, store.reading() as connection:
        return dict(
            connection.execute(select(JOBS.c.state, func.count()).group_by(JOBS.c.state)).all()
        )


def until(condition, what="it"):
    """Wait for a condition; the deadline only ends what would never happen."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


class Here(Workers):
    """Work done in this process, one job after the other: what needs no process needs no wait."""

    def __init__(self, count, folders):
        self._images, self._waiting = _Images(folders), []

    def free(self):
        return 1 - len(self._waiting)

    def start(self, number, work, task):
        self._waiting.append((number, work, task))

    def wait(self, seconds):
        waiting, self._waiting = self._waiting, []
        return [
            Ended(number, perform(work, self._images.load(task))) for number, work, task in waiting
        ]

    def stop(self, number):
        self._waiting.clear()

    def close(self):
        self._waiting.clear()


class Build:
    """A ``metad2a db build`` in a process of its own, which gets the labellers as well."""

    def __init__(self, plan, database, data, labellers, *arguments):
        self.mark = f"METAD2A_TEST={uuid.uuid4().hex}"
        name, _, value = self.mark.partition("=")
        command = ["db", "build", str(plan), "--database", str(database), "--data", str(data)]
        path = os.pathsep.join(map(str, (ROOT / "tests", ROOT)))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(labellers), *command, *arguments],
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", name: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    @property
    def pid(self):
        return self.process.pid

    def family(self):
        """Return the processes that it started, itself included, by what they inherited."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.add(int(folder.name))
            except OSError:  # it has ended, or is somebody else's
                continue
        return found

    def workers(self):
        """Return the processes that measure."""
        lines = {pid: _command(pid) for pid in self.family() - {self.pid}}
        return {pid for pid, line in lines.items() if b"spawn_main" in line}

    def send(self, number):
        self.process.send_signal(number)

    def end(self):
        """Return exit code, output and messages once it and all that it started have ended."""
        out, err = self.process.communicate(timeout=PATIENCE)
        until(lambda: not self.family(), "the end of all its processes")
        return self.process.returncode, out, err


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


@contextmanager
def started(plan, database, data, labellers, *arguments):
    """Start a build, and end it and its workers whatever becomes of the test."""
    one = Build(plan, database, data, labellers, *arguments)
    try:
        yield one
    finally:
        for pid in one.family():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.process.communicate()


def finished(*arguments):
    """Run a build to its end; return what it printed."""
    with started(*arguments) as one:
        code, out, err = one.end()
    assert code == 0, err
    return out


QUICK = {"quick": Quick()}


def use(monkeypatch, **labellers):
    """Put labellers among the real ones of this process."""
    LABELLERS.names()  # loads the real ones first
    for name, labeller in labellers.items():
        monkeypatch.setitem(LABELLERS._items, name, labeller)
