"""Networks within a latency limit. Milliseconds are made up: true ones vary with other work."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import metad2a
from metad2a import latency
from metad2a.cli import main
from metad2a.errors import BudgetError, InputError
from metad2a.latency import checked_limit, widened, within
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
SHARES = np.array([0, 0.05, 1.5, 2.3, 1.8])
"""Milliseconds that each operation of a cell adds to the 1.0 of the rest."""


def drawn_ms(space, architecture, classes):
    return 1 + float(SHARES[list(architecture)].sum())


@pytest.fixture
def clock(monkeypatch):
    """Replace the stop watch; list what was measured."""
    seen = []

    def measure(space, architecture, classes):
        seen.append(architecture)
        return drawn_ms(space, architecture, classes)

    monkeypatch.setattr(latency, "measure", measure)
    return seen


@pytest.fixture(scope="module")
def cells() -> np.ndarray:
    """Every distinct cell, in an order that loosely follows the costs, dearest first."""
    every = SPACE.listed()
    macs = SPACE.costs(every, 10)[:, 1] / 1e8
    return every[np.argsort(-macs + np.random.default_rng(0).normal(0, 0.2, len(every)))]


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng, labels = np.random.default_rng(0), np.arange(24) % 2
    images = rng.integers(0, 90, (24, 16, 16, 3), dtype=np.uint8)
    images[labels == 1, ::3] += 130
    return images, labels


# -- choosing what to measure ----------------------------------------------------------------


@pytest.mark.parametrize("limit", [1.06, 2.0, 5.0, 9.3, 50.0])
def test_the_first_that_keep_to_the_limit_are_found_with_few_measured(cells, clock, limit):
    found, times, how = within(SPACE, cells, 10, limit, 5)
    true = np.array([drawn_ms(SPACE, cell, 10) for cell in cells])
    assert found == np.flatnonzero(true <= limit)[:5].tolist()
    assert times == true[found].tolist()
    assert how.measured == len(clock) == len(set(clock)) <= 20
    assert (how.limit_ms, how.batch, how.resolution) == (limit, 1, 32)


def test_an_impossible_limit_names_the_fastest_and_what_works(cells, clock):
    with pytest.raises(BudgetError, match=r"takes 1\.05 ms. Use max_latency_ms=1\.16 or") as error:
        within(SPACE, cells, 10, 0.9, 5)
    assert "CPU, 1 thread, batch 1, 32x32 pixels" in str(error.value)
    assert len(clock) <= 20
    assert len(within(SPACE, cells, 10, 1.16, 5)[0]) > 0


def test_work_is_bounded_where_estimates_mislead(cells, monkeypatch):
    rng = np.random.default_rng(0)
    calls = []
    monkeypatch.setattr(latency, "measure", lambda *_: calls.append(0) or rng.uniform(1, 100))
    found, times, how = within(SPACE, cells, 10, 3.0, 50)
    assert len(calls) == how.measured <= latency.MOST
    assert 0 < len(found) < 50
    assert max(times) <= 3.0


def test_after_the_time_only_a_first_one_is_still_looked_for(cells, clock, monkeypatch):
    monkeypatch.setattr(latency, "SECONDS", -1.0)
    found, _, _ = within(SPACE, cells, 10, 5.0, 5)
    assert len(found) == 1


def test_fewer_cells_than_asked_for_are_all_measured(cells, clock):
    found, _, how = within(SPACE, cells[:3], 10, 100.0, 5)
    assert (found, how.measured) == ([0, 1, 2], 3)


def test_a_pool_of_large_networks_is_given_small_ones(cells):
    asked = []

    def generate(most: int) -> np.ndarray:
        asked.append(most)
        return cells[SPACE.costs(cells, 10)[:, 1] <= most][:4]

    pool = widened(SPACE, cells[:4], 10, generate)
    assert pool[:4].tolist() == cells[:4].tolist()
    assert len({tuple(cell) for cell in pool.tolist()}) == len(pool) > 4
    assert asked == sorted(asked, reverse=True)
    assert asked[-1] == SPACE.smallest(10).macs == SPACE.costs(pool, 10)[:, 1].min()


# -- the stop watch --------------------------------------------------------------------------


def test_measuring_times_the_network_and_leaves_torch_as_it_was(monkeypatch):
    ticks = iter(np.cumsum([0.0, 0.5] + [1.0, 0.5] * 100))
    monkeypatch.setattr(latency.time, "perf_counter", lambda: float(next(ticks)))
    shapes, modes, threads = [], [], []
    build = SPACE.build

    def watched(*args):
        network = build(*args)
        network.register_forward_hook(
            lambda module, given, out: (
                shapes.append(given[0].shape),
                modes.append(module.training),
                threads.append(torch.get_num_threads()),
            )
        )
        return network

    monkeypatch.setattr(SPACE, "build", watched)
    before, many = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(many + 1)
    assert latency.measure(SPACE, (1, 0, 0, 0, 1, 1), 4) == pytest.approx(500)
    assert set(shapes) == {(1, 3, 32, 32)}
    assert len(shapes) == latency.WARM_UP + latency.REPEATS
    assert (set(modes), set(threads)) == ({False}, {1})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == many + 1
    torch.set_num_threads(many)


@pytest.mark.parametrize(
    "limit",
    [
        0,
        -1,
        0.0,
        True,
        "5",
        None,
        float("nan"),
        float("inf"),
        10**400,
        [5],
        1 + 2j,
    ],
    ids=lambda limit: str(limit)[:12],
)
def test_what_is_no_limit_is_refused(limit):
    with pytest.raises(InputError, match="max_latency_ms=") as error:
        checked_limit(limit)
    assert repr(limit)[:20] in str(error.value)


@pytest.mark.parametrize("limit", [5, 0.5, np.float32(5), np.int64(3)], ids=repr)
def test_what_is_a_limit(limit):
    assert checked_limit(limit) == limit
    assert type(checked_limit(limit)) is float


# -- suggest ---------------------------------------------------------------------------------


def test_suggest_obeys_and_says_how_it_measured(data, clock):
    found = metad2a.suggest(data, k=4, max_latency_ms=4, max_params=400_000, space="nasbench201")
    assert len(found) == 4
    for rank, one in enumerate(found, start=1):
        assert one.rank == rank
        assert one.latency_ms == drawn_ms(SPACE, SPACE.parse(one.architecture), 2) <= 4
        assert one.params <= 400_000
        assert "found to take at most 4 ms" in one.reason
    assert [one.accuracy for one in found] == sorted((one.accuracy for one in found), reverse=True)
    assert found.limits.max_latency_ms == 4
    shown = str(found)
    assert "latency  architecture" in shown
    assert f"{found[0].latency_ms:.2f} ms  |" in shown
    assert "at most 4 ms on this machine (CPU, 1 thread, batch 1, 32x32 pixels)" in shown
    answer = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert answer["latency"] == {
        "limit_ms": 4,
        "device": "CPU, 1 thread",
        "batch": 1,
        "resolution": 32,
        "measured": len(clock),
    }
    assert answer["candidates"][0]["latency_ms"] == found[0].latency_ms
    revised = found.revised(reversed(found), 1.0)
    assert (revised.latency, revised.nearest) == (found.latency, found.nearest)


def test_without_a_limit_nothing_is_measured(data, clock):
    found = metad2a.suggest(data, k=2, space="nasbench201")
    assert clock == []
    assert {one.latency_ms for one in found} == {None}
    assert (found.latency, found.to_dict()["latency"]) == (None, None)
    assert "latency" not in str(found).lower()


def test_the_command_takes_the_limit(tmp_path, data, clock, capsys):
    from PIL import Image

    for index, (image, label) in enumerate(zip(*data, strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / str(label) / f"{index}.png")
    assert (
        main(
            [
                "suggest",
                str(tmp_path),
                "--space",
                "nasbench201",
                "--max-latency-ms",
                "3.5",
                "--json",
            ]
        )
        == 0
    )
    answer = json.loads(capsys.readouterr().out)
    assert max(one["latency_ms"] for one in answer["candidates"]) <= 3.5
    assert (
        main(
            [
                "suggest",
                str(tmp_path),
                "--space",
                "nasbench201",
                "--max-latency-ms",
                "0.5",
                "--json",
            ]
        )
        == 3
    )
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "BudgetError"
    assert "takes 1.05 ms" in error["message"]
    for limit, code in (("nan", 3), ("-1", 3), ("fast", 2)):
        assert (
            main(["suggest", str(tmp_path), "--space", "nasbench201", "--max-latency-ms", limit])
            == code
        )
    assert "max_latency_ms=nan" in capsys.readouterr().err
