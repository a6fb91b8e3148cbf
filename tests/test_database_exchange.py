"""Exports: every row and task in either form, what is left out by name, and never half a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
from pyarrow import parquet

from database import Store, Task, draw_tasks, export
from database.exchange.merge import merge
from database.exchange.rows import TABLES, Sources, stored_rows
from database.jobs.choice import choose
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError, InputError
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
PROTOCOLS = (Protocol("train-v1", "accuracy", "A training."), Protocol("s-v1", "score", "A sum."))
FOREIGN = {"source": "journal", "licence": "MIT", "url": "https://example.org/table"}
CELL = "|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|nor_conv_3x3~2|"


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 16, 16, 3), dtype=np.uint8)
    return load_dataset(images, np.arange(200) % 8)


@pytest.fixture
def store(tmp_path, dataset):
    """Three tasks measured here; one has a row from a journal, which has latencies too."""
    with Store(tmp_path / "store.sqlite") as opened:
        opened.add_dataset(dataset, "noise", 16)
        for protocol in PROTOCOLS:
            opened.add_protocol(protocol)
        tasks = draw_tasks(dataset, 3, seed=0)
        for task in tasks:
            opened.add_task(task)
            for cell in choose(SPACE, 5, 0, task.key):
                accuracy = len(task.train) / 1000 + sum(cell) / 100
                opened.record(
                    task.key,
                    SPACE,
                    [
                        Measurement("train-v1", cell, 0, accuracy, 2.5, (0.1, accuracy)),
                        Measurement("s-v1", cell, 0, -accuracy * 1e200, 0.1),
                    ],
                    "cpu",
                    "test 1",
                )
        row = next(stored_rows(opened, "evaluations", Sources()))
        own = {"space": SPACE.name, "architecture": CELL, **FOREIGN}
        merge(
            opened,
            {
                "evaluations": [{**row, "task": tasks[0].key, "seed": 99, "value": 0.25, **own}],
                "latencies": [
                    {
                        **own,
                        "device": "raspi4",
                        "batch": batch,
                        "resolution": 32,
                        "milliseconds": 1.5 * batch,
                    }
                    for batch in (1, 8)
                ],
            },
        )
        yield opened


def read(path):
    """Return the rows of either form."""
    if path.suffix == ".parquet":
        return parquet.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()[1:]]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
@pytest.mark.parametrize(("table", "count"), [("evaluations", 31), ("tasks", 3), ("latencies", 2)])
def test_the_export_holds_every_row(store, tmp_path, table, count, suffix):
    path = tmp_path / "new" / f"{table}{suffix}"
    expected = [dict(row) for row in stored_rows(store, table, Sources())]
    assert len(expected) == count
    assert export(store, path, table) == count
    assert export(store, path, table) == count  # over the first one
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    found = read(path)
    assert list(found[0]) == list(TABLES[table])
    for row in expected:
        if "created" in row and suffix == ".jsonl":
            row["created"] = row["created"].isoformat()
    # Every number to its last bit.
    assert found == [{name: row[name] for name in TABLES[table]} for row in expected]


def test_a_row_says_where_it_is_from(store, tmp_path):
    export(store, tmp_path / "e.parquet")
    found = {(row["source"], row["licence"], row["url"]) for row in read(tmp_path / "e.parquet")}
    assert found == {("measured", "own measurements", ""), tuple(FOREIGN.values())}


def test_parquet_is_compressed_and_names_its_format(store, tmp_path):
    export(store, tmp_path / "e.parquet")
    file = parquet.ParquetFile(tmp_path / "e.parquet")
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.schema_arrow.metadata[b"metad2a_format"] == b"2"
    assert file.schema_arrow.metadata[b"metad2a_table"] == b"evaluations"


def test_sources_are_chosen_by_name(store, tmp_path):
    path = tmp_path / "e.jsonl"
    assert export(store, path, exclude_sources=["journal"]) == 30
    assert {row["source"] for row in read(path)} == {"measured"}
    assert export(store, path, only_sources=["journal"]) == 1
    assert [row["value"] for row in read(path)] == [0.25]
    assert export(store, path, only_sources=["journal"], exclude_sources=["journal"]) == 0
    assert export(store, path, "latencies", exclude_sources=["journal"]) == 0
    # A task goes with its rows, so that a training does not look for images that nobody has.
    assert export(store, path, "tasks", only_sources=["journal"]) == 1
    assert export(store, path, "tasks", exclude_sources=["journal"]) == 3
    with pytest.raises(InputError, match=r"no source 'journl'. Did you mean 'journal'"):
        export(store, path, exclude_sources=["journl"])


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("e.csv", "evaluations", r"let its name end in \.parquet or \.jsonl"),
        ("e", "evaluations", "does not say its form"),
        ("e.jsonl", "latency", "Did you mean 'latencies'"),
    ],
)
def test_unknown_forms_and_tables_are_refused(store, tmp_path, name, table, message):
    before = set(tmp_path.iterdir())
    with pytest.raises(InputError, match=message):
        export(store, tmp_path / name, table)
    assert set(tmp_path.iterdir()) == before


def test_exported_tasks_can_be_loaded_again(store, dataset, tmp_path):
    path = tmp_path / "tasks.parquet"
    assert export(store, path, "tasks") == 3
    for row in read(path):
        task = Task.of_row(row)
        assert task.key == row["task"]
        assert len(task.load(dataset).data.train_y) == len(task.train) == row["train_images"]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_an_export_that_cannot_be_written_leaves_nothing(store, tmp_path, suffix):
    (tmp_path / f"taken{suffix}" / "by a folder").mkdir(parents=True)
    before = set(tmp_path.iterdir())
    with pytest.raises(DatabaseError, match="Cannot write the export"):
        export(store, tmp_path / f"taken{suffix}")
    assert set(tmp_path.iterdir()) == before


def test_an_interrupted_export_leaves_the_earlier_file(store, tmp_path, monkeypatch):
    path = tmp_path / "e.jsonl"
    export(store, path)
    before, files = path.read_bytes(), set(tmp_path.iterdir())

    def broken(*_):
        yield from list(stored_rows(store, "evaluations", Sources()))[:3]
        raise KeyboardInterrupt

    monkeypatch.setattr("database.exchange.files.stored_rows", broken)
    with pytest.raises(KeyboardInterrupt):
        export(store, path)
    assert path.read_bytes() == before and set(tmp_path.iterdir()) == files


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_an_empty_store_exports_empty_tables(tmp_path, suffix):
    with Store(tmp_path / "store.sqlite") as store:
        for table in TABLES:
            assert export(store, tmp_path / f"{table}{suffix}", table) == 0
            assert read(tmp_path / f"{table}{suffix}") == []
