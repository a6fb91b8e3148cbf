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
    Here,
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
from labelling import Faulty, Quick, Trained

from database.build import build
from database.plan import read_plan
from database.workers import local
from metad2a.errors import DatabaseError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]
TASKS, CELLS = 2, 20
JOBS_IN_ALL = TASKS * CELLS
SLOW = {"quick": Quick(wait=0.2)}
STOPPING = "Stopping in good order"
WITHOUT = ("created", "seconds")
"""What differs from one measurement to the next."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    return write_plan(
        tmp_path_factory.mktemp("plan") / "plan.toml",
        spread("quick", architectures=CELLS),
        tasks=TASKS,
    )


@pytest.fixture(scope="module")
def whole(data, plan, tmp_path_factory):
    """The rows of a build that nothing happened to."""
    return alone(tmp_path_factory.mktemp("whole") / "store.sqlite", data, plan, JOBS_IN_ALL)


def alone(path, data, plan, jobs):
    """Build to the end in this process, and return the rows without their seconds."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, quick=Quick(), trained=Trained())
        patch.setattr(local, "LocalWorkers", Here)
        assert build(read_plan(plan), path, data).jobs == jobs
    return rows(path, WITHOUT)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite"


def test_b1_a_driver_killed_at_any_instant_goes_on_where_it_was(data, plan, whole, path):
    draw = random.Random(0)
    for _ in range(2):
        kill(plan, path, data, 0, draw.uniform(0, 2))  # while it starts
        kill(plan, path, data, count(path) + draw.randint(1, 10), draw.uniform(0, 0.1))
    summary = json.loads(finished(plan, path, data, {"quick": Quick()}, "--json"))
    assert 0 < summary["evaluations"] < JOBS_IN_ALL
    assert rows(path, WITHOUT) == whole
    assert jobs_by_state(path) == {"done": JOBS_IN_ALL}


def kill(plan, path, data, enough, seconds):
    """Kill a driver so many seconds after there are enough rows; its workers end with it."""
    before = count(path)
    with started(plan, path, data, SLOW) as one:
        until(lambda: count(path) >= enough)
        time.sleep(seconds)
        one.send(signal.SIGKILL)
        code, *_ = one.end()
    assert code == -signal.SIGKILL
    assert max(before, enough) <= count(path) < JOBS_IN_ALL


def test_b1_a_worker_ends_with_its_driver_whatever_it_does(data, plan, path, tmp_path):
    once = tmp_path / "once"
    with started(plan, path, data, {"quick": Faulty(fault="hangs", once=str(once))}) as one:
        until(once.exists)
        one.send(signal.SIGKILL)
        assert one.end()[0] == -signal.SIGKILL


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
    assert rows(path, WITHOUT) == whole


def test_b3_ctrl_c_lets_the_job_in_flight_end(data, plan, path, tmp_path):
    gate, seen = tmp_path / "gate", tmp_path / "seen"
    seen.mkdir()
    labellers = {"quick": Quick(gate=str(gate), seen=str(seen))}
    with started(plan, path, data, labellers, "--json") as one:
        until(lambda: list(seen.iterdir()))
        os.killpg(one.pid, signal.SIGINT)  # as a terminal does: to the workers too
        until(lambda: STOPPING in one.process.stderr.readline())
        gate.touch()
        code, out, _ = one.end()
    assert code == 130
    summary = json.loads(out)
    assert (summary["stopped"], summary["jobs"], summary["failures"]) == (True, 1, [])
    assert jobs_by_state(path) == {"done": 1, "open": JOBS_IN_ALL - 1}
    assert count(path) == 1


def test_b3_sigterm_gives_back_what_does_not_end(data, plan, path, tmp_path):
    once = tmp_path / "once"
    labellers = {"quick": Faulty(fault="hangs", once=str(once))}
    with started(plan, path, data, labellers, "--json") as one:
        until(once.exists)
        one.send(signal.SIGTERM)
        code, out, _ = one.end()
    assert code == 130
    summary = json.loads(out)
    assert (summary["stopped"], summary["jobs"], summary["failures"]) == (True, 0, [])
    assert (count(path), jobs_by_state(path)) == (0, {"open": JOBS_IN_ALL})


def test_b3_a_second_signal_ends_it_at_once_and_in_good_order(data, plan, path, tmp_path):
    once = tmp_path / "once"
    labellers = {"quick": Faulty(fault="hangs", once=str(once))}
    with started(plan, path, data, labellers) as one:
        until(once.exists)
        one.send(signal.SIGINT)
        until(lambda: STOPPING in one.process.stderr.readline())
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
        with pytest.raises(
            DatabaseError,
            match=f"is being built by process {one.pid} on {socket.gethostname()}.*PostgreSQL",
        ):
            build(read_plan(plan), path, data, should_stop=lambda: True)
        gate.touch()
        assert one.end()[0] == 0
    assert count(path) == JOBS_IN_ALL


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
def test_b8_two_drivers_share_the_jobs_on_a_server(data, plan, whole, location):
    with (
        started(plan, location, data, SLOW, "--json") as one,
        started(plan, location, data, SLOW, "--json") as two,
    ):
        ends = [each.end() for each in (one, two)]
    assert [code for code, *_ in ends] == [0, 0], ends
    summaries = [json.loads(out) for _, out, _ in ends]
    assert sum(each["jobs"] for each in summaries) == JOBS_IN_ALL
    assert sum(each["evaluations"] for each in summaries) == JOBS_IN_ALL == count(location)
    assert [each["failures"] for each in summaries] == [[], []]
    assert rows(location, WITHOUT) == whole


def test_b24_a_resumed_build_has_the_same_curves_to_the_last_bit(data, tmp_path):
    """By another process too: the first training is of a worker, the second of this one."""
    plan = write_plan(
        tmp_path / "plan.toml",
        spread("trained", architectures=2),
        tasks={"count": 1, "only": ["second"]},
    )
    whole = alone(tmp_path / "whole.sqlite", data, plan, 2)
    broken, first = tmp_path / "broken.sqlite", tmp_path / "first"
    with started(plan, broken, data, {"trained": Trained(str(first))}) as one:
        until(lambda: count(broken) == 2)
        one.send(signal.SIGKILL)  # in the second job
        one.end()
    assert count(broken) == 2
    assert alone(broken, data, plan, 1) == whole
    assert sorted(len(row["curve"]) for row in whole) == [0, 0, 4, 4]
