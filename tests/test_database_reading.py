"""What is looked up in a store: the best, the datasets, the nearest ones."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from filled_store import FORMS, NAMES, fill, record, write_images
from PIL import Image

from database import Store, status
from database.reading.datasets import datasets, top
from database.reading.similar import similar
from metad2a.cli import _db_reading
from metad2a.cli.common import Parser
from metad2a.datasets import load_dataset
from metad2a.errors import InputError


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def store(location, data):
    """On "dots": an easy task with cells 0 and 1, a hard one with 2 and 3, and some scores."""
    with Store(location) as opened:
        opened.tasks = fill(opened, data)
        easy, hard = opened.tasks["dots"]
        record(opened, easy, {0: 0.9, 1: 0.8})
        record(opened, easy, {0: 0.6}, seed=1)
        record(opened, hard, {2: 0.5, 3: 0.3})
        record(opened, easy, {1: -5.0, 3: 7.0}, "score-v1")
        yield opened


def run(*arguments: object) -> int:
    parser = Parser()
    _db_reading.configure(parser.add_subparsers(dest="action"))
    args = parser.parse_args([str(one) for one in arguments])
    return _db_reading.RUN[args.action](args)


def test_top_ranks_by_what_was_above_the_usual_on_the_task(store):
    found = top(store, "dots", "train-v1")
    assert [one.architecture for one in found] == [FORMS[2], FORMS[1], FORMS[0], FORMS[3]]
    assert [one.rank for one in found] == [1, 2, 3, 4]
    assert [one.gain for one in found] == pytest.approx([0.1, 0.025, -0.025, -0.1])
    assert [one.mean for one in found] == pytest.approx([0.5, 0.8, 0.75, 0.3])
    assert [(one.tasks, one.evaluations) for one in found] == [(1, 1), (1, 1), (1, 2), (1, 1)]
    assert found[0].space == "nasbench201"


def test_top_is_a_mean_over_tasks_of_means_over_seeds(store):
    record(store, store.tasks["dots"][1], {0: 0.4})
    first = next(one for one in top(store, "dots", "train-v1") if one.architecture == FORMS[0])
    assert (first.tasks, first.evaluations) == (2, 3)
    assert first.mean == pytest.approx((0.75 + 0.4) / 2)
    assert first.gain == pytest.approx((-0.025 + 0) / 2)


def test_top_of_each_protocol_and_no_more_than_asked_for(store):
    found = top(store, "dots", k=1)
    assert [(one.protocol, one.rank, one.architecture) for one in found] == [
        ("score-v1", 1, FORMS[3]),
        ("train-v1", 1, FORMS[2]),
    ]
    assert top(store, "stripes") == []


def test_a_dataset_can_be_named_by_its_fingerprint(store):
    fingerprint = datasets(store)[0].fingerprint
    assert top(store, fingerprint[:8].upper()) == top(store, "dots") == top(store, fingerprint)


@pytest.mark.parametrize("location", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stripe",), "Did you mean 'stripes'"),
        (("abc",), "Known: dots, dots too, stripes"),
        (("%%%%%%%",), "is called '%%%%%%%'"),
        (("dots", "train"), "Did you mean 'train-v1'"),
        (("dots", None, 0), "k=0"),
    ],
    ids=str,
)
def test_unknown_names_are_refused(store, arguments, message):
    with pytest.raises(InputError, match=message):
        top(store, *arguments)


def test_a_name_of_two_datasets_is_refused(store, data, tmp_path):
    copy = tmp_path / "dots"
    shutil.copytree(data / "stripes", copy)
    (copy / "class 0" / "0.png").unlink()
    with load_dataset(copy) as dataset:
        store.add_dataset(dataset, "patterns", 16)
    with pytest.raises(InputError, match=r"'dots' stands for 2 datasets: dots [0-9a-f]{12}, dots"):
        top(store, "dots")


def test_datasets_tell_what_is_stored(store):
    first, second, third = datasets(store)
    assert (first.name, second.name, third.name) == NAMES
    assert (first.family, first.images, first.classes, first.tasks) == ("noise", 30, 3, 2)
    assert first.evaluations == {"score-v1": 2, "train-v1": 5}
    assert third.evaluations == {}


def test_status_counts_by_protocol_and_source(store):
    found = status(store)
    assert found["protocols"] == {"score-v1": 2, "train-v1": 5}
    assert found["sources"] == {"measured": 7}
    assert (found["evaluations"], found["latencies"]) == (7, 0)
    assert found["families"] == {"noise": 4, "patterns": 2}
    assert found["seconds"] == 14.0


# -- near ones -------------------------------------------------------------------------------


@pytest.fixture
def on_disk(tmp_path, data):
    with Store(tmp_path / "near.sqlite") as opened:
        opened.tasks = fill(opened, data)
        easy, hard = opened.tasks["dots too"]
        record(opened, easy, {0: 0.6, 1: 0.8})
        record(opened, hard, {5: 7.0, 6: 8.0, 7: 9.0}, "score-v1")
        yield opened


def test_the_nearest_dataset_looks_alike(on_disk, data):
    steps = []
    near, far = similar(on_disk, "dots", data, progress=lambda *step: steps.append(step))
    assert (near.name, far.name) == ("dots too", "stripes")
    assert 0 < near.embedding < far.embedding
    assert (near.best.protocol, near.best.architecture) == ("train-v1", FORMS[1])
    assert far.best is None
    assert steps == [(0, 2, "dots too"), (1, 2, "stripes"), (2, 2, "")]
    assert similar(on_disk, "dots") == [near, far]  # from the cache, without the images
    assert similar(on_disk, data / "dots", k=1) == [near]
    assert similar(on_disk, str(data / "dots"), k=1) == [near]


def test_a_dataset_that_is_not_stored_can_be_compared(on_disk, data, tmp_path):
    new = tmp_path / "new"
    shutil.copytree(data / "stripes", new)
    (new / "class 0" / "0.png").unlink()
    first, *rest = similar(on_disk, new, data)
    assert first.name == "stripes"
    assert {one.name for one in rest} == {"dots", "dots too"}


def test_without_any_distance_the_remedy_is_named(on_disk):
    with pytest.raises(InputError, match=r"any of the 2 other datasets.*\(--data\)"):
        similar(on_disk, "dots")
    with pytest.raises(InputError, match="k=0"):
        similar(on_disk, "dots", k=0)


def test_images_that_have_changed_are_left_out(on_disk, data, tmp_path, caplog):
    changed = tmp_path / "changed"
    shutil.copytree(data, changed)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(changed / "stripes/class 0/0.png")
    assert [one.name for one in similar(on_disk, data / "dots", changed)] == ["dots too"]
    assert "images of stripes cannot be used: its fingerprint is" in caplog.text


# -- the command line ------------------------------------------------------------------------


def test_commands_answer_in_words_and_in_json(on_disk, data, capsys):
    place = on_disk.path
    assert run("top", place, "dots too", "-k", 1) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split() == [
        "protocol",
        "rank",
        "gain",
        "mean",
        "tasks",
        "values",
        "architecture",
    ]
    assert shown[2].split() == ["train-v1", "1", "+0.1", "0.8", "1", "1", FORMS[1]]
    assert run("top", place, "dots too", "--protocol", "score-v1", "--json") == 0
    found = json.loads(capsys.readouterr().out)["architectures"]
    assert [one["mean"] for one in found] == [9.0, 8.0, 7.0]
    assert run("top", place, "stripes") == 0
    assert capsys.readouterr().out == "Nothing was measured on stripes yet.\n"

    assert run("datasets", place) == 0
    assert "3 score-v1, 2 train-v1" in capsys.readouterr().out
    assert run("datasets", place, "--json") == 0
    found = json.loads(capsys.readouterr().out)["datasets"]
    assert [one["name"] for one in found] == list(NAMES)

    assert run("similar", place, "dots", "--data", data) == 0
    assert f"0.8 train-v1 {FORMS[1]}" in capsys.readouterr().out
    assert run("similar", place, "dots", "-k", 1, "--json") == 0
    (near,) = json.loads(capsys.readouterr().out)["datasets"]
    assert near["best"]["architecture"] == FORMS[1]


def test_a_missing_database_is_bad_input(tmp_path):
    for rest in (("top", "x"), ("datasets",), ("similar", "x"), ("verify",), ("page", "o.html")):
        with pytest.raises(InputError, match="There is no database"):
            run(rest[0], tmp_path / "none.sqlite", *rest[1:])
    assert list(tmp_path.iterdir()) == []
