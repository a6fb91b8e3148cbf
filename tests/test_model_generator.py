"""The generator: whatever it has learnt, what it draws is valid, distinct and within the limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from metad2a.model import generator_training
from metad2a.model.backbone import FEATURES
from metad2a.model.description import STATISTICS, Description
from metad2a.model.generator import Generator, _luck, generate
from metad2a.model.generator_training import fit_generator
from metad2a.model.predictor import (
    Predictor,
    PredictorConfig,
    prior_inputs,
    standardise_limits,
)
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
CONDITION = 6
CLASSES = 7
SMALLEST = SPACE.smallest(CLASSES)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(5, CONDITION, width=16).eval()


@pytest.fixture(scope="module")
def context(generator: Generator) -> torch.Tensor:
    with torch.no_grad():
        return generator.enter(torch.randn(1, CONDITION), torch.zeros(1, 2))


@pytest.fixture(scope="module")
def representatives() -> np.ndarray:
    cells = SPACE.as_array(list(dict.fromkeys(map(SPACE.canonical, SPACE.enumerate()))))
    return cells[SPACE.connected(cells)]


# -- what is generated -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "max_params", "max_macs"),
    [
        (1, None, None),
        (200, None, None),
        (50, 300_000, None),
        (50, None, 30_000_000),
        (50, 250_000, 25_000_000),
    ],
    ids=str,
)
def test_all_is_valid_canonical_distinct_and_within_limits(
    generator, context, count, max_params, max_macs
):
    cells = generate(generator, SPACE, context, count, 3, CLASSES, max_params, max_macs)
    assert cells.shape == (count, 6)
    assert cells.dtype == np.int64
    assert SPACE.connected(cells).all()
    assert len(np.unique(cells, axis=0)) == count
    assert all(SPACE.canonical(tuple(cell)) == tuple(cell) for cell in cells.tolist())
    params, macs = SPACE.costs(cells, CLASSES).T
    assert max_params is None or params.max() <= max_params
    assert max_macs is None or macs.max() <= max_macs


def test_the_seed_decides(generator, context):
    def drawn(seed: int) -> list[list[int]]:
        return generate(generator, SPACE, context, 40, seed, CLASSES, None, None).tolist()

    torch.manual_seed(1)
    first = drawn(5)
    torch.manual_seed(2)
    assert drawn(5) == first
    assert drawn(6) != first


@pytest.mark.parametrize(
    ("params", "macs"), [(0, None), (None, 0), (6_000, None), (60_000, 5_000_000)], ids=str
)
def test_a_small_space_comes_out_whole_and_once(generator, context, representatives, params, macs):
    max_params = None if params is None else SMALLEST.params + params
    max_macs = None if macs is None else SMALLEST.macs + macs
    cells = generate(generator, SPACE, context, 20_000, 0, CLASSES, max_params, max_macs)
    wanted = representatives[SPACE.feasible(representatives, CLASSES, max_params, max_macs)]
    assert len(cells) == len(wanted) > 0
    assert set(map(tuple, cells.tolist())) == set(map(tuple, wanted.tolist()))


def test_limits_are_exact_at_the_border(generator, context):
    limit = SMALLEST.params + 2 * int(SPACE.cost_table(CLASSES, 32)[1][0, 2, 0])  # two 1x1
    cells = generate(generator, SPACE, context, 20_000, 0, CLASSES, limit, None)
    assert SPACE.costs(cells, CLASSES)[:, 0].max() == limit
    fewer = generate(generator, SPACE, context, 20_000, 0, CLASSES, limit - 1, None)
    assert 0 < len(fewer) < len(cells)
    assert SPACE.costs(fewer, CLASSES)[:, 0].max() < limit


def test_spaces_of_ragged_conditional_decisions_come_out_too():
    space = SPACES.get("efficientnet_lite")
    torch.manual_seed(0)
    made = Generator(max(len(d.values) for d in space.decisions), 3, width=8)
    limit = 3 * space.smallest(CLASSES).macs
    cells = generate(made, space, torch.randn(1, 8), 40, 0, CLASSES, None, limit)
    assert len(np.unique(cells, axis=0)) == 40
    assert all(space.canonical(tuple(cell)) == tuple(cell) for cell in cells.tolist())
    assert space.costs(cells, CLASSES)[:, 1].max() <= limit


# -- sampling without replacement ------------------------------------------------------------


def test_the_luckiest_child_is_as_lucky_as_its_parent():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(500, 5, generator=random) * 4
    logits[::3, 2:] = -torch.inf
    parents = torch.randn(500, generator=random) * 5 - 3
    logp = parents[:, None] + logits.log_softmax(1)
    luck = _luck(logp, parents, random)
    assert torch.equal(luck.max(1).values, parents)
    assert not luck.isnan().any()
    assert (luck[::3, 2:] == -torch.inf).all()
    assert luck[1::3].isfinite().all()


@pytest.mark.slow
def test_the_first_draw_follows_the_softmax(generator, context):
    """Pearson's chi-square of 1,500 first draws of two slots with a forbidden corner."""

    def allowed(prefixes: np.ndarray) -> np.ndarray:
        return ~((prefixes[:, 0] == 0) & (prefixes[:, -1] == 1) & (prefixes.shape[1] == 2))

    pairs = torch.tensor(list(itertools.product(range(5), range(5))))
    with torch.no_grad():
        expected = generator.log_likelihood(context.expand(25, -1), pairs).exp().double()
    # The grammar renormalises the second decision after a first one of 0.
    zero = float(expected[:5].sum())
    expected[1] = 0
    expected[:5] *= zero / expected[:5].sum()
    assert float(expected.sum()) == pytest.approx(1, abs=1e-5)

    random = torch.Generator().manual_seed(0)
    draws = np.concatenate(
        [generator.sample(context, 2, 3, allowed, random)[:1] for _ in range(1500)]
    )
    counts = np.bincount(draws[:, 0] * 5 + draws[:, 1], minlength=25)
    assert counts[1] == 0
    possible = np.arange(25) != 1
    wanted = 1500 * expected.numpy()[possible]
    statistic = ((counts[possible] - wanted) ** 2 / wanted).sum()
    assert statistic < 49.7  # 23 degrees of freedom, one in a thousand


def test_likelihoods_sum_to_one(generator, context):
    every = torch.tensor(list(itertools.product(range(5), repeat=3)))
    with torch.no_grad():
        total = generator.log_likelihood(context.expand(len(every), -1), every).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-5)


# -- learning --------------------------------------------------------------------------------


def test_fitting_raises_the_likelihood_of_good_cells(monkeypatch, representatives):
    monkeypatch.setattr(generator_training, "STEPS", 100)
    monkeypatch.setattr(generator_training, "DRAWS", 16)
    torch.manual_seed(0)
    config = PredictorConfig(
        len(SPACE.node_features),
        ("one",),
        members=2,
        graph_width=4,
        graph_rounds=1,
        components=3,
        set_width=4,
        embedding=3,
        factors=2,
    )
    predictor = Predictor(config).eval()
    tasks = [
        Description(torch.randn(6, FEATURES), torch.arange(6) % 2, torch.randn(len(STATISTICS)))
        for _ in range(3)
    ]
    predictor.inputs.fit(tasks)
    logs = torch.from_numpy(SPACE.costs(representatives, 10)).double().log()
    predictor.cost_centre.copy_(logs.mean(0))
    predictor.cost_scale.copy_(logs.std(0))
    cells = representatives[np.random.default_rng(0).permutation(len(representatives))[:400]]
    graphs, costs = prior_inputs(SPACE, cells)
    # Good is what begins with a 3x3 convolution.
    quality = torch.from_numpy(np.where(cells[:, 0] == 3, 1.5, -1.5)).float()
    priors = [(hidden, quality) for hidden, _ in predictor.prior(graphs, costs)]
    generator = Generator(5, 2 * config.embedding, width=16)
    enter = (
        torch.cat(predictor.embed(tasks[:1]), dim=1),
        standardise_limits(predictor, torch.full((1, 2), torch.inf)),
    )
    good = torch.from_numpy(cells[cells[:, 0] == 3])

    def likelihood() -> float:
        with torch.no_grad():
            context = generator.enter(*enter).expand(len(good), -1)
            return float(generator.log_likelihood(context, good).mean())

    before, told = likelihood(), []
    fit_generator(
        generator,
        predictor,
        tasks,
        cells,
        costs.numpy(),
        priors,
        0,
        lambda done, total: told.append((done, total)),
    )
    assert likelihood() > before + 1
    assert told[0] == (1, 100)
    assert told[-1] == (100, 100)
    assert not generator.training
    with torch.no_grad():
        drawn = generate(generator, SPACE, generator.enter(*enter), 30, 0, 10, None, None)
    assert (drawn[:, 0] == 3).mean() > 0.4


def test_no_limit_is_the_loosest_limit():
    config = PredictorConfig(7, ("one",), 1, 4, 1, 3, 4, 3, 2)
    predictor = Predictor(config)
    predictor.cost_centre.fill_(13.0)
    predictor.cost_scale.fill_(0.5)
    limits = torch.tensor([[np.exp(13), np.inf], [1.0, np.exp(13.5)]], dtype=torch.float64)
    torch.testing.assert_close(
        standardise_limits(predictor, limits), torch.tensor([[0.0, 3.0], [-3.0, 1.0]])
    )
