"""Builds on a real Ray cluster of three nodes: one is killed, workers die, hang and are cancelled.

The first node has no CPU for work, so that it is the others whose workers measure.
"""

from __future__ import annotations

import contextlib
import json
import signal

import numpy as np
import pytest
from building import (
    QUICK,
    finished,
    jobs_by_state,
    make_data,
    make_plan,
    rows,
    spread,
    until,
    use,
    write_plan,
)
from labelling import Faulty, Quick
from ray_nodes import CPUS, Nodes, is_running, measuring

from database import Job, draw_tasks
from database.build import build
from database.plan import RunPlan
from database.tasks import Task
from database.workers.base import Work
from database.workers.ray import ClusterWorkers
from metad2a.datasets import load_dataset
from metad2a.errors import InputError

pytestmark = pytest.mark.slow
WHERE = ("created", "seconds", "device")
PATIENT = {"lease_seconds": 600, "heartbeat_seconds": 60}
ONE_CPU = RunPlan()
DEATHS = {
    "aborts": "WorkerCrashedError",
    "leaves at once": "WorkerCrashedError",
    "is killed": "WorkerCrashedError",
    "raises": "RuntimeError: out of luck",
}


@pytest.fixture(scope="module")
def ray():
    """Ray, imported by whoever runs these tests, not by whoever lists them."""
    return pytest.importorskip("ray")


@pytest.fixture(scope="module")
def nodes(ray):
    made = Nodes()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def left(ray):
    """Leave the cluster even if a test breaks off."""
    yield
    if ray.is_initialized():
        ray.shutdown()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def seen(tmp_path):
    """A folder in which labellers note the processes that measure."""
    folder = tmp_path / "seen"
    folder.mkdir()
    return folder


def same(location):
    """Return the rows without what depends on where they were measured, in one order."""
    return sorted(json.dumps(row, sort_keys=True) for row in rows(location, WHERE))


def alone(monkeypatch, plan, folder, data, labellers):
    """Return the rows of the same plan built by one process of this machine."""
    use(monkeypatch, **labellers)
    build(plan, folder / "alone.sqlite", data)
    return same(folder / "alone.sqlite")


def test_b2_a_node_killed_in_the_middle_costs_no_row_and_no_try(
    ray, nodes, data, seen, tmp_path, monkeypatch
):
    plan = make_plan(spread("quick", architectures=6), tasks=2, **PATIENT)
    expected = alone(monkeypatch, plan, tmp_path, data, QUICK)
    gate, killed, puts, loads = tmp_path / "gate", [], [], []
    use(monkeypatch, quick=Quick(seen=str(seen), gate=str(gate)))
    put, load = ray.put, Task.load
    monkeypatch.setattr(ray, "put", lambda value: puts.append(value) or put(value))
    monkeypatch.setattr(
        Task, "load", lambda task, dataset: loads.append(task.key) or load(task, dataset)
    )

    def kill():
        if not killed and len(measuring(seen)) == 2 * CPUS:
            killed.extend(nodes.kill())
            gate.touch()
        return False

    try:
        summary = build(plan, tmp_path / "store.sqlite", data, ray=nodes.address, should_stop=kill)
    finally:
        nodes.mend()
    lost = set(killed) & set(measuring(seen))
    assert len(lost) == CPUS  # it had jobs in hand
    assert len(measuring(seen)) == 12 + CPUS  # each of them was begun once more
    assert (summary.jobs, summary.failures, summary.late) == (12, [], 0)
    assert jobs_by_state(tmp_path / "store.sqlite") == {"done": 12}
    assert same(tmp_path / "store.sqlite") == expected
    assert len(loads) == len(set(loads)) == len(puts) == 2  # once a task


def test_b5_a_worker_that_dies_or_raises_has_failed_and_is_tried_again(
    nodes, data, tmp_path, monkeypatch
):
    plan = make_plan(spread(*DEATHS, architectures=1), tasks=1, **PATIENT)
    expected = alone(monkeypatch, plan, tmp_path, data, {name: Quick(name) for name in DEATHS})
    use(
        monkeypatch,
        **{name: Faulty(name, fault=name, once=str(tmp_path / name)) for name in DEATHS},
    )
    summary = build(plan, tmp_path / "store.sqlite", data, ray=nodes.address)
    assert (summary.jobs, summary.quarantined) == (len(DEATHS), 0)
    assert len(summary.failures) == len(DEATHS)
    for name, error in DEATHS.items():
        (failure,) = [one for one in summary.failures if one.startswith(f"{name} on ")]
        assert error in failure
    assert same(tmp_path / "store.sqlite") == expected


def test_b4_a_hung_job_is_ended_at_wall_seconds(nodes, data, tmp_path, monkeypatch):
    use(monkeypatch, stuck=Faulty("stuck", fault="hangs"))
    plan = make_plan(spread("stuck", architectures=1), tasks=1, wall_seconds=1, **PATIENT)
    summary = build(plan, tmp_path / "store.sqlite", data, ray=nodes.address)
    assert (summary.jobs, summary.quarantined) == (0, 1)
    assert len(summary.failures) == 3
    assert all("wall_seconds = 1 " in failure for failure in summary.failures)


def test_b3_a_stop_kills_what_runs_and_gives_back_its_leases(
    ray, nodes, data, seen, tmp_path, monkeypatch
):
    use(monkeypatch, quick=Quick(seen=str(seen), gate=str(tmp_path / "never")))
    plan = make_plan(spread("quick", architectures=6), tasks=1, **PATIENT)
    summary = build(
        plan,
        tmp_path / "store.sqlite",
        data,
        ray=nodes.address,
        should_stop=lambda: len(measuring(seen)) == 2 * CPUS,
    )
    assert summary.stopped
    assert jobs_by_state(tmp_path / "store.sqlite") == {"open": 6}
    assert not ray.is_initialized()
    until(lambda: not any(map(is_running, measuring(seen))), "the end of the workers")


@contextlib.contextmanager
def joined(nodes, load, run=ONE_CPU):
    workers = ClusterWorkers(nodes.address, run, load)
    try:
        yield workers
    finally:
        workers.close()


@pytest.fixture
def work():
    """A function that makes work of a labeller, a task for it, and the task's images."""
    images = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    dataset = load_dataset(images, np.arange(40) % 2)
    (task,) = draw_tasks(dataset, 1, 0)
    cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|skip_connect~1|+|none~0|none~1|none~2|"

    def make(labeller):
        return Work(
            labeller, "nasbench201", Job(task.key, "quick", (cell,), 0).architectures, 0, "cpu", 1
        )

    return make, task, lambda task: task.load(dataset)


def test_b4_a_stopped_job_is_dead_and_makes_room(nodes, work, seen, tmp_path):
    make, task, load = work
    with joined(nodes, load) as workers:
        assert workers.free() == 2 * CPUS
        workers.start(7, make(Quick(seen=str(seen), gate=str(tmp_path / "never"))), task)
        (pid,) = until(lambda: measuring(seen))
        assert workers.free() == 2 * CPUS - 1
        workers.stop(7)
        until(lambda: not is_running(pid), "the end of the worker")
        assert (workers.free(), workers.wait(0)) == (2 * CPUS, [])


def test_b22_on_gpus_every_job_has_a_process_of_its_own(nodes, work, seen):
    """A process keeps the GPU that it had first, whichever Ray gives it, and may have lost it."""
    make, task, load = work
    with joined(nodes, load, RunPlan(cpus=0, gpus=0.5)) as workers:
        assert workers.free() == 4
        for number in range(3):
            workers.start(number, make(Quick(seen=str(seen))), task)
            (ended,) = until(lambda: workers.wait(1))
            assert (ended.number, ended.error) == (number, "")
    assert len(set(measuring(seen))) == 3


@pytest.mark.parametrize(("cpus", "places"), [(1.0, 4), (2.0, 2), (0.1, 40), (0.3, 12)])
def test_workers_fit_on_nodes_not_on_their_sum(nodes, work, cpus, places):
    with joined(nodes, work[2], RunPlan(cpus=cpus)) as workers:
        assert workers.free() == places


def test_sigterm_stays_in_the_hands_of_the_command_line(nodes, work):
    """Fault B3: Ray would have it end the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    with joined(nodes, work[2]):
        assert signal.getsignal(signal.SIGTERM) is before
        with pytest.raises(InputError, match="joined a Ray cluster already"):
            ClusterWorkers(nodes.address, RunPlan(), work[2])


def test_a_share_that_no_node_has_is_refused(ray, nodes, work):
    with pytest.raises(InputError, match=r"cpus = 3 and gpus = 0.*largest have 2 CPUs and 1 GPUs"):
        ClusterWorkers(nodes.address, RunPlan(cpus=3), work[2])
    assert not ray.is_initialized()


def test_real_scores_equal_those_of_one_process(nodes, data, tmp_path, monkeypatch):
    plan = make_plan(spread("training_free", architectures=2), tasks=1, **PATIENT)
    expected = alone(monkeypatch, plan, tmp_path, data, {})
    assert len(expected) >= 6
    build(plan, tmp_path / "store.sqlite", data, ray=nodes.address)
    assert same(tmp_path / "store.sqlite") == expected


def test_the_command_line_builds_on_a_cluster(nodes, data, tmp_path, monkeypatch):
    methods = spread("quick", architectures=3)
    expected = alone(monkeypatch, make_plan(methods, tasks=2), tmp_path, data, QUICK)
    plan = write_plan(tmp_path / "plan.toml", methods, tasks=2, **PATIENT)
    out = finished(plan, tmp_path / "store.sqlite", data, QUICK, "--ray", nodes.address, "--json")
    assert json.loads(out)["jobs"] == 6
    assert same(tmp_path / "store.sqlite") == expected
