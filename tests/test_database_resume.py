"""What a build meets when it goes on: other datasets, strange jobs, readers, what was set aside."""

from __future__ import annotations

import shutil
import sqlite3
import threading

import pytest
from building import Here, jobs_by_state, make_data, make_plan, rows, spread, use
from labelling import Faulty, Quick
from PIL import Image
from sqlalchemy import select, update

from database import Store
from database.build import build
from database.jobs.driver import MAX_FAILURES
from database.schema import JOBS
from database.workers import local
from database.workers.base import Ended
from metad2a.errors import InputError, MetaD2AError


class Failing(Here):
    """Tells of errors as real workers do."""

    def wait(self, seconds):
        waiting = self._waiting
        try:
            return super().wait(seconds)
        except Exception as error:
            return [Ended(number, error=str(error)) for number, *_ in waiting]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(images, tmp_path):
    return shutil.copytree(images, tmp_path / "data")


@pytest.fixture(autouse=True)
def labellers(monkeypatch):
    use(monkeypatch, quick=Quick())
    monkeypatch.setattr(local, "LocalWorkers", Failing)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


PLAN = make_plan(spread("quick", architectures=4), tasks=2)


def begin(path, data, plan=PLAN):
    """Run a build until the first job is done."""
    done = []
    summary = build(
        plan,
        path,
        data,
        progress=lambda *step: done.append(step),
        should_stop=lambda: len(done) > 1,
    )
    assert summary.stopped
    assert summary.jobs == 1


def test_b18_a_dataset_that_has_changed_is_refused(path, data):
    begin(path, data)
    before = rows(path)
    image = data / "second" / "class 1" / "3.png"
    original = image.read_bytes()
    Image.new("RGB", (16, 16)).save(image)
    with pytest.raises(
        InputError,
        match=r"'second' has changed since the build 'a plan' began.*"
        r"Restore its files, or begin anew",
    ):
        build(PLAN, path, data)
    assert rows(path) == before
    image.write_bytes(original)
    build(PLAN, path, data)
    assert len(rows(path)) == 8


def test_b18_a_dataset_that_is_gone_is_refused(path, data):
    begin(path, data)
    (data / "second").rename(data.parent / "away")
    with pytest.raises(InputError, match=r"no dataset 'second' in.*The build began with it"):
        build(PLAN, path, data)
    (data.parent / "away").rename(data / "second")
    assert build(PLAN, path, data).jobs == 7


def test_b18_a_dataset_that_changes_under_a_worker_is_told_of(path, data, monkeypatch):
    """The worker opens the dataset by itself, later than the driver."""

    def change(workers, number, work, task):
        Image.new("RGB", (16, 16)).save(data / "first" / "class 1" / "3.png")
        start(workers, number, work, task)

    start = Failing.start
    monkeypatch.setattr(Failing, "start", change)
    plan = make_plan(spread("quick", architectures=1), tasks={"count": 1, "only": ["first"]})
    summary = build(plan, path, data)
    assert summary.quarantined == 1
    assert all(
        "is not what the task 'first-000' was drawn from" in text for text in summary.failures
    )
    assert rows(path) == []


def test_b18_a_new_folder_does_not_change_a_build_that_began_without_it(path, data, tmp_path):
    build(PLAN, tmp_path / "other.sqlite", data)
    begin(path, data)
    shutil.copytree(data / "first", data / "another")
    build(PLAN, path, data)
    assert rows(path) == rows(tmp_path / "other.sqlite")


@pytest.mark.parametrize("form", ["|sep_conv_9x9~0|", "", "not an architecture", "(1, 2, 3)"])
def test_b19_a_job_of_an_architecture_of_unknown_form_is_set_aside(path, data, form):
    begin(path, data)
    with Store(path) as store, store.writing() as connection:
        number = connection.scalar(select(JOBS.c.id).where(JOBS.c.state == "open").limit(1))
        connection.execute(
            update(JOBS).where(JOBS.c.id == number).values(architectures=form or "\n")
        )
    summary = build(PLAN, path, data)
    assert (summary.quarantined, len(summary.failures)) == (1, 3)
    assert len(rows(path)) == 8  # the job that the plan means is put in line again


def test_b9_a_reader_in_a_transaction_holds_nothing_up_and_sees_one_state(path, data):
    begin(path, data)
    with sqlite3.connect(path, isolation_level=None) as reader:
        reader.execute("BEGIN")
        seen = reader.execute("SELECT count(*) FROM evaluations").fetchone()
        summary = build(PLAN, path, data)
        assert (summary.jobs, summary.failures) == (7, [])
        assert reader.execute("SELECT count(*) FROM evaluations").fetchone() == seen == (1,)
        reader.execute("ROLLBACK")
        assert reader.execute("SELECT count(*) FROM evaluations").fetchone() == (8,)
    reader.close()


def test_b9_a_build_waits_for_another_writer(path, data):
    begin(path, data)
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(1, lambda: writer.execute("ROLLBACK"))
    timer.start()
    summary = build(PLAN, path, data)
    timer.join()
    writer.close()
    assert (summary.jobs, summary.failures) == (7, [])


def test_b21_what_fails_three_times_is_set_aside_and_retried_when_asked(
    path, data, tmp_path, monkeypatch
):
    poisoned = Faulty("poison", only=3)  # the task of three classes
    use(monkeypatch, poison=poisoned)
    plan = make_plan(spread("poison", "quick"), tasks=2)  # one of each dataset, in any order
    summary = build(plan, path, data)
    assert (summary.quarantined, len(summary.failures)) == (2, 6)
    assert all("out of luck" in text for text in summary.failures)
    assert jobs_by_state(path) == {"done": 6, "quarantined": 2}
    again = build(plan, path, data)
    assert (again.jobs, again.failures, again.quarantined) == (0, [], 2)
    assert build(plan, path, data, retry=True).quarantined == 2
    use(monkeypatch, poison=Quick("poison"))
    last = build(plan, path, data, retry=True)
    assert (last.jobs, last.quarantined) == (2, 0)
    assert jobs_by_state(path) == {"done": 8}


def test_b21_ten_failures_in_a_row_end_the_build_and_it_can_go_on(path, data, monkeypatch):
    use(monkeypatch, poison=Faulty("poison"))
    plan = make_plan(spread("poison", architectures=4), tasks=1)
    with pytest.raises(MetaD2AError, match=f"{MAX_FAILURES} failures in a row.*Mend it and build"):
        build(plan, path, data)
    assert jobs_by_state(path) == {"open": 1, "quarantined": 3}
    use(monkeypatch, poison=Quick("poison"))
    summary = build(plan, path, data, retry=True)
    assert (summary.jobs, summary.quarantined) == (4, 0)
