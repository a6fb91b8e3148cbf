"""``metad2a meta``: from an exported database of two small PNG datasets to a model folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from database import Store
from database.exchange.files import export
from database.tasks import draw_tasks
from metad2a.cli import _tasks, main
from metad2a.cli._tasks import described_tasks
from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.model import dataset_training, generator_training, meta_training, prior_training
from metad2a.model.golden import differences
from metad2a.model.meta_training import ACCURACY
from metad2a.model.metad2a import MetaD2A
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
WHOLE = 40


@dataclass(frozen=True)
class Export:
    """What ``db export`` wrote, and the folder of the datasets."""

    evaluations: Path
    tasks: Path
    data: Path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Two datasets with two tasks each; values are drawn round a latent quality."""
    root, rng = tmp_path_factory.mktemp("meta"), np.random.default_rng(0)
    with Store(root / "db.sqlite") as store:
        for protocol in (
            Protocol("one-v1", "score", "Drawn."),
            Protocol(ACCURACY, "accuracy", "Drawn."),
        ):
            store.add_protocol(protocol)
        for name in ("ponds", "rocks"):
            for number in range(3):
                folder = root / "data" / name / f"class {number}"
                folder.mkdir(parents=True)
                for index in range(10):
                    pixels = rng.integers(0, 120, (12, 12, 3), dtype=np.uint8)
                    pixels[:: 2 + number] += 120
                    Image.fromarray(pixels).save(folder / f"{index}.png")
            dataset = load_dataset(root / "data" / name)
            store.add_dataset(dataset, name, 12)
            for number, task in enumerate(draw_tasks(dataset, 2, 0)):
                store.add_task(task)
                store.record(task.key, SPACE, drawn(rng, 18 if number else 2 * WHOLE), "cpu", "")
        export(store, root / "evaluations.parquet")
        export(store, root / "tasks.parquet", "tasks")
    return Export(root / "evaluations.parquet", root / "tasks.parquet", root / "data")


def drawn(rng: np.random.Generator, count: int) -> Iterator[Measurement]:
    """Scores of ``count`` cells, and accuracies of the first six."""
    cells = list(dict.fromkeys(SPACE.canonical(SPACE.sample(rng)) for _ in range(2 * count)))
    for number, cell in enumerate(cells[:count]):
        quality = sum(op in (2, 3) for op in cell) / 2 + rng.normal(0, 0.3)
        yield Measurement("one-v1", cell, 0, quality, 0.1)
        if number < 6:
            yield Measurement(ACCURACY, cell, 0, float(1 / (1 + np.exp(1 - quality))), 1.0)


# -- the commands ----------------------------------------------------------------------------


@pytest.mark.slow
def test_train_judges_and_writes_a_model(exported, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(meta_training, "WHOLE", WHOLE)
    monkeypatch.setattr(prior_training, "EPOCHS", 2)
    monkeypatch.setattr(dataset_training, "STEPS", 3)
    monkeypatch.setattr(generator_training, "STEPS", 2)
    common = [
        str(exported.evaluations),
        str(exported.tasks),
        "--data",
        str(exported.data),
        "--members",
        "1",
        "--redraws",
        "1",
        "--cache",
        str(tmp_path / "cache"),
    ]
    assert main(["meta", "train", *common, "--out", str(tmp_path / "model"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["trainings"], figures["tasks"], figures["families"]) == (24, 4, 2)
    assert set(figures["by_family"]) == {"ponds", "rocks"}
    model = MetaD2A.from_pretrained(tmp_path / "model")
    assert differences(model) == []
    assert f"{figures['coverage']:.1%}" in model.card
    assert "| ponds | ponds |" in model.card

    assert main(["meta", "evaluate", *common]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"coverage {figures['coverage']:.1%} of 24 trainings")
    assert "| model |" in shown


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--members", "0"], "--members 0 is too few"),
        (["--redraws", "0"], "--redraws 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--space", "nasbench"], "Did you mean"),
        (["--data", "nowhere"], "does not exist"),
    ],
    ids=str,
)
def test_bad_arguments_are_3(exported, tmp_path, capsys, change, message):
    assert (
        main(
            [
                "meta",
                "evaluate",
                str(exported.evaluations),
                str(exported.tasks),
                "--data",
                str(exported.data),
                "--cache",
                str(tmp_path),
                *change,
            ]
        )
        == 3
    )
    assert message in capsys.readouterr().err


def test_files_that_are_no_exports_are_3(exported, tmp_path, capsys):
    (tmp_path / "text").write_text("hello")
    tail = ["--data", str(exported.data), "--cache", str(tmp_path / "cache")]
    evaluations, tasks = str(exported.evaluations), str(exported.tasks)
    for files, message in (
        (["missing", tasks], "'missing' cannot be read as Parquet"),
        ([evaluations, "missing"], "'missing' cannot be read as Parquet"),
        ([str(tmp_path / "text"), tasks], "cannot be read as Parquet"),
        ([tasks, evaluations], "lacks the columns architecture"),
        ([evaluations, evaluations], "lacks the columns fingerprint"),
    ):
        assert main(["meta", "evaluate", *files, *tail]) == 3
        assert message in capsys.readouterr().err


def test_too_little_measured_is_3(exported, tmp_path, capsys):
    """The true least number of scored cells is more than this database has."""
    assert (
        main(
            [
                "meta",
                "evaluate",
                str(exported.evaluations),
                str(exported.tasks),
                "--data",
                str(exported.data),
                "--redraws",
                "1",
                "--cache",
                str(tmp_path),
                "--json",
            ]
        )
        == 3
    )
    assert "metad2a db build" in json.loads(capsys.readouterr().out)["error"]["message"]


# -- describing tasks ------------------------------------------------------------------------


def test_tasks_are_described_by_their_own_training_images(exported, tmp_path):
    tasks = described_tasks(exported.tasks, exported.data, 2, tmp_path / "deep" / "cache")
    rows = {row["task"]: row for row in parquet.read_table(exported.tasks).to_pylist()}
    assert [task.key for task in tasks] == sorted(rows, key=lambda key: rows[key]["name"])
    for task in tasks:
        row = rows[task.key]
        assert (task.name, task.dataset, task.family) == (
            row["name"],
            row["dataset"],
            row["dataset"],
        )
        assert task.test_images == len(row["test"])
        first, second = task.redraws
        assert first.features.shape == (len(row["train"]), 1280)
        assert torch.bincount(first.labels).tolist() == [8] * 3
        # With 8 images a class all are taken, so redraws differ in their order at most.
        torch.testing.assert_close(first.statistics, second.statistics, atol=1e-3, rtol=1e-3)
        log_images = float(first.statistics[0])
        assert log_images == pytest.approx(np.log10(len(row["train"])))


def test_a_second_run_goes_on_from_the_cache(exported, tmp_path, monkeypatch):
    first = described_tasks(exported.tasks, exported.data, 1, tmp_path)
    described = []
    original = _tasks._describe
    monkeypatch.setattr(
        _tasks,
        "_describe",
        lambda dataset, row, redraw: (
            described.append((row["name"], redraw)) or original(dataset, row, redraw)
        ),
    )
    again = described_tasks(exported.tasks, Path("nowhere"), 1, tmp_path)
    assert described == []
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.redraws[0].features, other.redraws[0].features)
        assert torch.equal(one.redraws[0].statistics, other.redraws[0].statistics)
    described_tasks(exported.tasks, exported.data, 2, tmp_path)
    assert [redraw for _, redraw in described] == [1] * 4
    assert not list(tmp_path.glob("*.part"))


def test_a_changed_dataset_is_refused(exported, tmp_path):
    data = Path(shutil.copytree(exported.data, tmp_path / "data"))
    Image.new("RGB", (12, 12)).save(data / "rocks" / "class 0" / "0.png")
    with pytest.raises(InputError, match="'rocks' is not what its tasks were drawn from"):
        described_tasks(exported.tasks, data, 1, tmp_path / "cache")
    shutil.rmtree(data / "rocks")
    with pytest.raises(InputError, match="does not exist"):
        described_tasks(exported.tasks, data, 1, tmp_path / "cache")
