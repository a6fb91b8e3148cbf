"""The builder: resuming, sharing and failing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from database import Store, status
from database.build import build
from database.queries import evaluations
from metad2a.errors import DatabaseError, InputError, MetaD2AError
from metad2a.spaces import SPACES
from search.labels import LABELLERS, Labeller, Measurement, Protocol

PLAN = {"tiny": 8, "dear": 3}
TASKS = 5


class Tiny(Labeller):
    """Two quick protocols; the second is undefined for cells whose first slot is a skip."""

    protocols = (Protocol("tiny-a", "accuracy", "A hash."), Protocol("tiny-s", "score", "Another."))
    wait = 0.0

    def measure(self, data, space, architectures, seed, device="cpu"):
        base = int(data.train_x.long().sum()) + seed
        for one in architectures:
            time.sleep(self.wait)
            value = (base + hash(one)) % 1009 / 1009  # a hash of integers is not salted
            yield Measurement("tiny-a", one, seed, value, 0.1, (value / 2, value))
            if one[0] != 1:
                yield Measurement("tiny-s", one, seed, -value * 1e5, 0.1)


class Dear(Tiny):
    protocols = (Protocol("dear", "accuracy", "A third one."),)

    def measure(self, data, space, architectures, seed, device="cpu"):
        for one in architectures:
            time.sleep(self.wait)
            yield Measurement("dear", one, seed, len(data.train_y) / 10_000, 1.0)


@pytest.fixture(autouse=True)
def labellers(monkeypatch):
    LABELLERS.names()  # loads the real ones first
    for name, labeller in (("tiny", Tiny()), ("dear", Dear())):
        monkeypatch.setitem(LABELLERS._items, name, labeller)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two folders of noise as PNG class folders."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for name, classes in (("first", 6), ("second", 3)):
        for number in range(classes):
            folder = root / name / f"class {number}"
            folder.mkdir(parents=True)
            for image in range(12):
                pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{image}.png")
    (root / "README.md").write_text("not a dataset")
    return root


def rows(path: Path) -> list[dict[str, object]]:
    """Everything that must not depend on how often the build was interrupted."""
    with Store(path, create=False) as store:
        return [{k: v for k, v in row.items() if k != "created"} for row in evaluations(store)]


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        LABELLERS.names()
        patch.setitem(LABELLERS._items, "tiny", Tiny())
        patch.setitem(LABELLERS._items, "dear", Dear())
        path = tmp_path_factory.mktemp("whole") / "store.sqlite"
        summary = build(data, path, TASKS, PLAN)
    assert (summary.tasks, summary.failures, summary.skipped) == (TASKS, [], {})
    assert summary.evaluations == len(rows(path))
    return path


def test_every_task_has_its_architectures_and_datasets_take_turns(whole):
    found = rows(whole)
    assert Counter((row["task"], row["protocol"]) for row in found if row["protocol"] != "tiny-s") \
        == {(task, name): number for task in {row["task"] for row in found}
            for name, number in (("tiny-a", 8), ("dear", 3))}
    per_task = {row["task"]: row["dataset"] for row in found}
    assert Counter(per_task.values()) == {"first": 3, "second": 2}
    for task in per_task:
        cells = {name: {row["architecture"] for row in found
                        if (row["task"], row["protocol"]) == (task, name)}
                 for name in ("tiny-a", "dear")}
        assert cells["dear"] < cells["tiny-a"]


def test_building_again_measures_nothing_and_a_larger_plan_only_the_rest(
    data, whole, tmp_path, monkeypatch
):
    path = tmp_path / "store.sqlite"
    path.write_bytes(whole.read_bytes())
    monkeypatch.setattr(Tiny, "measure", None)  # calling it would be a failure
    again = build(data, path, TASKS, PLAN)
    assert (again.evaluations, again.failures) == (0, [])
    more = build(data, path, TASKS, PLAN | {"dear": 5})
    assert (more.evaluations, more.failures) == (2 * TASKS, [])


def test_two_shares_are_the_whole(data, whole, tmp_path):
    path = tmp_path / "store.sqlite"
    halves = [build(data, path, TASKS, PLAN, share=(part, 2)) for part in (1, 0)]
    assert [half.tasks for half in halves] == [2, 3]
    assert rows(path) == rows(whole)


def test_should_stop_ends_at_once_and_progress_reaches_the_total(data, whole, tmp_path):
    path = tmp_path / "store.sqlite"
    seen = []
    summary = build(data, path, TASKS, PLAN, progress=lambda *step: seen.append(step),
                    should_stop=lambda: len(rows(path)) >= 20)
    assert summary.stopped
    assert 20 <= summary.evaluations <= 21
    build(data, path, TASKS, PLAN, progress=lambda *step: seen.append(step))
    assert rows(path) == rows(whole)
    total = TASKS * sum(PLAN.values())
    assert seen[-1][:2] == (total, total)


SCRIPT = """
import sys
from pathlib import Path
from database.build import build
from search.labels import LABELLERS
from tests.test_database_build import PLAN, TASKS, Dear, Tiny
Tiny.wait = float(sys.argv[3])
LABELLERS.register("tiny")(Tiny())
LABELLERS.register("dear")(Dear())
build(sys.argv[1], sys.argv[2], TASKS, PLAN, share=(int(sys.argv[4]), int(sys.argv[5])))
"""


def start(data: Path, path: Path, wait: float, part: int, parts: int) -> subprocess.Popen[bytes]:
    arguments = [str(data), str(path), str(wait), str(part), str(parts)]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], cwd=Path(__file__).parents[1],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE,
    )


def measured(path: Path) -> int:
    if not path.exists():
        return 0
    connection = sqlite3.connect(path, timeout=30)
    try:
        return int(connection.execute("SELECT count(*) FROM evaluations").fetchone()[0])
    except sqlite3.OperationalError:  # the tables are not there yet
        return 0
    finally:
        connection.close()


def test_a_killed_build_goes_on_and_ends_as_if_it_had_not_been(data, whole, tmp_path):
    path = tmp_path / "store.sqlite"
    child = start(data, path, 0.05, 0, 1)
    deadline = time.monotonic() + 120
    while measured(path) < 25 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert 25 <= measured(path) < len(rows(whole))
    # Two processes at once finish what the dead one left.
    children = [start(data, path, 0.01, part, 2) for part in (0, 1)]
    for one in children:
        _, message = one.communicate(timeout=120)
        assert one.returncode == 0, message.decode()
    assert rows(path) == rows(whole)


# -- failures --------------------------------------------------------------------------------


class Broken(Tiny):
    """Fails on the third architecture of the tasks of three classes."""

    protocols = (Protocol("broken", "accuracy", "It breaks."),)
    value = 0.5

    def measure(self, data, space, architectures, seed, device="cpu"):
        for number, one in enumerate(architectures):
            if number == 2 and data.classes == 3:
                raise RuntimeError("out of luck")
            yield Measurement("broken", one, seed, self.value, 1.0)


def test_a_failing_labeller_is_noted_and_the_build_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setitem(LABELLERS._items, "broken", Broken())
    path = tmp_path / "store.sqlite"
    summary = build(data, path, 4, {"broken": 4, "dear": 2})
    assert len(summary.failures) == 2
    assert all("RuntimeError: out of luck" in text for text in summary.failures)
    assert Counter(row["protocol"] for row in rows(path)) == {"broken": 2 * 4 + 2 * 2, "dear": 8}
    with Store(path) as store:
        assert status(store)["failures"] == 2


def test_ten_failures_in_a_row_end_the_build(data, tmp_path, monkeypatch):
    monkeypatch.setitem(LABELLERS._items, "broken", Broken())
    monkeypatch.setattr(Broken, "value", float("nan"))
    path = tmp_path / "store.sqlite"
    with pytest.raises(MetaD2AError, match=r"10 failures in a row.*broken = nan"):
        build(data, path, 12, {"broken": 1})
    assert rows(path) == []
    with Store(path) as store:
        assert status(store)["failures"] == 10


def test_a_full_disk_is_no_task_s_fault(data, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise DatabaseError("disk full")

    monkeypatch.setattr(Store, "record", refuse)
    with pytest.raises(DatabaseError, match="disk full"):
        build(data, tmp_path / "store.sqlite", 1, PLAN)


def test_a_bad_dataset_folder_is_left_out_with_its_reason(data, whole, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("first", "second"):
        (root / name).symlink_to(data / name)
    (root / "empty").mkdir()
    summary = build(root, tmp_path / "store.sqlite", TASKS, PLAN)
    assert list(summary.skipped) == ["empty"]
    assert rows(tmp_path / "store.sqlite") == rows(whole)
    only = build(root, tmp_path / "one.sqlite", 1, {"dear": 1}, exclude=("first", "empty"))
    assert only.skipped == {}
    assert {row["dataset"] for row in rows(tmp_path / "one.sqlite")} == {"second"}


@pytest.mark.parametrize(("change", "message"), [
    ({"tasks": 0}, "1 or more"), ({"plan": {}}, "name a labeller"), ({"plan": {"tiny": 0}}, "1 or"),
    ({"plan": {"tinny": 1}}, "Did you mean 'tiny'"), ({"share": (2, 2)}, "0 <= i < n"),
    ({"space": "nasbench"}, "Did you mean"), ({"exclude": ("first", "second")}, "No folder"),
], ids=str)
def test_bad_arguments(data, tmp_path, change, message):
    arguments = {"data": data, "database": tmp_path / "s.sqlite", "tasks": 1, "plan": PLAN} | change
    with pytest.raises(InputError, match=message):
        build(**arguments)
    assert not (tmp_path / "s.sqlite").exists()


def test_the_data_must_be_a_folder(data, tmp_path):
    with pytest.raises(InputError, match="is not a folder"):
        build(data / "README.md", tmp_path / "s.sqlite", 1, PLAN)


def test_cells_of_the_store_are_canonical(whole):
    space = SPACES.get("nasbench201")
    for row in rows(whole):
        cell = space.parse(str(row["architecture"]))
        assert space.canonical(cell) == cell
