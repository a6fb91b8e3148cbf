"""ProxylessNAS: the two-path gradient, the mass of a pair, the warm-up and the expected cost."""

import numpy as np
import pytest
import torch
from searching import task
from torch.nn import functional as F

from metad2a.spaces import SPACES
from metad2a.spaces.supernets.gates import Gates
from search.gradient.two_path import draw_pairs, draw_path, two_path_gates
from search.methods import proxylessnas
from search.methods.proxylessnas import cost_gradient, cost_shares
from search.searching import Search

CELLS = {"nasbench201": 1, "darts": 3}  # with fewer, darts has no normal cell


def searched(space="nasbench201", images=16, **arguments):
    """Return run and method after one step or more of a tiny search."""
    found = Search(
        task(), space, "proxylessnas", images=images, channels=2, cells=CELLS[space], **arguments
    ).conduct()
    return found.run, found.composed.method


def drawn(space, seed=0):
    """Return alphas (float64) and a pair a slot; ``none`` is active in one and idle in another."""
    rng = np.random.default_rng(seed)
    shape = space.slots, len(space.operations)
    alpha = torch.from_numpy(rng.standard_normal(shape)).requires_grad_(True)
    active, idle = draw_pairs(np.full(shape, 1.0), rng)
    for slot, op, other in ((0, 0, 2), (1, 3, 0)):
        active[slot], idle[slot] = np.eye(shape[1], dtype=bool)[[op, other]]
    return alpha, active, idle


@pytest.mark.parametrize("name", CELLS)
def test_the_two_path_gradient_is_that_of_the_softmax_over_the_pair(name):
    space = SPACES.get(name)
    torch.manual_seed(0)
    network = space.supernet(3, channels=2, cells=CELLS[name]).double()
    x, y = torch.randn(6, 3, 8, 8, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    alpha, active, idle = drawn(space)
    loss = F.cross_entropy(network(x, two_path_gates(alpha, active, idle)), y)
    (found,) = torch.autograd.grad(loss, alpha)

    # <o_j(x), dL/do> at one-hot gates, with everything on the graph; then softmax by autograd.
    gates = torch.from_numpy(active).double().requires_grad_(True)
    (by_gate,) = torch.autograd.grad(
        F.cross_entropy(network(x, Gates(active | idle, gates)), y), gates
    )
    assert float(by_gate[:, 0].abs().max()) == 0  # none gives nothing
    softmax = torch.where(torch.from_numpy(active | idle), alpha, -torch.inf).softmax(-1)
    (wanted,) = torch.autograd.grad((softmax * by_gate).sum(), alpha)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert float(found.abs().max()) > 1e-4
    assert float(found[0].abs().sum()) > 0  # none was active there


def test_pairs_and_paths_are_drawn_by_their_probabilities():
    rng = np.random.default_rng(0)
    p = np.tile([0.5, 0.3, 0.2, 0.0], (20_000, 1))
    paths = draw_path(p, rng)
    assert np.allclose(paths.mean(0), p[0], atol=0.02)
    active, idle = draw_pairs(p, rng)
    assert ((active | idle).sum(1) == 2).all()
    assert not (active | idle)[:, 3].any()
    both = (active | idle)[:, :2].all(1)  # without replacement: .5 * .3/.5 + .3 * .5/.7
    assert abs(both.mean() - (0.3 + 0.3 * 0.5 / 0.7)) < 0.02
    assert abs(active[both, 0].mean() - 0.5 / 0.8) < 0.02
    active, idle = draw_pairs(np.array([[0.0, 1.0, 0.0]]), rng)
    assert active[0].tolist() == [False, True, False]
    assert not idle.any()


@pytest.mark.parametrize("name", CELLS)
def test_an_alpha_step_moves_the_pairs_alone_and_no_weight(name, monkeypatch):
    run, method = searched(name)
    _, active, idle = drawn(run.space)
    monkeypatch.setattr(proxylessnas, "draw_pairs", lambda *_: (active, idle))
    monkeypatch.setattr(run, "train_weights", lambda *_: 0.0)
    run.fraction, run.steps, images = 0.5, 5, run.images
    weights = [p.detach().clone() for p in run.network.parameters()]
    before = method.alphas.alpha.detach().clone()
    method.step(run)
    after, pair = method.alphas.alpha.detach(), torch.from_numpy(active | idle)
    assert torch.equal(after[~pair], before[~pair])
    assert (after[pair] != before[pair]).any()
    assert torch.allclose(after.softmax(-1)[~pair], before.softmax(-1)[~pair], atol=1e-6)
    assert all(map(torch.equal, weights, run.network.parameters()))
    assert run.images == images + run.batch_size("architecture")


@pytest.mark.parametrize("faithful", [False, True])
def test_only_the_published_code_leaves_alphas_where_none_is_active(faithful, monkeypatch):
    run, method = searched(faithful=faithful)
    _, active, idle = drawn(run.space)
    monkeypatch.setattr(proxylessnas, "draw_pairs", lambda *_: (active, idle))
    run.fraction, run.steps = 0.5, 5
    before = method.alphas.alpha.detach().clone()
    method.step(run)
    moved = (method.alphas.alpha.detach() != before).any(1)
    assert bool(moved[active[:, 0]].any()) is not faithful
    assert moved[~active[:, 0]].any()


def test_alphas_learn_at_every_fifth_step_after_the_warm_up(monkeypatch):
    fractions = []
    step = proxylessnas.ProxylessNas._step_alphas
    monkeypatch.setattr(
        proxylessnas.ProxylessNas,
        "_step_alphas",
        lambda method, run: (fractions.append((run.steps, run.fraction)), step(method, run)),
    )
    run, _ = searched(images=1200)
    assert all(number % 5 == 0 and fraction >= 1 / 3 for number, fraction in fractions)
    assert len(fractions) == run.cursors["architecture"]
    first = int(1200 / 3 / run.batch_size())
    assert first <= fractions[0][0] < first + 6
    assert len(fractions) >= (run.steps - first) // 5 - 1


def test_the_cost_weighs_in_where_limits_forbid_something():
    run, method = searched("darts")
    assert not method.prices.any()
    space, least = run.space, run.space.smallest(3)
    run, method = searched("darts", max_macs=3 * least.macs)
    assert torch.equal(method.prices, cost_shares(run))
    sep3, sep5 = space.operations.index("sep_conv_3x3"), space.operations.index("sep_conv_5x5")
    assert (method.prices[:, sep5] > method.prices[:, sep3]).all()
    assert not method.prices[:, 0].any()
    priciest = run.subspace.best(method.prices.numpy())[0]
    fixed = 1 - run.subspace.score(method.prices.numpy(), [priciest])[0]
    assert fixed == pytest.approx(least.macs / space.cost(priciest, 3).macs, abs=1e-6)


def test_the_gradient_of_the_expected_cost_is_that_of_autograd():
    torch.manual_seed(0)
    alpha, prices = torch.randn(3, 4, requires_grad=True), torch.rand(3, 4)
    (wanted,) = torch.autograd.grad((alpha.softmax(-1) * prices).sum(), alpha)
    assert torch.allclose(cost_gradient(alpha.detach().softmax(-1), prices), wanted, atol=1e-7)


def test_a_cost_weight_makes_costly_operations_rare(monkeypatch):
    limit = 3 * SPACES.get("nasbench201").smallest(3).macs
    run, method = searched(
        max_macs=limit,
        options={"proxylessnas.cost_weight": 1e4, "proxylessnas.alpha_lr": 0.1},
    )
    monkeypatch.setattr(run, "train_weights", lambda *_: 0.0)

    def expected():
        p = method.alphas.probabilities(run.subspace.mask).detach()
        return float((p * method.prices).sum())

    before, run.fraction, run.steps = expected(), 0.5, 5
    for _ in range(40):
        method.step(run)
    assert expected() < 0.3 * before


@pytest.mark.slow
def test_alphas_go_on_from_a_checkpoint_to_the_last_bit(tmp_path):
    limit = 3 * SPACES.get("nasbench201").smallest(3).macs
    asked = iter(range(16))
    searched(
        images=400,
        max_macs=limit,
        checkpoint=tmp_path / "run",
        should_stop=lambda: next(asked, None) is None,
    )
    _, resumed = searched(images=400, max_macs=limit, checkpoint=tmp_path / "run")
    _, whole = searched(images=400, max_macs=limit)
    assert resumed.tensors().keys() == {"alpha", "moments", "prices"}
    assert all(
        torch.equal(resumed.tensors()[name], value) for name, value in whole.tensors().items()
    )
    assert whole.tensors()["moments"].any()
