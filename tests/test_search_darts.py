"""DARTS of the second order, and P-DARTS: the unrolled step, the stages, the skip connections."""

import math

import numpy as np
import pytest
import torch
from searching import task
from torch import nn

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.methods import pdarts
from search.methods.darts2 import unrolled_gradient
from search.methods.pdarts import PDarts, skip_rate
from search.searching import Conducted, Search

DARTS, BENCH = SPACES.get("darts"), SPACES.get("nasbench201")


def started(method: str, space: str = "nasbench201", **arguments) -> Conducted:
    """Return a search that has not taken a step."""
    return Search(
        task(),
        space,
        method,
        images=1000,
        should_stop=lambda: True,
        **{"channels": 2, "cells": 1, **arguments},
    ).conduct()


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


# -- the unrolled step -----------------------------------------------------------------------------


def test_the_second_order_gradient_is_that_of_a_quadratic_by_hand():
    """L_train = |w - B a|^2 / 2 and L_valid = |w - c|^2 / 2 + d a give d + xi B^T (w' - c)."""
    b, c, d = drawn(5, 3), drawn(5, seed=1), drawn(3, seed=2)
    alpha, w = drawn(3, seed=3).requires_grad_(), drawn(5, seed=4).requires_grad_()
    velocity, rate, momentum, decay = drawn(5, seed=5), 0.3, 0.9, 0.05
    gradient, loss = unrolled_gradient(
        alpha,
        [w],
        [velocity],
        lambda: (w - b @ alpha).square().sum() / 2,
        lambda: (w - c).square().sum() / 2 + d @ alpha,
        rate,
        momentum,
        decay,
    )
    with torch.no_grad():
        stepped = w - rate * (momentum * velocity + (w - b @ alpha) + decay * w)
        torch.testing.assert_close(gradient, d + rate * b.T @ (stepped - c), rtol=1e-9, atol=1e-9)
        assert loss == pytest.approx(float((stepped - c).square().sum() / 2 + d @ alpha))


def test_the_second_order_gradient_is_that_of_autograd_through_the_step():
    alpha = drawn(4).requires_grad_()
    weights = [
        drawn(6, 4, seed=1).requires_grad_(),
        drawn(6, seed=2).requires_grad_(),
        drawn(7, seed=3).requires_grad_(),
    ]  # nothing uses the last one
    x, y = drawn(20, 4, seed=4), drawn(20, seed=5)

    def loss(rows: slice, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return (torch.tanh((x[rows] * alpha) @ first.T) @ second - y[rows]).square().mean()

    train, valid = slice(0, 10), slice(10, 20)
    slopes = torch.autograd.grad(loss(train, *weights[:2]), weights[:2], create_graph=True)
    stepped = [w - 0.1 * (s + 0.01 * w) for w, s in zip(weights, slopes, strict=False)]
    wanted = torch.autograd.grad(loss(valid, *stepped), alpha)[0]
    first_order = torch.autograd.grad(loss(valid, *weights[:2]), alpha)[0]
    found, _ = unrolled_gradient(
        alpha,
        weights,
        [None] * 3,
        lambda: loss(train, *weights[:2]),
        lambda: loss(valid, *weights[:2]),
        0.1,
        0.9,
        0.01,
    )
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    assert (first_order - wanted).norm() > 0.05 * wanted.norm()


@pytest.mark.parametrize("breaks", [0, 2, 3])
def test_weights_are_put_back_to_the_last_bit_whatever_happens(breaks):
    alpha, w = drawn(3).float().requires_grad_(), drawn(3, seed=1).float().requires_grad_()
    before, calls = w.detach().clone(), iter(range(1, 10))

    def train() -> torch.Tensor:
        if next(calls) == breaks:
            raise torch.OutOfMemoryError("out of memory")
        return (alpha * w).square().sum()

    def valid() -> torch.Tensor:
        return (w * alpha.exp()).sum()

    arguments = (alpha, [w], [None], train, valid, 0.1, 0.9, 3e-4)
    if breaks:
        with pytest.raises(torch.OutOfMemoryError):
            unrolled_gradient(*arguments)
    else:
        unrolled_gradient(*arguments)
    assert torch.equal(w, before)


def test_without_a_validation_slope_only_the_direct_gradient_is_left():
    alpha, w = drawn(3).requires_grad_(), drawn(3, seed=1).requires_grad_()
    found, _ = unrolled_gradient(
        alpha,
        [w],
        [None],
        lambda: (alpha * w).square().sum(),
        lambda: alpha.sum() + 0 * w.sum(),
        0.1,
        0.9,
        3e-4,
    )
    torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64))


def test_at_a_learning_rate_of_zero_both_orders_agree():
    found = started("darts2")
    run, method = found.run, found.composed.method
    run.rate_scale = 0.0
    train, valid = run.batch("weights"), run.batch("architecture")
    second, loss = method._gradient(run, train, valid)
    first, plain = method.gate_gradient(run, valid, method.mixture(run))
    torch.testing.assert_close(second, first)
    assert loss == pytest.approx(plain)


@pytest.mark.parametrize(("method", "passes"), [("darts", 2), ("darts2", 5)])
def test_a_step_counts_every_pass(method, passes):
    found = started(method)
    found.run.advance(found.composed.method)
    assert found.run.images == passes * 20
    assert found.run.cursors == {"weights": 1, "architecture": 1}


# -- the stages of P-DARTS -------------------------------------------------------------------------


def test_the_stages_have_the_published_depths_and_operations(monkeypatch):
    found = started("pdarts", "darts", cells=5, channels=1)
    run, method = found.run, found.composed.method
    depths, counts = [], []
    assert run.macro["cells"] == 5
    assert len(run.network.cells) == 5
    monkeypatch.setattr(run, "renew", lambda **macro: depths.append(macro["cells"]))
    monkeypatch.setattr(run, "train_weights", lambda *_: 0.0)
    monkeypatch.setattr(PDarts, "gate_gradient", lambda *_: (torch.zeros(28, 8), 0.0))
    for fraction in (0.0, 0.33, 0.34, 0.66, 0.67, 0.99):
        run.fraction = fraction
        method.step(run)
        counts.append(method.active.sum(1).tolist())
    assert depths == [11, 17]
    assert counts == [[8] * 28] * 2 + [[5] * 28] * 2 + [[3] * 28] * 2


def test_the_gradient_of_alphas_is_clipped_as_published(monkeypatch):
    norms, large = [], torch.full((6, 5), 100.0)
    monkeypatch.setattr(PDarts, "gate_gradient", lambda *_: (large, 1.0))
    monkeypatch.setattr(
        "search.gradient.alphas.ArchitectureParameters.update",
        lambda self, gradient, touched: norms.append(float(gradient.norm())),
    )
    Search(task(count=12), "nasbench201", "pdarts", images=36, channels=2, cells=1).conduct()
    assert norms
    assert norms == pytest.approx([5.0] * len(norms))
    small = torch.full((6, 5), 0.1)
    assert torch.equal(pdarts._clipped(small), small)


def test_a_search_narrows_and_deepens_and_names_what_is_left():
    found = Search(
        task(count=12), "nasbench201", "pdarts", images=36, channels=2, cells=1
    ).conduct()
    method, run = found.composed.method, found.run
    assert run.macro == {"channels": 2, "cells": 3}
    assert len(run.network.stages[0]) == 3
    assert method.active.sum(1).tolist() == [2] * 6
    assert all(method.active[slot, op] for slot, op in enumerate(found.ranking[0][0]))
    assert [h["note"] for h in run.history if "note" in h] == [
        "stage 2 goes on with 3 operations an edge",
        "stage 3 goes on with 2 operations an edge",
    ]


@pytest.mark.slow
def test_a_search_goes_on_in_a_later_stage_to_the_last_bit(tmp_path):
    def run(**arguments) -> Conducted:
        return Search(
            task(count=12), "nasbench201", "pdarts", images=36, channels=2, cells=1, **arguments
        ).conduct()

    asked = iter(range(3))
    stopped = run(checkpoint=tmp_path / "run", should_stop=lambda: next(asked, None) is None)
    assert stopped.composed.method.stage == 1
    resumed, whole = run(checkpoint=tmp_path / "run"), run()
    assert resumed.ranking == whole.ranking
    assert torch.equal(resumed.composed.method.alphas.alpha, whole.composed.method.alphas.alpha)
    left, right = whole.run.network.state_dict(), resumed.run.network.state_dict()
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_alphas_rest_in_the_first_ten_epochs_of_each_stage(monkeypatch):
    found = started("pdarts")
    run, method, moved = found.run, found.composed.method, []
    monkeypatch.setattr(PDarts, "_start", lambda *_: None)
    monkeypatch.setattr(run, "train_weights", lambda *_: 0.0)

    def spy(*_) -> tuple[torch.Tensor, float]:
        moved.append(run.fraction)
        return torch.ones(6, 5), 0.0

    monkeypatch.setattr(PDarts, "gate_gradient", spy)
    fractions = [(stage + epoch / 25 + 0.001) / 3 for stage in range(3) for epoch in range(25)]
    for run.fraction in fractions:
        method.step(run)
    assert moved == [f for k, f in enumerate(fractions) if k % 25 >= 10]


def test_the_learning_rate_falls_anew_in_each_stage():
    run = started("pdarts").run
    rates = []
    for run.fraction in (0.0, 1 / 6, 0.333, 0.334, 0.5, 0.999, 1.0):
        rates.append(run.rate)
    assert rates == pytest.approx([0.025, 0.0125, 0, 0.025, 0.0125, 0, 0], abs=1e-5)


def test_operations_leave_by_their_probability_and_none_stays_in_the_space():
    found = started("pdarts", "darts")
    run, method = found.run, found.composed.method
    order = np.array([0, 3, 5, 1, 2, 4, 6, 7])  # from the weakest to the strongest
    with torch.no_grad():
        method.alphas.alpha[:, order] = torch.arange(8.0)
    method._narrow(run)
    gone = np.zeros((28, 8), dtype=bool)
    gone[:, order[:3]] = True
    np.testing.assert_array_equal(method.active, ~gone)
    gone[:, 0] = False  # edges without an operation
    np.testing.assert_array_equal(run.subspace.mask, ~gone)
    assert (method.mixture(run).active == method.active).all()
    winner = method.derive(run)[0][0]
    assert run.subspace.contains(winner)
    assert set(winner) == {0, 7}


def test_what_a_limit_needs_does_not_leave():
    free = started("pdarts").run.space.smallest(3)
    found = started("pdarts", max_params=free.params, max_macs=free.macs)
    run, method = found.run, found.composed.method
    assert set(np.flatnonzero(run.subspace.mask.any(0))) == {0, 1, 4}
    with torch.no_grad():
        method.alphas.alpha[:, 0] = 9.0  # none
    for _ in range(2):
        method._narrow(run)
        method.stage += 1
    for architecture, _ in method.derive(run):
        assert run.subspace.contains(architecture)


# -- skip connections ------------------------------------------------------------------------------


def test_the_dropout_of_skips_fades_as_published():
    assert skip_rate(0, 0) == pytest.approx(0.1 * 24 / 25)
    assert skip_rate(1, 9) == pytest.approx(0.4 * 15 / 25)
    assert skip_rate(2, 10) == pytest.approx(0.7)
    assert skip_rate(2, 24) == pytest.approx(0.7 * math.exp(-2.8))


def test_only_skips_without_a_convolution_are_dropped_and_only_in_a_step():
    found = started("pdarts", "darts")  # one cell, which halves the side
    run, method = found.run, found.composed.method
    (strided,), (plain,) = (run.supernet.edges(slot)[0].operation(3) for slot in (14, 18))
    assert isinstance(plain, nn.Identity)
    ones = torch.ones(4, 4, 50, 50)
    before = strided(ones)
    with method._skip_dropout(run, 0.75):
        dropped = plain(ones)
        torch.testing.assert_close(strided(ones), before)
    assert set(dropped.unique().tolist()) == {0.0, 4.0}
    assert float(dropped.mean()) == pytest.approx(1, abs=0.1)
    assert torch.equal(plain(ones), ones)


def test_skips_are_limited_in_the_normal_cell_the_weakest_first():
    found = started("pdarts", "darts")
    run, method = found.run, found.composed.method
    with torch.no_grad():
        alpha = method.alphas.alpha
        alpha[:, 3] = 2.0
        alpha[[4, 9], 3] = 3.0
        alpha[:, 5] = 1.0
    assert sum(op == 3 for op in run.subspace.best(method.slot_scores(run))[0][:14]) == 8
    winner = method.derive(run)[0][0]
    assert [slot for slot in range(14) if winner[slot] == 3] == [4, 9]
    assert set(winner[:14]) == {0, 3, 5}
    assert sum(op == 3 for op in winner[14:]) == 8


@pytest.mark.parametrize("skips", [0, 1, 6])
def test_the_limit_is_an_option(skips):
    found = started("pdarts", options={"pdarts.skips": skips})
    with torch.no_grad():
        found.composed.method.alphas.alpha[:, 1] = 2.0
    winner = found.composed.method.derive(found.run)[0][0]
    assert sum(op == 1 for op in winner) == skips
    assert BENCH.is_connected(winner)


def test_a_negative_limit_is_refused():
    with pytest.raises(InputError, match=r"skips=-1 .*use 0 or more"):
        PDarts(skips=-1)


def test_a_limit_that_leaves_skips_only_ends():
    found = started("pdarts")
    run = found.run
    run.subspace.mask[:] = False
    run.subspace.mask[:, 1] = True
    run.fraction = 0.0
    run.advance(found.composed.method)
    assert found.composed.method.derive(run)[0][0] == (1,) * 6
