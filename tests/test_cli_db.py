"""``metad2a db``: building alone and together, stopping, counting and exporting."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from multiprocessing import Pipe

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from database import Store, status
from database.queries import evaluations
from metad2a.cli import _workers, main
from search.labels import LABELLERS, Labeller, Measurement, Protocol


class Quick(Labeller):
    """A hash of the architecture, at once."""

    protocols = (Protocol("quick", "accuracy", "A hash."),)

    def measure(self, data, space, architectures, seed, device="cpu"):
        print("a library that is talkative")
        for one in architectures:
            yield Measurement("quick", one, seed, hash(one) % 1009 / 1009, 0.1)


@pytest.fixture
def quick(monkeypatch):
    LABELLERS.names()  # loads the real ones first
    monkeypatch.setitem(LABELLERS._items, "quick", Quick())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two folders of noise as PNG class folders."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name in ("first", "second"):
        for number in range(3):
            folder = root / name / f"class {number}"
            folder.mkdir(parents=True)
            for image in range(12):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")
    return root


def build(data, database, *plan: str, tasks: int = 2) -> list[str]:
    return ["db", "build", "--data", str(data), "--database", str(database),
            "--tasks", str(tasks), "--plan", *plan]


def rows(database) -> list[dict[str, object]]:
    with Store(database, create=False) as store:
        return [dict(row) for row in evaluations(store)]


def test_build_status_and_export(data, tmp_path, quick, capsys):
    database = tmp_path / "db.sqlite"
    assert main([*build(data, database, "quick=3"), "--exclude", "second", "--json"]) == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert (summary["tasks"], summary["evaluations"], summary["stopped"]) == (2, 6, False)
    assert "talkative" in shown.err
    assert {row["dataset"] for row in rows(database)} == {"first"}

    assert main([*build(data, database, "quick=4"), "--only", "first"]) == 0
    assert "2 tasks gone through, 2 evaluations added" in capsys.readouterr().out

    assert main(["db", "status", str(database), "--json"]) == 0
    counts = json.loads(capsys.readouterr().out)
    assert (counts["tasks"], counts["protocols"]) == (2, {"quick": 8})
    assert main(["db", "status", str(database)]) == 0
    assert "evaluations of quick  8\n" in capsys.readouterr().out

    out, tasks = tmp_path / "new" / "rows.parquet", tmp_path / "tasks.parquet"
    assert main(["db", "export", str(database), str(out), "--tasks", str(tasks), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "evaluations": {"file": str(out), "rows": 8}, "tasks": {"file": str(tasks), "rows": 2}}
    assert (parquet.read_table(out).num_rows, parquet.read_table(tasks).num_rows) == (8, 2)
    assert main(["db", "export", str(database), str(out)]) == 0
    assert capsys.readouterr().out == f"8 evaluations written to {out}\n"


@pytest.mark.parametrize("command", [
    ["db", "status", "nothing.sqlite"], ["db", "export", "nothing.sqlite", "out.parquet"],
], ids=" ".join)
def test_a_missing_database_is_bad_input_and_is_not_made(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 3
    assert "'nothing.sqlite'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_fails(tmp_path, capsys):
    file = tmp_path / "text.sqlite"
    file.write_text("hello")
    assert main(["db", "status", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "DatabaseError"


def test_an_export_never_overwrites_its_database(data, tmp_path, quick, capsys):
    database = tmp_path / "db.sqlite"
    assert main(build(data, database, "quick=1")) == 0
    assert main(["db", "export", str(database), str(tmp_path / "x" / ".." / "db.sqlite")]) == 3
    assert "must differ" in capsys.readouterr().err
    assert len(rows(database)) == 2


@pytest.mark.parametrize(("change", "message"), [
    (["--workers", "0"], "use 1 or more"), (["--tasks", "0"], "1 or more"),
    (["--device", "tpu"], "is no device"), (["--space", "nasbench"], "Did you mean"),
    (["--plan", "quick=1", "quick=2"], "twice"), (["--plan", "quik=1"], "Did you mean 'quick'"),
    (["--data", "nowhere"], "'nowhere' is not a folder"),
], ids=str)
@pytest.mark.usefixtures("quick")
def test_bad_arguments_are_3(data, tmp_path, capsys, change, message):
    assert main([*build(data, tmp_path / "db.sqlite", "quick=1"), *change]) == 3
    assert message in capsys.readouterr().err
    assert not (tmp_path / "db.sqlite").exists()


# -- stopping --------------------------------------------------------------------------------


def test_ctrl_c_while_measuring_keeps_what_is_measured(data, tmp_path, quick, capsys, monkeypatch):
    database = tmp_path / "db.sqlite"
    measure = Quick.measure

    def interrupted(self, *rest):
        for number, one in enumerate(measure(self, *rest)):
            if number == 2:
                signal.raise_signal(signal.SIGINT)
            yield one

    monkeypatch.setattr(Quick, "measure", interrupted)
    assert main([*build(data, database, "quick=5"), "--json"]) == 130
    summary = json.loads(capsys.readouterr().out)
    assert (summary["stopped"], summary["evaluations"]) == (True, 3)
    monkeypatch.setattr(Quick, "measure", measure)
    assert main(build(data, database, "quick=5")) == 0
    assert "7 evaluations added" in capsys.readouterr().out


def test_ctrl_c_stops_all_workers_in_good_order(data, tmp_path, capsys):
    database = tmp_path / "db.sqlite"
    child = subprocess.Popen(
        [sys.executable, "-m", "metad2a", *build(data, database, "training_free=400"),
         "--workers", "2", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"})
    per_task: Counter[object] = Counter()
    deadline = time.monotonic() + 120
    while min(per_task.values(), default=0) < 18 or len(per_task) < 2:  # six scores a cell
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.2)
        if database.exists():
            per_task = Counter(row["task"] for row in rows(database))
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to every process
    out, errors = child.communicate(timeout=60)
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    assert "Stopping when the measurement in hand is done" in errors
    summary = json.loads(out)
    assert summary["stopped"]
    assert summary["evaluations"] == len(rows(database))
    # Both workers' first cells are there, so that a build of these alone has nothing to do.
    assert main([*build(data, database, "training_free=2"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["evaluations"] == 0


def test_a_worker_stops_when_its_parent_is_gone(data, tmp_path, quick):
    database = tmp_path / "db.sqlite"
    ours, theirs = Pipe()
    ours.close()
    _workers._work({"data": data, "database": database, "tasks": 2, "plan": {"quick": 5}},
                   (0, 1), theirs)
    assert len(rows(database)) == 1
    with Store(database) as store:
        assert status(store)["failures"] == 0
