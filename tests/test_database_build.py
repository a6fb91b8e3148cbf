"""Builds from end to end: what is measured, what a second run adds, and bad plans and folders."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
from building import Here, jobs_by_state, make_data, make_plan, rows, spread, use
from labelling import Quick, TwoProtocols
from PIL import Image

from database.build import build
from database.workers import local
from metad2a.errors import DatabaseError, InputError
from metad2a.spaces import SPACES

TASKS = 5
LABELLERS = {"quick": TwoProtocols(), "shared": Quick("shared", shared=True)}
METHODS = (spread("quick", architectures=8), spread("shared", architectures=3))


@pytest.fixture(autouse=True)
def labellers(monkeypatch):
    use(monkeypatch, **LABELLERS)
    monkeypatch.setattr(local, "LocalWorkers", Here)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A build by two real workers from its beginning to its end."""
    path = tmp_path_factory.mktemp("whole") / "store.sqlite"
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        use(patch, **LABELLERS)
        summary = build(
            make_plan(*METHODS, tasks=TASKS, workers=2),
            path,
            data,
            progress=lambda *step: seen.append(step[:2]),
        )
    jobs = TASKS * (8 + 1)  # what shares its work is one job
    assert (summary.tasks, summary.jobs, summary.failures, summary.skipped) == (TASKS, jobs, [], {})
    assert seen == [(number, jobs) for number in range(jobs + 1)]
    assert summary.evaluations == len(rows(path))
    return path


@pytest.fixture
def copy(whole, tmp_path):
    return Path(shutil.copy(whole, tmp_path / "store.sqlite"))


@pytest.fixture
def idle(monkeypatch):
    """Workers that must not be given work."""
    monkeypatch.setattr(Here, "start", None)


def test_every_task_has_its_architectures_and_datasets_take_turns(whole):
    found = rows(whole)
    counts = Counter((row["task"], row["protocol"]) for row in found)
    tasks = {row["task"]: row["dataset"] for row in found}
    for task in tasks:
        assert (counts[task, "quick"], counts[task, "shared"]) == (8, 3)
        assert 0 < counts[task, "quick-score"] <= 8
        cells = {
            name: {
                row["architecture"]
                for row in found
                if (row["task"], row["protocol"]) == (task, name)
            }
            for name in ("quick", "shared")
        }
        assert cells["shared"] < cells["quick"]
    assert Counter(tasks.values()) in ({"first": 3, "second": 2}, {"first": 2, "second": 3})


def test_architectures_of_the_store_are_canonical(whole):
    space = SPACES.get("nasbench201")
    for row in rows(whole):
        cell = space.parse(row["architecture"])
        assert space.canonical(cell) == cell


def test_building_again_measures_nothing(data, copy, idle):
    seen = []
    again = build(
        make_plan(*METHODS, tasks=TASKS, workers=2),
        copy,
        data,
        progress=lambda *step: seen.append(step[:2]),
    )
    assert (again.jobs, again.evaluations, again.failures) == (0, 0, [])
    assert seen == [(TASKS * 9, TASKS * 9)]


def test_what_another_plan_measured_is_not_measured_again(data, copy):
    larger = make_plan(
        spread("quick", architectures=8),
        spread("shared", architectures=5),
        tasks=TASKS,
        name="another",
    )
    more = build(larger, copy, data)
    assert (more.jobs, more.evaluations, more.failures) == (TASKS, 2 * TASKS, [])


def test_a_stopped_build_goes_on_and_ends_as_one_by_two_processes(data, whole, tmp_path):
    path, plan = tmp_path / "store.sqlite", make_plan(*METHODS, tasks=TASKS)
    done = []
    first = build(
        plan,
        path,
        data,
        progress=lambda *step: done.append(step),
        should_stop=lambda: len(done) > 20,
    )
    assert first.stopped
    assert jobs_by_state(path) == {"done": first.jobs, "open": TASKS * 9 - first.jobs}
    second = build(plan, path, data)
    assert (first.jobs + second.jobs, second.stopped) == (TASKS * 9, False)
    assert rows(path) == rows(whole)


def test_a_folder_that_is_no_dataset_is_left_out_with_its_reason(data, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).symlink_to(data / name)
    (tmp_path / "empty").mkdir()
    lone = tmp_path / "lone" / "class"
    lone.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(lone / "0.png")
    summary = build(make_plan(spread("quick")), tmp_path / "store.sqlite", tmp_path)
    assert set(summary.skipped) == {"empty", "lone"}
    assert {row["dataset"] for row in rows(tmp_path / "store.sqlite")} == {"first", "second"}


@pytest.mark.parametrize(
    "tasks",
    [
        {"count": 1, "only": ["second"]},
        {"count": 1, "exclude": ["first"]},
    ],
    ids=["only", "exclude"],
)
def test_datasets_are_chosen_by_name(data, tmp_path, tasks):
    build(make_plan(spread("quick"), tasks=tasks), tmp_path / "store.sqlite", data)
    assert {row["dataset"] for row in rows(tmp_path / "store.sqlite")} == {"second"}


def refused(plan, path, data, message, kind=InputError):
    with pytest.raises(kind, match=message):
        build(plan, path, data)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"space": "nasbench"}, "Did you mean 'nasbench201'"),
        ({"device": "cudda"}, "'cudda' is no device"),
        ({"device": "cuda:99"}, "was asked for, but"),
    ],
    ids=["space", "device", "no such device"],
)
def test_a_bad_plan_is_refused_before_anything_is_measured(data, tmp_path, more, message, idle):
    refused(make_plan(spread("quick"), **more), tmp_path / "store.sqlite", data, message)


def test_a_missing_place_is_asked_for(data, tmp_path):
    path = tmp_path / "store.sqlite"
    refused(make_plan(spread("quick")), None, data, "names no database.*give --database")
    refused(make_plan(spread("quick")), path, None, "names no data.*give --data")
    assert not path.exists()


def test_a_missing_data_folder_or_dataset_is_refused(data, tmp_path, idle):
    path, plan = tmp_path / "store.sqlite", make_plan(spread("quick"))
    refused(plan, path, data / "README.md", "is not a folder")
    refused(plan, path, tmp_path / "nowhere", "is not a folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(plan, path, empty, "No folder in .* is a dataset")
    refused(
        make_plan(spread("quick"), tasks={"count": 1, "only": ["frist"]}),
        path,
        data,
        "There is no dataset 'frist'.*Did you mean 'first'",
    )
    assert rows(path) == []


def test_a_place_that_cannot_be_a_database_is_refused(data, tmp_path, idle):
    refused(make_plan(spread("quick")), tmp_path, data, "is a folder|cannot", DatabaseError)
