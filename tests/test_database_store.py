"""The store: what its constraints refuse, what it keeps, and which files it does not open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from database import RefusedRowError, Store, draw_tasks, status
from database.queries import evaluations
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError
from metad2a.spaces import SPACES
from search.labels import Measurement, Protocol

SPACE = SPACES.get("nasbench201")
CELL = (3, 1, 3, 0, 3, 2)
ACCURACY = Protocol("train-v1", "accuracy", "A training.")
SCORE = Protocol("score-v1", "score", "A score.")


def measured(value=0.5, protocol="train-v1", architecture=CELL, seconds=1.0, curve=(0.2, 0.5)):
    return Measurement(protocol, architecture, 0, value, seconds, curve)


@pytest.fixture(scope="module")
def task_and_dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
    dataset = load_dataset(images, np.arange(120) % 6)
    return draw_tasks(dataset, 1, seed=0)[0], dataset


@pytest.fixture
def store(tmp_path, task_and_dataset):
    task, dataset = task_and_dataset
    with Store(tmp_path / "store.sqlite") as opened:
        opened.add_dataset(dataset, "noise", 16)
        opened.add_task(task)
        opened.add_protocol(ACCURACY)
        opened.add_protocol(SCORE)
        yield opened


def record(store, task, *measurements):
    return store.record(task.key, SPACE, measurements, "cpu", "test 1")


def count(path: Path, table: str = "evaluations") -> int:
    with sqlite3.connect(path) as connection:
        (rows,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    connection.close()
    return int(rows)


ROW = {
    "task_id": 1, "architecture_id": 1, "protocol_id": 1, "kind": "accuracy", "seed": 7,
    "value": 0.5, "seconds": 1.0, "curve": "[0.5]", "device": "cpu", "versions": "v",
    "created": "2025-01-01 00:00:00",
}


@pytest.mark.parametrize("change", [
    {"value": float("nan")}, {"value": float("inf")}, {"value": float("-inf")}, {"value": 1.2},
    {"value": -0.1}, {"value": "nan"}, {"value": b"1"}, {"value": None}, {"seconds": None},
    {"seconds": -1.0}, {"seconds": float("inf")}, {"seconds": float("nan")}, {"curve": None},
    {"curve": "[NaN]"}, {"curve": "[0.1, Infinity]"}, {"curve": "null"}, {"device": None},
    {"kind": "score"}, {"kind": None}, {"protocol_id": 99}, {"task_id": 99},
    {"architecture_id": 99}, {"created": None}, {"seed": 0},
    {"protocol_id": 2, "kind": "score", "value": float("inf")},
    {"protocol_id": 2, "kind": "score", "value": float("nan")},
], ids=str)
def test_sql_refuses_impossible_rows(store, task_and_dataset, change):
    record(store, task_and_dataset[0], measured())  # task 1, architecture 1, protocol 1, seed 0
    row = ROW | change
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA foreign_keys = ON")
    statement = (f"INSERT INTO evaluations ({', '.join(row)}) "
                 f"VALUES ({', '.join('?' * len(row))})")
    with pytest.raises(sqlite3.IntegrityError):
        connection.execute(statement, list(row.values()))
    connection.execute(statement, list(ROW.values()))  # the unchanged row is a good one
    connection.close()


def test_every_column_of_an_evaluation_is_required(store, task_and_dataset):
    record(store, task_and_dataset[0], measured())
    connection = sqlite3.connect(store.path)
    for missing in ROW:
        row = {name: value for name, value in ROW.items() if name != missing}
        with pytest.raises(sqlite3.IntegrityError, match="NOT NULL"):
            connection.execute(f"INSERT INTO evaluations ({', '.join(row)}) "
                               f"VALUES ({', '.join('?' * len(row))})", list(row.values()))
    connection.close()


@pytest.mark.parametrize("bad", [
    measured(float("nan")), measured(1.2), measured(-1e-9), measured(seconds=-1.0),
    measured(curve=(0.1, float("nan"))), measured(float("-inf"), "score-v1"),
], ids=lambda one: f"{one.protocol}-{one.value}-{one.seconds}")
def test_a_refused_row_takes_its_whole_batch_with_it(store, task_and_dataset, bad):
    good = measured(0.9, architecture=(3,) * 6)
    with pytest.raises(RefusedRowError, match="must be finite, an accuracy a fraction"):
        record(store, task_and_dataset[0], good, bad)
    assert count(store.path) == 0


def test_scores_may_be_any_finite_number(store, task_and_dataset):
    task, _ = task_and_dataset
    record(store, task, measured(-1e300, "score-v1"), measured(1e300, "score-v1", (3,) * 6))
    assert sorted(row["value"] for row in evaluations(store)) == [-1e300, 1e300]


def test_isomorphic_cells_are_one_row_and_a_conflict_is_not_written(store, task_and_dataset):
    task, _ = task_and_dataset
    mirrored = next(cell for cell in SPACE.enumerate() if SPACE.canonical(cell) != cell)
    canonical = SPACE.canonical(mirrored)
    assert record(store, task, measured(0.5, architecture=canonical)).new == 1
    again = record(store, task, measured(0.5, architecture=mirrored))
    assert (again.new, again.known, again.conflicts) == (0, 1, ())
    other = record(store, task, measured(0.6, architecture=mirrored))
    assert (other.new, other.known) == (0, 0)
    assert "0.5 is kept, 0.6 refused" in other.conflicts[0]
    assert [row["value"] for row in evaluations(store)] == [0.5]
    assert count(store.path, "architectures") == 1
    assert store.done(task.key, "train-v1", 0) == {SPACE.format(canonical)}
    assert store.done(task.key, "train-v1", 1) == store.done(task.key, "score-v1", 0) == set()


def test_unknown_names_and_changed_protocols_are_refused(store, task_and_dataset):
    task, _ = task_and_dataset
    with pytest.raises(DatabaseError, match="add it first"):
        record(store, task, measured(protocol="train-v2"))
    with pytest.raises(DatabaseError, match="add it first"):
        store.record("no such key", SPACE, [measured()], "cpu", "v")
    store.add_protocol(ACCURACY)
    with pytest.raises(DatabaseError, match="give the new one a new name"):
        store.add_protocol(Protocol("train-v1", "score", "A training."))


def test_status_counts(store, task_and_dataset):
    task, _ = task_and_dataset
    record(store, task, measured(), measured(3.0, "score-v1"))
    store.add_failure(task.key, "train", "ValueError: no")
    found = status(store)
    assert found["protocols"] == {"score-v1": 1, "train-v1": 1}
    assert found["families"] == {"noise": 1}
    assert found["seconds"] == 2.0
    assert found["bytes"] > 4096
    assert [found[key] for key in ("datasets", "tasks", "architectures", "evaluations",
                                   "failures")] == [1, 1, 1, 2, 1]


def test_reopening_keeps_the_rows(store, task_and_dataset):
    record(store, task_and_dataset[0], measured())
    store.close()
    with Store(store.path, create=False) as again:
        assert status(again)["evaluations"] == 1


# -- files -----------------------------------------------------------------------------------


def test_a_missing_file_is_only_created_when_asked(tmp_path):
    path = tmp_path / "new" / "store.sqlite"
    with pytest.raises(DatabaseError, match="no database"):
        Store(path, create=False)
    assert not path.parent.exists()
    Store(path).close()
    assert count(path, "meta") == 1


def test_a_newer_schema_is_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    connection.close()
    with pytest.raises(DatabaseError, match=r"schema version 99.*Update metad2a"):
        Store(path)


@pytest.mark.parametrize("content", [
    b"PK\x03\x04 not a database", b"SQLite format 3\0" + b"\1" * 600,
], ids=["another format", "garbage under the right header"])
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path, content):
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"not a database|damaged"):
        Store(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused_untouched(tmp_path):
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (id INTEGER)")
    connection.close()
    with pytest.raises(DatabaseError, match="not a metad2a database"):
        Store(path)
    with sqlite3.connect(path) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("songs",)]


@pytest.mark.parametrize("share", [0.001, 0.3, 0.8])
def test_a_truncated_file_is_refused(tmp_path, share):
    path = tmp_path / "store.sqlite"
    Store(path).close()
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatabaseError, match=r"(damaged|is not a database).*"):
        Store(path)


def test_flipped_bytes_are_refused(tmp_path):
    path = tmp_path / "store.sqlite"
    Store(path).close()
    content = bytearray(path.read_bytes())
    content[4096 + 1 : 4096 + 300] = bytes(299 * [0xAA])
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"damaged.*Restore a backup"):
        Store(path)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DatabaseError, match="Cannot open"):
        Store(tmp_path)


def test_many_processes_may_create_one_file_at_once(tmp_path):
    path = tmp_path / "store.sqlite"
    command = [sys.executable, "-c", f"from database.store import Store; Store({str(path)!r})"]
    children = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
    for child in children:
        _, message = child.communicate(timeout=60)
        assert child.returncode == 0, message.decode()
    assert count(path, "meta") == 1
