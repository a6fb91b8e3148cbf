"""Datasets that a model learnt from: the nearest, what is far from all, and how they are named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import Table, parquet

import metad2a
from database import Store
from database.exchange.files import export
from database.reading.datasets import top
from database.tasks import draw_tasks
from metad2a.cli import main
from metad2a.datasets import load_dataset
from metad2a.model.artifact import KNOWN
from metad2a.model.hub import resolve
from metad2a.model.known import KnownDataset, neighbourhood, winners
from metad2a.model.metad2a import packaged
from metad2a.model.records import read_records
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
CELL = SPACE.format((3,) * 6)
PROTOCOL = "standalone-v1"


def known(*places: float) -> list[KnownDataset]:
    """Datasets on a line, named by their number; the embedding repeats the place."""
    return [
        KnownDataset(str(i), "line", CELL, 50.0, (place, place)) for i, place in enumerate(places)
    ]


# -- distances -------------------------------------------------------------------------------


def test_the_nearest_come_first_at_root_mean_square_distances():
    found = neighbourhood(known(0, 10, 3, -4), np.array([2.0, 0.0]), PROTOCOL)
    assert [one.name for one in found.nearest] == ["0", "2", "3"]
    assert [one.distance for one in found.nearest] == pytest.approx(
        [np.sqrt(2), np.sqrt(5), np.sqrt(26)]
    )
    assert found.distance == pytest.approx(np.mean([one.distance for one in found.nearest]))
    assert found.nearest[0].protocol == PROTOCOL


@pytest.mark.parametrize(
    ("place", "far"),
    [(9.5, False), (20.0, False), (20.5, False), (21.5, True), (-1.5, True), (1000.0, True)],
    ids=str,
)
def test_far_is_beyond_what_nearly_all_known_ones_keep_to(place, far):
    """On 0, 1, .. 20 the ends have neighbours at 1, 2, 3, a mean of 2; 95 % have less or that."""
    found = neighbourhood(known(*range(21)), np.array([place, place]), PROTOCOL)
    assert found.usual == pytest.approx(2.0)
    assert found.far is far
    assert (found.warning is not None) is far
    if far:
        assert "far from all 21 datasets" in found.lines()[-1]
        assert found.to_dict()["warning"] == found.warning


def test_of_few_or_none_nothing_is_far():
    few = neighbourhood(known(*range(9)), np.array([1e3, 1e3]), PROTOCOL)
    assert (len(few.nearest), few.usual, few.far) == (3, None, False)
    none = neighbourhood([], np.zeros(2), PROTOCOL)
    assert (none.nearest, none.far, none.lines()) == ((), False, [])
    assert none.to_dict() == {
        "nearest": [],
        "far": False,
        "distance": None,
        "usual_distance": None,
        "warning": None,
    }
    twins = neighbourhood(known(*[1.0] * 12), np.ones(2), PROTOCOL)
    assert (twins.distance, twins.usual, twins.far) == (0, 0, False)


# -- the model in the package ----------------------------------------------------------------


def test_the_package_knows_its_datasets_and_not_the_judge():
    """CIFAR-10 judges; it is not learnt from. The tasks are those that the model was trained on."""
    rows = parquet.read_table(
        resolve(None).parent / "database" / "tasks.parquet", columns=["dataset", "family"]
    ).to_pylist()
    learnt = packaged().learnt_from
    assert {(one.name, one.family) for one in learnt} == {
        (row["dataset"], row["family"]) for row in rows
    }
    assert not any("cifar" in one.name for one in learnt)
    assert (resolve(None) / KNOWN).stat().st_size < 100_000


def test_digits_lie_nearest_to_digits_but_far_as_they_have_8_pixels():
    pytest.importorskip("sklearn")
    found = metad2a.suggest("sklearn:digits", k=1, space="nasbench201")
    assert [one.family for one in found.nearest] == ["digits and letters"] * 3
    assert found.far
    one = found.nearest[0]
    assert SPACE.parse(one.best_architecture)
    assert 90 < one.best_accuracy <= 100
    shown = str(found)
    assert f"  {one.name} (digits and letters, distance {one.distance:.2f}): " in shown
    assert shown.endswith(found.neighbourhood.warning)
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (answer["far"], answer["nearest"][0]["name"]) == (True, one.name)


def test_a_model_that_names_none_suggests_all_the_same(tmp_path):
    folder = Path(shutil.copytree(resolve(None), tmp_path / "model"))
    (folder / KNOWN).unlink()
    images = np.random.default_rng(0).integers(0, 256, (20, 9, 9, 3), dtype=np.uint8)
    found = metad2a.suggest((images, np.arange(20) % 2), k=2, model=folder, space="nasbench201")
    assert (len(found), found.nearest, found.far) == (2, [], False)
    assert f"under the protocol {PROTOCOL}." in str(found)


# -- metad2a meta known ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets with two tasks of five trainings; the second is much the harder one."""
    root, rng = tmp_path_factory.mktemp("known"), np.random.default_rng(0)
    cells = SPACE.listed()
    with Store(root / "db.sqlite") as database:
        database.add_protocol(Protocol(PROTOCOL, "accuracy", "Drawn."))
        for name in ("ponds", "rocks"):
            for number in range(2):
                (root / "data" / name / f"class {number}").mkdir(parents=True)
                for index in range(10):
                    pixels = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                    pixels[:: 2 + number] += 120
                    Image.fromarray(pixels).save(
                        root / "data" / name / f"class {number}" / f"{index}.png"
                    )
            dataset = load_dataset(root / "data" / name)
            database.add_dataset(dataset, name, 12)
            for task, base in zip(draw_tasks(dataset, 2, 0), (0.8, 0.1), strict=True):
                database.add_task(task)
                drawn = [
                    Measurement(PROTOCOL, tuple(cell), seed, base + float(rng.random()) / 10, 1.0)
                    for cell in rng.choice(cells, 5, replace=False)
                    for seed in (0, 1)
                ]
                database.record(task.key, SPACE, iter(drawn), "cpu", "")
        export(database, root / "evaluations.parquet")
        export(database, root / "tasks.parquet", "tasks")
    return root


def test_winners_are_those_of_db_top(store):
    found = winners(read_records(store / "evaluations.parquet"), SPACE, PROTOCOL)
    assert set(found) == {"ponds", "rocks"}
    with Store(store / "db.sqlite") as database:
        for name, (architecture, accuracy) in found.items():
            (best,) = top(database, name, PROTOCOL, 1)
            assert (architecture, accuracy) == (best.architecture, pytest.approx(best.mean))
    assert winners(read_records(store / "evaluations.parquet"), SPACE, "other-v1") == {}


def command(store: Path, model: Path) -> list[str]:
    return [
        "meta",
        "known",
        str(store / "evaluations.parquet"),
        str(store / "tasks.parquet"),
        "--data",
        str(store / "data"),
        "--model",
        str(model),
    ]


def test_the_command_writes_what_suggest_reads(store, tmp_path, capsys):
    model = Path(shutil.copytree(resolve(None), tmp_path / "model"))
    assert main([*command(store, model), "--json"]) == 0
    named = json.loads(capsys.readouterr().out)["datasets"]
    assert [row["name"] for row in named] == ["ponds", "rocks"]
    found = metad2a.suggest(store / "data" / "rocks", k=1, model=model, space="nasbench201")
    assert [one.name for one in found.nearest] == ["rocks", "ponds"]
    assert found.nearest[0].distance < 0.01 < found.nearest[1].distance
    assert found.nearest[0].best_accuracy == named[1]["best_accuracy"]
    assert main(command(store, model)) == 0
    assert "ponds" in capsys.readouterr().out


def test_what_cannot_be_described_is_said(store, tmp_path, capsys):
    model = Path(shutil.copytree(resolve(None), tmp_path / "model"))
    before = (model / KNOWN).read_bytes()
    assert main(command(store, tmp_path / "nowhere")) == 3
    assert "is not a folder" in capsys.readouterr().err
    data = Path(shutil.copytree(store / "data", tmp_path / "changed" / "data"))
    for name in ("evaluations.parquet", "tasks.parquet"):
        shutil.copy(store / name, data.parent / name)
    Image.new("RGB", (12, 12)).save(data / "rocks" / "class 0" / "0.png")
    assert main(command(data.parent, model)) == 3
    assert "'rocks' is not what its tasks were drawn from" in capsys.readouterr().err
    table = parquet.read_table(store / "evaluations.parquet").to_pylist()
    parquet.write_table(
        Table.from_pylist([row | {"protocol": "other-v1"} for row in table]),
        data.parent / "evaluations.parquet",
    )
    assert main(command(data.parent, model)) == 3
    assert "has trainings under 'standalone-v1'" in capsys.readouterr().err
    assert (model / KNOWN).read_bytes() == before
