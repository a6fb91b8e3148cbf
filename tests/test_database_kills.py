"""Real builds that are killed, or asked to end: nothing lost, nothing twice, nobody left behind."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time

import pytest
from building import (
    count,
    finished,
    jobs_by_state,
    make_data,
    rows,
    spread,
    started,
    until,
    use,
    write_plan,
)
from labelling import Faulty, Quick

from database import Store
from database.build import build
from database.plan import read_plan
from database.schema import EVALUATIONS, JOBS
from metad2a.errors import DatabaseError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
TASKS, CELLS = 2, 20
JOBS_IN_ALL = TASKS * CELLS
SLOW = {"quick": Quick(wait=0.05)}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return write_plan(tmp_path_factory.mktemp("plan") / "plan.toml",
                      spread("quick", architectures=CELLS), tasks=TASKS)


@pytest.fixture(scope="module")
def whole(data, plan, tmp_path_factory):
    """The rows of a build that nothing happened to."""
    path = tmp_path_factory.mktemp("whole") / "store.sqlite"
    assert json.loads(finished(plan, path, data, {"quick": Quick()}, "--json"))["jobs"] \
        == JOBS_IN_ALL
    return rows(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


def test_b1_a_driver_killed_at_any_instant_goes_on_where_it_was(data, plan, whole, path):
    draw = random.Random(0)
    for _ in range(4):
        before = count(path)
        enough = before + draw.randrange(JOBS_IN_ALL // 5)
        with started(plan, path, data, SLOW) as one:
            until(lambda: count(path) >= enough or one.process.poll() is not None)
            time.sleep(draw.uniform(0, 0.1))
            one.send(signal.SIGKILL)
            code, *_ = one.end()  # with all its workers
        assert code == -signal.SIGKILL
        assert before <= count(path) < JOBS_IN_ALL
    summary = json.loads(finished(plan, path, data, SLOW, "--json"))
    assert 0 < summary["evaluations"] < JOBS_IN_ALL
    assert rows(path) == whole
    assert jobs_by_state(path) == {"done": JOBS_IN_ALL}


def test_b2_a_killed_worker_takes_only_its_job_with_it(data, plan, whole, path):
    with started(plan, path, data, SLOW, "--json") as one:
        until(lambda: count(path) >= 5)
        (worker,) = one.workers()
        os.kill(worker, signal.SIGKILL)
        code, out, err = one.end()
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["jobs"], summary["quarantined"]) == (JOBS_IN_ALL, 0)
    assert [("exit code -9" in text) for text in summary["failures"]] == [True]
    assert rows(path) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_b3_a_build_that_is_asked_to_end_does_so(data, plan, path, tmp_path, number):
    """Job 1 ends in its grace; the other hangs, and is given back."""
    gate, once = tmp_path / "gate", tmp_path / "once"
    labellers = {"quick": Quick(gate=str(gate), seen=str(tmp_path)),
                 "slow": Faulty("slow", fault="hangs", once=str(once))}
    two = write_plan(tmp_path / "plan.toml", spread("slow", "quick", architectures=1), tasks=1,
                     workers=2)
    with started(two, path, data, labellers, "--json") as one:
        until(lambda: once.exists() and len(list(tmp_path.glob("*-*"))) == 1)
        os.killpg(one.pid, number)  # as a terminal does: to the workers too
        until(lambda: "Stopping in good order" in one.process.stderr.readline())
        gate.touch()
        code, out, _ = one.end()
    assert code == 130
    summary = json.loads(out)
    assert (summary["stopped"], summary["jobs"], summary["failures"]) == (True, 1, [])
    assert jobs_by_state(path) == {"done": 1, "open": 1}
    assert [row["protocol"] for row in rows(path)] == ["quick"]
    with Store(path) as store, store.reading() as connection:
        assert list(connection.execute(JOBS.select().with_only_columns(JOBS.c.owner)).scalars()) \
            == [None, None]


def test_b3_a_second_signal_ends_it_at_once_and_the_next_build_goes_on(data, plan, path, tmp_path):
    once = tmp_path / "once"
    labellers = {"quick": Faulty(fault="hangs", once=str(once))}
    with started(plan, path, data, labellers) as one:
        until(once.exists)
        one.send(signal.SIGINT)
        until(lambda: "Stopping in good order" in one.process.stderr.readline())
        one.send(signal.SIGINT)
        code, *_ = one.end()
    assert code == 130
    assert (count(path), jobs_by_state(path)) == (0, {"open": JOBS_IN_ALL})


def test_b8_a_second_driver_of_a_file_is_refused_and_told_of_the_first(
    data, plan, path, tmp_path, monkeypatch
):
    use(monkeypatch, quick=Quick())
    gate, seen = tmp_path / "gate", tmp_path / "seen"
    seen.mkdir()
    with started(plan, path, data, {"quick": Quick(gate=str(gate), seen=str(seen))}) as one:
        until(lambda: list(seen.iterdir()))
        with pytest.raises(DatabaseError, match=f"is being built by process {one.pid} on "
                                                f"{socket.gethostname()}.*PostgreSQL"):
            build(read_plan(plan), path, data)
        gate.touch()
        assert one.end()[0] == 0
    assert count(path) == JOBS_IN_ALL


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
def test_b8_two_drivers_share_the_jobs_on_a_server(data, plan, whole, location):
    with (started(plan, location, data, SLOW, "--json") as one,
          started(plan, location, data, SLOW, "--json") as two):
        ends = [each.end() for each in (one, two)]
    assert [code for code, *_ in ends] == [0, 0], ends
    summaries = [json.loads(out) for _, out, _ in ends]
    assert sum(each["jobs"] for each in summaries) == JOBS_IN_ALL
    assert sum(each["evaluations"] for each in summaries) == JOBS_IN_ALL == count(location)
    assert [each["failures"] for each in summaries] == [[], []]
    assert rows(location) == whole


def test_b24_a_resumed_build_has_the_same_curves_to_the_last_bit(data, tmp_path):
    plan = write_plan(tmp_path / "plan.toml", spread("standalone", architectures=2),
                      tasks={"count": 1, "only": ["second"]})
    whole, broken = tmp_path / "whole.sqlite", tmp_path / "broken.sqlite"
    finished(plan, whole, data, {})
    with started(plan, broken, data, {}) as one:
        until(lambda: count(broken) == 1)
        one.send(signal.SIGKILL)  # in the middle of the second training
        one.end()
    assert count(broken, EVALUATIONS) == 1
    finished(plan, broken, data, {})
    without = ("created", "seconds")
    assert rows(broken, without) == rows(whole, without)
    assert all(len(row["curve"]) > 1 for row in rows(whole))
