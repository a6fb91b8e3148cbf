"""What needs no cluster: those that are refused, and what each error of Ray means for a job."""

from __future__ import annotations

import socket
import sys

import pytest

from database.plan import RunPlan
from database.workers.ray import ClusterWorkers
from metad2a.errors import InputError


@pytest.fixture(scope="module", autouse=True)
def ray():
    """Ray, imported by whoever runs these tests, not by whoever lists them."""
    return pytest.importorskip("ray")


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ({"cpus": 0}, "cpus = 0 and gpus = 0"),
        ({"cpus": 1.5}, "cpus = 1.5 .* whole number"),
        ({"gpus": 2.5}, "gpus = 2.5 .* whole number"),
        ({"device": "cuda"}, "device = 'cuda' and gpus = 0"),
    ],
)
def test_an_impossible_share_is_refused(run, message):
    with pytest.raises(InputError, match=message):
        ClusterWorkers("127.0.0.1:1", RunPlan(**run), None)


@pytest.mark.parametrize(
    "address",
    [
        "nonsense",
        "ray://127.0.0.1:10001",
        "127.0.0.1",
        "127.0.0.1:port",
        ":6379",
        "127.0.0.1:99999",
    ],
)
def test_what_is_no_address_is_refused_by_name(address):
    with pytest.raises(InputError, match=f"{address!r}"):
        ClusterWorkers(address, RunPlan(), None)


@pytest.mark.parametrize("given", ["as an argument", "as RAY_ADDRESS"])
def test_an_address_where_nobody_listens_is_refused_by_name(given, monkeypatch):
    with socket.socket() as taken:  # bound, so that nobody else listens there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        with pytest.raises(InputError, match=f"Nothing answers at '{address}'"):
            ClusterWorkers(address if given == "as an argument" else "auto", RunPlan(), None)


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'metad2a\[ray\]'"):
        ClusterWorkers("auto", RunPlan(), None)


@pytest.mark.parametrize(
    ("error", "given", "lost"),
    [
        ("NodeDiedError", ("gone",), True),
        ("LocalRayletDiedError", (), True),
        ("ObjectLostError", ("a" * 56, "owner", "site"), True),
        ("OwnerDiedError", ("a" * 56, "owner", "site"), True),
        ("TaskUnschedulableError", ("nowhere",), True),
        ("WorkerCrashedError", (), False),
        ("OutOfMemoryError", ("too much",), False),
        ("TaskCancelledError", (), False),
    ],
)
def test_only_a_machine_that_went_away_is_no_failure(monkeypatch, ray, error, given, lost):
    """Fault B2: what each error is that Ray gives for a result."""

    def get(reference):
        raise getattr(ray.exceptions, error)(*given)

    monkeypatch.setattr(ClusterWorkers, "_join", lambda self, address: None)
    monkeypatch.setattr(ClusterWorkers, "_room", lambda self: 1)
    monkeypatch.setattr(ray, "wait", lambda running, timeout: (running, []))
    monkeypatch.setattr(ray, "get", get)
    workers = ClusterWorkers("auto", RunPlan(), None)
    workers._running["a reference"] = 7
    (ended,) = workers.wait(0)
    assert (ended.number, ended.outcome, ended.lost) == (7, None, lost)
    assert ended.error.startswith(error)
    assert "\n" not in ended.error
    assert workers.wait(0) == []
