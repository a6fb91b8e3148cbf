"""The export: every row, every task, and never half a file."""

from __future__ import annotations

import numpy as np
import pytest
from pyarrow import parquet

from database import Store, Task, draw_tasks, export, export_tasks
from database.choice import choose
from database.queries import evaluations
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError
from metad2a.spaces import SPACES
from search.labels import Measurement, Protocol

SPACE = SPACES.get("nasbench201")
PROTOCOLS = (Protocol("train-v1", "accuracy", "A training."), Protocol("s-v1", "score", "A sum."))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    return load_dataset(images, np.arange(200) % 8)


@pytest.fixture
def store(tmp_path, dataset):
    with Store(tmp_path / "store.sqlite") as opened:
        opened.add_dataset(dataset, "noise", 16)
        for protocol in PROTOCOLS:
            opened.add_protocol(protocol)
        for task in draw_tasks(dataset, 3, seed=0):
            opened.add_task(task)
            for cell in choose(SPACE, 5, 0, task.key):
                accuracy = len(task.train) / 1000 + sum(cell) / 100
                opened.record(task.key, SPACE, [
                    Measurement("train-v1", cell, 0, accuracy, 2.5, (0.1, accuracy)),
                    Measurement("s-v1", cell, 0, -accuracy * 1e200, 0.1),
                ], "cpu", "test 1")
        yield opened


def test_the_export_holds_every_row(store, tmp_path):
    path = tmp_path / "new" / "evaluations.parquet"
    expected = [dict(row) for row in evaluations(store)]
    assert len(expected) == 3 * 5 * 2
    assert export(store, path) == 30
    assert export(store, path) == 30  # over the first one
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    table = parquet.read_table(path)
    assert table.column_names == [
        "dataset", "family", "task", "classes", "train_images", "resolution", "space",
        "architecture", "protocol", "kind", "seed", "value", "seconds", "curve", "device",
        "versions",
    ]
    for got, row in zip(table.to_pylist(), expected, strict=True):
        assert got["curve"] == pytest.approx(row["curve"], rel=1e-6)
        assert got["seconds"] == pytest.approx(row["seconds"], rel=1e-6)
        exact = set(row) - {"curve", "seconds"}
        assert {name: got[name] for name in exact} == {name: row[name] for name in exact}
    assert parquet.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_exported_tasks_can_be_loaded_again(store, dataset, tmp_path):
    path = tmp_path / "tasks.parquet"
    assert export_tasks(store, path) == 3
    for row in parquet.read_table(path).to_pylist():
        task = Task(row["name"], row["fingerprint"], tuple(row["classes"]), tuple(row["train"]),
                    tuple(row["test"]), row["resolution"])
        assert task.key == row["task"]
        assert len(task.load(dataset).train_y) == len(task.train)


def test_an_export_that_cannot_be_written_leaves_nothing(store, tmp_path):
    (tmp_path / "taken" / "by a folder").mkdir(parents=True)
    before = set(tmp_path.iterdir())
    with pytest.raises(DatabaseError, match="Cannot write the export"):
        export(store, tmp_path / "taken")
    assert set(tmp_path.iterdir()) == before


def test_an_empty_store_exports_an_empty_table(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        assert export(store, tmp_path / "e.parquet") == export_tasks(store, tmp_path / "t.parquet")
    assert parquet.read_table(tmp_path / "e.parquet").num_rows == 0
