"""MdeNAS: the pairwise rule, its warm-up, and values that neither drift nor chance decides."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from searching import task

from metad2a.spaces import SPACES
from search.methods.fairnas import fair_paths
from search.methods.mdenas import Multinomial, rank
from search.searching import Search


def learnt(probabilities, visits, values, rate=0.01):
    """Return the probabilities of one slot after one update."""
    slot = Multinomial(np.ones((1, len(visits)), dtype=bool), rate)
    slot.probabilities = np.array([probabilities], dtype=float)
    slot.visits, slot.values = np.array([visits]), np.array([values], dtype=float)
    slot.learn()
    return slot.probabilities[0]


@pytest.mark.parametrize(
    ("probabilities", "visits", "values", "after"),
    [
        ([0.5, 0.5], [1, 1], [0.9, 0.1], [0.51, 0.49]),  # equally often, and better
        ([0.5, 0.5], [1, 4], [0.9, 0.1], [0.51, 0.49]),  # less often, and better
        ([0.5, 0.5], [4, 1], [0.9, 0.1], [0.5, 0.5]),  # more often, and better: no evidence
        ([0.5, 0.5], [4, 1], [0.1, 0.9], [0.49, 0.51]),
        ([0.5, 0.5], [1, 1], [0.3, 0.3], [0.5, 0.5]),  # a tie
        ([0.996, 0.004], [1, 1], [0.9, 0.1], [1.0, 0.0]),  # not below zero
        ([0.5, 0.5], [0, 1], [0.0, 0.9], [0.5, 0.5]),  # one was never visited
        ([0.2, 0.3, 0.5], [1, 1, 1], [0.9, 0.5, 0.1], [0.22, 0.3, 0.48]),
    ],
)
def test_the_rule_moves_probability_to_what_does_better_with_no_more_visits(
    probabilities, visits, values, after
):
    assert learnt(probabilities, visits, values) == pytest.approx(after, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_probabilities_stay_probabilities(seed, rate):
    rng = np.random.default_rng(seed)
    found = rng.dirichlet(np.ones(5))
    for _ in range(10):
        found = learnt(found, rng.integers(0, 4, 5), rng.random(5), rate)
        assert (found >= 0).all()
        assert found.sum() == pytest.approx(1, abs=1e-9)


def test_ranks_run_from_zero_to_one():
    assert rank([0.3]) == 0.5
    assert rank([0.3, 0.1, 0.9]) == 1.0
    assert rank([0.3, 0.1, 0.2]) == 0.5
    assert rank([0.3, 0.1, 0.0]) == 0.0
    assert rank([0.3, 0.1, 0.3]) == 0.75


def test_values_are_mean_ranks_and_as_published_last_accuracies():
    mask = np.ones((2, 2), dtype=bool)
    mean, raw = Multinomial(mask, 0.01), Multinomial(mask, 0.01, raw=True)
    for path, accuracy in (((0, 1), 0.5), ((0, 0), 0.6), ((1, 1), 0.55)):
        mean.record(path, accuracy)
        raw.record(path, accuracy)
    assert mean.visits.tolist() == raw.visits.tolist() == [[2, 1], [1, 2]]
    assert mean.values.tolist() == [[0.75, 0.5], [1.0, 0.5]]
    assert raw.values.tolist() == [[0.6, 0.55], [0.6, 0.55]]


def gain(raw, seed):
    """Return the sum of the chosen operations' effects where shared weights improve all the time.

    Effects, and the noise of a judgement, are 2 points in size; 1 is the best choice, 0 a random.
    """
    rng = np.random.default_rng(seed)
    effects, slots = 0.02 * rng.standard_normal((6, 5)), np.arange(6)
    mask = np.ones(effects.shape, dtype=bool)
    learner, lined_up = Multinomial(mask, 0.01, raw), fair_paths(mask, rng)
    for number in range(100):
        path = lined_up.pop() if lined_up else learner.draw(mask, rng)
        ready = 0.8 - 0.5 * np.exp(-number / 30)
        learner.record(path, ready + effects[slots, path].sum() + 0.02 * rng.standard_normal())
        if not lined_up:
            learner.learn()
    return effects[slots, learner.probabilities.argmax(1)].sum() / effects.max(1).sum()


def test_mean_ranks_find_the_better_operations_under_drift_and_noise():
    mean, published = (np.mean([gain(raw, seed) for seed in range(12)]) for raw in (False, True))
    assert mean > 0.6
    assert mean > published + 0.3


@pytest.mark.parametrize("space", ["nasbench201", "darts"])
def test_the_warm_up_visits_each_operation_once_before_anything_is_learnt(space):
    operations = len(SPACES.get(space).operations)
    for steps in (operations, operations + 1):  # a path is judged as the next one begins
        asked = iter(range(steps))
        found = Search(
            task(),
            space,
            "mdenas",
            images=10**6,
            channels=2,
            cells=1,
            options={"mdenas.passes": 10**6},
            should_stop=lambda asked=asked: next(asked, None) is None,
        ).conduct()
        learner = found.composed.method.multinomial
        assert learner.visits.sum(1).tolist() == [steps - 1] * found.run.space.slots
        assert learner.visits.max() == 1
        equal = np.allclose(learner.probabilities, 1 / operations)
        assert equal is (steps == operations)


def test_passes_divide_the_budget_and_the_most_probable_member_wins():
    found = Search(
        task(),
        "nasbench201",
        "mdenas",
        images=40 * 30,
        channels=2,
        cells=1,
        options={"mdenas.passes": 8, "mdenas.rate": 0.1},
    ).conduct()
    learner, run = found.composed.method.multinomial, found.run
    assert learner.visits.sum(1).tolist() == [7] * 6  # the last path is never judged
    best = run.space.discretise(learner.probabilities)
    assert found.ranking[0][0] == best
    assert found.ranking[0][1] == pytest.approx(learner.probabilities[np.arange(6), best].sum())


def test_what_is_forbidden_later_is_neither_drawn_nor_named():
    learner = Multinomial(np.ones((1, 3), dtype=bool), 0.01)
    learner.probabilities = np.array([[0.0, 0.0, 1.0]])
    mask = np.array([[True, True, False]])
    assert learner.allowed(mask).tolist() == [[0.5, 0.5, 0.0]]
    rng = np.random.default_rng(0)
    assert {learner.draw(mask, rng) for _ in range(50)} == {(0,), (1,)}


@pytest.mark.slow
def test_the_distribution_goes_on_from_a_checkpoint_to_the_last_bit(tmp_path):
    def searched(**arguments):
        return (
            Search(
                task(), "nasbench201", "mdenas", images=40 * 12, channels=2, cells=1, **arguments
            )
            .conduct()
            .composed.method
        )

    asked = iter(range(8))
    searched(checkpoint=tmp_path / "run", should_stop=lambda: next(asked, None) is None)
    resumed, whole = searched(checkpoint=tmp_path / "run"), searched()
    assert resumed.facts() == whole.facts()
    assert all(
        torch.equal(resumed.tensors()[name], value) for name, value in whole.tensors().items()
    )
    assert whole.multinomial.visits.sum() == 11 * 6
