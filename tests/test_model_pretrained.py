"""The model in the package: what is predicted and generated."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from metad2a.errors import BudgetError, InputError
from metad2a.model.description import describe
from metad2a.model.golden import synthetic
from metad2a.model.metad2a import MetaD2A, packaged
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
CONV = SPACE.format((3,) * 6)


@pytest.fixture(scope="module")
def model() -> MetaD2A:
    return packaged()


@pytest.fixture(scope="module")
def cells() -> list[str]:
    rng = np.random.default_rng(1)
    return [SPACE.format(SPACE.sample(rng)) for _ in range(30)]


def tensors_of(prediction: object) -> np.ndarray:
    return np.stack([getattr(prediction, name) for name in ("mean", "std", "low", "high")])


# -- predicting ------------------------------------------------------------------------------


def test_order_and_company_do_not_matter(model, cells):
    data = synthetic("stripes")
    all_at_once = tensors_of(model.predict(data, cells))
    backwards = tensors_of(model.predict(data, cells[::-1]))
    assert np.array_equal(backwards[:, ::-1], all_at_once)
    fresh = MetaD2A.from_pretrained()
    one_by_one = np.concatenate([tensors_of(fresh.predict(data, [cell])) for cell in cells[:5]], 1)
    np.testing.assert_allclose(one_by_one, all_at_once[:, :5], atol=1e-3)
    tuples = [SPACE.parse(cell) for cell in cells]
    assert np.array_equal(tensors_of(model.predict(data, tuples)), all_at_once)


def test_isomorphic_cells_are_predicted_equal(model, cells):
    pairs = [(cell, SPACE.canonical(SPACE.parse(cell))) for cell in cells]
    pairs = [(cell, SPACE.format(other)) for cell, other in pairs if cell != SPACE.format(other)]
    assert len(pairs) > 3
    first, second = (
        tensors_of(model.predict(synthetic("dots"), list(side)))
        for side in zip(*pairs, strict=True)
    )
    assert np.array_equal(first, second)


def test_every_string_of_the_space(model):
    every = [SPACE.format(cell) for cell in SPACE.enumerate()]
    found = model.predict(synthetic("stripes"), every)
    assert found.mean.shape == (15_625,)
    assert found.mean.dtype == np.float64
    for values in (found.mean, found.std, found.low, found.high):
        assert np.isfinite(values).all()
    assert (found.std > 0).all()
    assert (found.low >= 0).all()
    assert (found.low < found.mean).all()
    assert (found.mean < found.high).all()
    assert (found.high <= 100).all()
    np.testing.assert_allclose((found.high - found.low) / (2 * 1.6449), found.std)
    # Convolutions learn more than a cell that passes nothing on.
    assert found.mean[every.index(CONV)] > found.mean[every.index(SPACE.format((0,) * 6))]


def test_the_same_seed_the_same_prediction(model, cells):
    data = synthetic("stripes")
    first = tensors_of(model.predict(data, cells, seed=2))
    assert np.array_equal(tensors_of(model.predict(data, cells, seed=2)), first)


def test_nothing_asked_nothing_answered(model):
    assert tensors_of(model.predict(synthetic("dots"), [])).shape == (4, 0)


def test_two_threads_may_ask_one_model(cells):
    shared, alone = MetaD2A.from_pretrained(), MetaD2A.from_pretrained()
    description, _ = describe(synthetic("dots"), 0)
    rng = np.random.default_rng(0)
    wanted = [rng.integers(5, size=(40, 6)) for _ in range(24)]
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda some: shared.predict_described(description, some), wanted))
    expected = alone.predict_described(description, np.concatenate(wanted)).mean
    np.testing.assert_allclose(np.concatenate([p.mean for p in found]), expected, atol=1e-3)


@pytest.mark.parametrize("cell", ["", "resnet50", CONV + "|", CONV.replace("3x3", "5x5")])
def test_a_string_of_no_cell(model, cell):
    with pytest.raises(InputError):
        model.predict(synthetic("dots"), [CONV, cell])


# -- generating ------------------------------------------------------------------------------


def test_generated_cells_are_distinct_canonical_and_connected(model):
    found = model.generate(synthetic("stripes"), 100, seed=1)
    parsed = SPACE.as_array(found)
    assert len(set(found)) == 100
    assert all(SPACE.canonical(tuple(cell)) == tuple(cell) for cell in parsed.tolist())
    assert SPACE.connected(parsed).all()
    assert model.generate(synthetic("stripes"), 100, seed=1) == found
    assert model.generate(synthetic("stripes"), 100, seed=2) != found


def test_generated_cells_beat_drawn_ones(model):
    """The generator has learnt what the predictor rates high."""
    data = synthetic("stripes")
    rng = np.random.default_rng(0)
    drawn = model.predict(data, [SPACE.sample(rng) for _ in range(200)]).mean
    made = model.predict(data, model.generate(data, 200)).mean
    assert np.median(made) > np.median(drawn)
    assert made.max() >= drawn.max() - 0.5


def test_bad_requests(model):
    data = synthetic("dots")
    with pytest.raises(InputError, match="n=0"):
        model.generate(data, 0)
    with pytest.raises(BudgetError, match=str(SPACE.smallest(2).params)):
        model.generate(data, 5, max_params=SPACE.smallest(2).params - 1)
