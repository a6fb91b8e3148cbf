"""Workers that crash, hang, run out of memory or measure nonsense: the driver outlives them all."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter

import pytest
import torch
from building import count, jobs_by_state, make_data, make_plan, rows, spread, until, use
from labelling import Faulty, Quick, Wrong

from database import draw_tasks
from database.build import build
from database.schema import FAILURES
from database.workers import local
from database.workers.base import Work
from database.workers.local import LocalWorkers
from metad2a.datasets import load_dataset

CELLS = (
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
    "|nor_conv_1x1~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def task(data):
    return draw_tasks(load_dataset(data / "first"), 1, seed=0)[0]


@pytest.fixture(autouse=True)
def quick_start(monkeypatch):
    """Let new workers come from a process that has torch: a fork takes no seconds."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "labelling", "database.workers.local"])
    monkeypatch.setattr(local.multiprocessing, "get_context", lambda kind: context)


@pytest.fixture
def workers(data, task):
    made = LocalWorkers(1, {task.dataset: data / "first"})
    yield made
    made.close()


def carry_out(workers, labeller, task, device="cpu"):
    """Return how a job ended."""
    workers.start(7, Work(labeller, "nasbench201", CELLS, 0, device, 1), task)
    (ended,) = until(lambda: workers.wait(0.2), "the end of a job")
    assert ended.number == 7
    assert workers.free() == 1
    return ended


DEATHS = {
    "raises": "RuntimeError: out of luck",
    "aborts": f"exit code -{int(signal.SIGABRT)} and gave no result",
    "leaves": "exit code 0 and gave no result",
    "leaves at once": "exit code 0 and gave no result",
    "eats memory": "MemoryError",
    "is killed": "exit code -9 (killed, usually for want of memory)",
}


@pytest.mark.parametrize("fault", DEATHS)
def test_b2_b5_a_worker_that_fails_is_told_of_and_replaced(workers, task, tmp_path, fault):
    ended = carry_out(workers, Faulty(fault=fault), task)
    assert ended.outcome is None
    assert DEATHS[fault] in ended.error
    assert not ended.lost
    after = carry_out(workers, Quick(seen=str(tmp_path)), task)
    assert len(after.outcome.measurements) == 2
    assert len(list(tmp_path.iterdir())) == 1


def test_b4_b23_a_worker_that_hangs_is_ended_and_its_place_is_free(workers, task, tmp_path):
    once = tmp_path / "once"
    workers.start(
        7, Work(Faulty(fault="hangs", once=str(once)), "nasbench201", CELLS, 0, "cpu", 1), task
    )
    until(once.exists)
    (process,) = multiprocessing.active_children()
    workers.stop(7)
    assert not process.is_alive()
    assert (workers.free(), workers.wait(0)) == (1, [])
    assert carry_out(workers, Quick(), task).outcome is not None


def test_b22_an_error_gets_the_next_job_a_fresh_process(workers, task, tmp_path):
    """What a lost GPU leaves behind would fail every later job of the process."""
    seen, once = tmp_path / "seen", tmp_path / "once"
    seen.mkdir()
    labeller = Faulty(fault="spoils", once=str(once), seen=str(seen))
    assert "CUDA error" in carry_out(workers, labeller, task).error
    for _ in range(2):
        assert carry_out(workers, labeller, task).outcome is not None
    (process,) = {path.name.partition("-")[0] for path in seen.iterdir()}  # and it is kept
    assert int(process) != os.getpid()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_b22_a_gpu_whose_context_is_lost_serves_the_next_job(workers, task, tmp_path):
    labeller = Faulty(fault="breaks the GPU", once=str(tmp_path / "once"))
    assert "CUDA error: device-side assert" in carry_out(workers, labeller, task, "cuda").error
    assert carry_out(workers, labeller, task, "cuda").outcome.device.startswith("cuda (")


def test_an_idle_worker_that_dies_is_replaced(workers, task):
    assert carry_out(workers, Quick(), task).outcome is not None
    (process,) = multiprocessing.active_children()
    process.kill()
    process.join()
    assert workers.wait(1) == []
    assert carry_out(workers, Quick(), task).outcome is not None


@pytest.mark.slow
def test_b5_a_build_goes_on_after_every_way_to_die(data, tmp_path, monkeypatch):
    """Each fault comes once: its job fails one try of three, and is done in the second."""
    labellers = {"quick": Quick()} | {
        fault: Faulty(fault.replace(" ", "-"), fault=fault, once=str(tmp_path / fault))
        for fault in (*DEATHS, "hangs")
    }
    use(monkeypatch, **labellers)
    path = tmp_path / "store.sqlite"
    plan = make_plan(*(spread(name, architectures=1) for name in labellers), wall_seconds=10)
    summary = build(plan, path, data)
    assert (summary.jobs, summary.quarantined) == (2 * len(labellers), 0)
    assert len(summary.failures) == count(path, FAILURES) == len(DEATHS) + 1
    for fault, error in {**DEATHS, "hangs": "longer than wall_seconds = 10"}.items():
        (text,) = [text for text in summary.failures if text.startswith(f"{fault} on")]
        assert error in text
    assert Counter(row["protocol"] for row in rows(path)) == {
        labeller.name: 2 for labeller in labellers.values()
    }


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1.5", "-0.1"])
def test_b6_a_value_that_cannot_be_takes_its_whole_job_with_it(data, tmp_path, monkeypatch, value):
    use(monkeypatch, quick=Quick(), wrong=Wrong("wrong", shared=True, value=value))
    path = tmp_path / "store.sqlite"
    plan = make_plan(spread("wrong", "quick", architectures=3), tasks=1)
    summary = build(plan, path, data)
    assert [f"wrong = {float(value)!r}" in text for text in summary.failures] == [True] * 3
    assert Counter(row["protocol"] for row in rows(path)) == {"quick": 3}
    assert jobs_by_state(path) == {"done": 3, "quarantined": 1}
