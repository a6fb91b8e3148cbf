"""What meta-training computes beside networks: ranks, logits, pairs, calibration, figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metad2a.model.baselines import one_hot, ridge
from metad2a.model.dataset_training import Rows, logit
from metad2a.model.figures import summarise
from metad2a.model.meta_training import Judgement, MetaData, MetaTask, calibrate
from metad2a.model.prior_training import normal_scores, rank_sum, ranks
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")


def test_ranks_share_ties():
    assert ranks(np.array([3.0, 1.0, 2.0])).tolist() == [0.75, 0.25, 0.5]
    assert ranks(np.array([5.0, 1.0, 5.0, 5.0])) == pytest.approx(np.array([3, 1, 3, 3]) / 5)
    assert ranks(np.array([-np.inf, 0.0, -np.inf])) == pytest.approx([0.375, 0.75, 0.375])
    assert ranks(np.full(4, 7.0)).tolist() == [0.5] * 4


def test_normal_scores_are_quantiles():
    found = normal_scores(np.array([30.0, 10.0, 20.0]))
    assert found == pytest.approx([0.6745, -0.6745, 0], abs=1e-4)
    many = normal_scores(np.random.default_rng(0).exponential(size=4000))
    assert (many.mean(), many.std()) == pytest.approx((0, 1), abs=0.01)
    assert np.isfinite(normal_scores(np.zeros(3))).all()


def test_a_rank_sum_wants_good_in_everything():
    cells = [(0, 0, 0, 1, 0, 0), (2, 2, 2, 2, 2, 2), (3, 3, 3, 3, 3, 3), (4, 4, 4, 2, 4, 4)]
    found = {cell: {"a": float(i), "b": float(i % 3)} for i, cell in enumerate(cells)}
    labels = rank_sum(SPACE, found, ("a", "b"))
    assert labels.architectures.tolist() == [list(cell) for cell in cells]
    assert labels.scores.shape == (4, 2)
    # The third has the most parameters, is second in a and first in b.
    assert labels.quality.argmax() == 2
    assert labels.quality.argmin() == 0
    del found[cells[2]]["b"]
    assert rank_sum(SPACE, found, ("a", "b")).scores[2, 1] == pytest.approx(
        normal_scores(np.array([1.0, 2.0, 0.0, 1.0]))[2]
    )


def test_logits_stay_finite():
    images = np.array([100, 100, 99, 400])
    value, variance = logit(np.array([0.0, 1.0, 0.5, 0.5]), images)
    assert value == pytest.approx([-np.log(201), np.log(201), 0, 0])
    assert variance[2:] == pytest.approx([4 / 100, 4 / 401])
    assert (variance[:2] > variance[2]).all()
    assert np.isfinite(variance).all()


def rows(task: list[int], value: list[float]) -> Rows:
    return Rows(
        torch.tensor(task), torch.arange(len(task)), torch.tensor(value), torch.zeros(len(task))
    )


def test_rows_of_some_tasks_are_renumbered():
    found = rows([0, 1, 1, 2, 3], [0.0, 1.0, 2.0, 3.0, 4.0]).of_tasks([3, 1, 7])
    assert found.task.tolist() == [1, 1, 0]
    assert found.cell.tolist() == [1, 2, 4]
    assert found.value.tolist() == [1.0, 2.0, 4.0]
    none = Rows(
        torch.empty(0, dtype=torch.long),
        torch.empty(0, dtype=torch.long),
        torch.empty(0),
        torch.empty(0),
    ).of_tasks([1, 2])
    assert len(none.value) == 0


def test_pairs_are_of_one_task_and_never_of_equals():
    better, worse = rows([0, 0, 0, 1, 1], [1.0, 3.0, 1.0, 5.0, 4.0]).pairs()
    assert set(zip(better.tolist(), worse.tolist(), strict=True)) == {(1, 0), (1, 2), (3, 4)}


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_calibration_covers_nine_in_ten(between):
    rng = np.random.default_rng(0)
    spread = between * rng.uniform(0.5, 1.5, 4000)
    residual = rng.standard_t(4, 4000) * np.sqrt(0.2 + spread)
    noise, factor = calibrate(residual[:2000], spread[:2000])
    half = 1.6449 * factor * np.sqrt(noise**2 + spread[2000:])
    assert (np.abs(residual[2000:]) <= half).mean() == pytest.approx(0.9, abs=0.025)
    noise, factor = calibrate(np.zeros(20), np.zeros(20))
    assert (noise, factor) == pytest.approx((0.05, 0))


def test_few_residuals_give_the_widest():
    noise, factor = calibrate(np.array([0.1, -0.4, 0.2]), np.zeros(3))
    assert 1.6449 * factor * noise == pytest.approx(0.4)


def test_a_judgement_summed_up_by_hand():
    """Two families of a task with two trainings each; the interval comes from the other family."""
    tasks = [MetaTask(f"k{i}", f"n{i}", f"d{i}", f"f{i}", 100, ()) for i in range(2)]
    value = np.log(np.array([0.2, 0.8, 0.5, 0.9]) / np.array([0.8, 0.2, 0.5, 0.1]))
    data = MetaData(
        SPACE, tasks, [(0,) * 6] * 4, rows([0, 0, 1, 1], value.tolist()), rows([], []), {}, ()
    )
    mean = value + np.array([0.1, -0.1, 1, -1])
    right = np.array([0.0, 1, 0, 1])
    found = summarise(
        data,
        Judgement(
            mean,
            np.zeros(4),
            {"model": right, "wrong": -right, "tied": np.zeros(4)},
            {"model": value},
        ),
    )
    assert found.by_family == {"f0": 1.0, "f1": 0.0}
    assert found.coverage == 0.5
    assert [row.concordance for row in found.rows] == [1, 0, 0.5]
    assert [row.regret for row in found.rows] == pytest.approx([0, 50, 50], abs=1e-4)
    assert [row.error for row in found.rows] == [pytest.approx(0, abs=1e-4), None, None]
    table = found.table().splitlines()
    assert table[0].startswith("| on families left out |")
    assert table[2:] == [
        "| model | 1.000 | 0.00 | 0.0 |",
        "| wrong | 0.000 | 50.00 |  |",
        "| tied | 0.500 | 50.00 |  |",
    ]


def test_ridge_shrinks_to_the_truth():
    rng = np.random.default_rng(0)
    x = one_hot(rng.integers(3, size=(500, 2)), (3, 3))
    assert x.shape == (500, 6)
    assert (x.sum(1) == 2).all()
    truth = np.array([1.0, 0, -1, 2, 0, -2])
    assert ridge(x, x @ truth, 1e-6) == pytest.approx(truth, abs=1e-4)
    assert np.abs(ridge(x, x @ truth, 1e6)).max() < 0.01
