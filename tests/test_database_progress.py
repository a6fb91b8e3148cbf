"""How far builds are: ``database.reading.status`` and ``metad2a db status``."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from driving import Clock, Scene, finish

from database import Store
from database.reading.status import progress
from metad2a.cli import main


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(Store, "now", lambda store, connection: clock.moment)
    return clock


@pytest.fixture
def scene(tmp_path, clock):
    one = Scene(tmp_path / "store.sqlite")
    yield one
    one.store.close()


def far(scene):
    (one,) = progress(scene.store)
    return one


def test_a_store_without_builds_has_no_progress(tmp_path):
    with Store(tmp_path / "store.sqlite") as store:
        assert progress(store) == []


def test_a_build_without_jobs_is_at_its_end(scene):
    found = far(scene)
    assert (found["name"], found["driver"], len(found["key"])) == ("a build", "host/1/a", 64)
    assert found["jobs"] == {"open": 0, "leased": 0, "done": 0, "quarantined": 0}
    assert (found["failed_tries"], found["per_minute"], found["seconds_to_go"]) == (0, 0.0, 0.0)
    assert found["quarantined"] == []


def test_jobs_are_counted_by_state_and_an_expired_lease_is_open(scene, clock):
    jobs = scene.line(6)
    taken = jobs.claim("me", 3, 60)
    finish(jobs, "me", taken[0], 0.5)
    jobs.heartbeat("me", [taken[1].id], 120)
    assert far(scene)["jobs"] == {"open": 3, "leased": 2, "done": 1, "quarantined": 0}
    clock.wait(90)
    assert far(scene)["jobs"] == {"open": 4, "leased": 1, "done": 1, "quarantined": 0}
    assert far(scene)["jobs"] == jobs.counts()


def test_the_rate_is_of_the_last_ten_minutes(scene, clock):
    jobs = scene.line(8)
    for number, job in enumerate(jobs.claim("me", 5, 1e6)):
        clock.wait(240)
        finish(jobs, "me", job, number / 10)
    assert far(scene)["per_minute"] == 3 / 10  # 0, 4 and 8 minutes ago
    clock.moment += timedelta(hours=1)
    assert far(scene)["per_minute"] == 0


def test_the_time_to_go_is_of_what_is_left_at_the_present_pace(scene):
    jobs = scene.line(8)
    assert far(scene)["seconds_to_go"] is None  # nothing was done yet
    for job in jobs.claim("me", 2, 60):
        finish(jobs, "me", job, 0.5)  # a second each
    assert far(scene)["seconds_to_go"] is None  # nobody is at work
    jobs.claim("me", 2, 60)
    assert far(scene)["seconds_to_go"] == 6 / 2


def test_failures_are_counted_and_what_is_set_aside_is_told_of(scene):
    jobs = scene.line(3)
    for _ in range(3):
        (job,) = jobs.claim("me", 1, 60)
        jobs.fail("me", job.id, "out of luck")
    (job,) = jobs.claim("me", 1, 60)
    jobs.fail("me", job.id, "once")
    found = far(scene)
    assert found["failed_tries"] == 4
    assert found["quarantined"] == [{"labeller": "train", "jobs": 1, "error": "out of luck"}]


def test_the_command_shows_all_of_it(scene, clock, tmp_path, capsys):
    jobs = scene.line(8)
    first, second, *_ = jobs.claim("me", 3, 60)
    finish(jobs, "me", first, 0.5)
    for _ in range(3):
        jobs.fail("me", second.id, "out of luck")
        jobs.release("me", [second.id])
        jobs.claim("me", 1, 60)
    path = str(tmp_path / "store.sqlite")
    assert main(["db", "status", path, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["builds"]
    assert found == json.loads(json.dumps(far(scene)))
    assert main(["db", "status", path]) == 0
    text = capsys.readouterr().out
    counts = found["jobs"]
    for line in (
        "build 'a build'",
        f"1 of 8 done, {counts['leased']} in hand, "
        f"{counts['open']} to do, {counts['quarantined']} set aside",
        f"{found['failed_tries']}",
        "0.1 jobs a minute",
        "set aside: train",
        "1: out of luck",
    ):
        assert line in text
    assert "time to go" in text
