"""Evolution over a toy evaluator: finds the best, obeys limits, never loops for ever."""

import itertools

import numpy as np
import pytest

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.sampling.one_shot import EvolutionConfig, evolve
from search.scores.base import Evaluator, RankSum
from search.subspace.subspace import Subspace

SPACE = SPACES.get("nasbench201")
SMALL = EvolutionConfig(population=20, generations=12, parents=5, mutations=10, crossovers=6)
TARGET = (3, 2, 3, 4, 3, 2)


class Closeness(Evaluator):
    """How many slots agree with the target."""

    def __init__(self):
        self.calls = []

    def score(self, architectures):
        self.calls.append(list(architectures))
        return np.array([sum(map(int.__eq__, a, TARGET)) for a in architectures], dtype=float)


def run(seed=0, limits=None, **arguments):
    subspace = Subspace(SPACE, 10, **(limits or {}))
    return evolve(subspace, Closeness(), np.random.default_rng(seed), SMALL, **arguments)


def test_it_finds_the_best_of_a_toy_evaluator():
    result = run()
    assert SPACE.canonical(result.best) == SPACE.canonical(TARGET)
    assert max(score for _, score in result.history) == 6


def test_it_beats_random_search_at_equal_cost():
    history = run().history
    rng = np.random.default_rng(1)
    cells = [SPACE.sample(rng) for _ in history]
    assert max(score for _, score in history) > Closeness().score(cells).max()


def test_no_network_is_visited_twice_and_all_are_connected():
    visited = [architecture for architecture, _ in run().history]
    assert len({SPACE.canonical(a) for a in visited}) == len(visited) == 20 * 12
    assert all(SPACE.is_connected(a) for a in visited)


def test_the_seed_decides():
    first = run(3)
    assert first == run(3)
    assert first.history != run(4).history


def test_limits_are_obeyed_by_every_visited_architecture():
    result = run(limits={"max_params": 400_000})
    assert len(result.history) == 20 * 12
    assert all(SPACE.cost(a, 10).params <= 400_000 for a, _ in result.history)


def test_a_suggested_population_comes_first_and_once():
    given = [(3,) * 6, (3,) * 6, (0,) * 6, TARGET]
    result = run(initial=given)
    assert [a for a, _ in result.history[:2]] == [(3,) * 6, TARGET]
    assert len(result.history) == 20 * 12


def test_it_ends_when_told_with_what_it_has():
    asked = iter([False] * 30)
    result = run(should_stop=lambda: next(asked, True))
    assert 25 <= len(result.history) <= 32
    assert len(run(should_stop=lambda: True).history) == 1


def test_the_first_time_that_it_is_told_ends_it():
    answers = iter([False, False, True])
    assert len(run(should_stop=lambda: next(answers, False)).history) == 3


def test_it_ends_early_when_the_subspace_is_used_up():
    subspace = Subspace(SPACE, 10)
    subspace.keep(np.array([TARGET, (3,) * 6]))
    members = {
        SPACE.canonical(c)
        for c in itertools.product(*(np.flatnonzero(row).tolist() for row in subspace.mask))
    }
    result = evolve(subspace, Closeness(), np.random.default_rng(0), SMALL)
    assert {SPACE.canonical(a) for a, _ in result.history} == members
    assert SPACE.canonical(result.best) == SPACE.canonical(TARGET)


def test_rank_sums_are_compared_in_one_company():
    closeness = Closeness()
    result = evolve(Subspace(SPACE, 10), RankSum([closeness]), np.random.default_rng(0), SMALL)
    assert SPACE.canonical(result.best) == SPACE.canonical(TARGET)
    assert sum(len(call) for call in closeness.calls) == len(result.history) == 20 * 12


def test_a_rank_sum_is_stopped_within_a_generation_and_what_was_visited_compared():
    closeness, asked = Closeness(), iter([False] * 5)
    result = evolve(
        Subspace(SPACE, 10),
        RankSum([closeness]),
        np.random.default_rng(0),
        SMALL,
        should_stop=lambda: next(asked, True),
    )
    assert sum(len(call) for call in closeness.calls) == len(result.history) == 6
    visited = [architecture for architecture, _ in result.history]
    assert [score for _, score in result.history] == RankSum([Closeness()]).score(visited).tolist()
    assert result.best == visited[int(Closeness().score(visited).argmax())]


@pytest.mark.parametrize(
    "sizes", [{"population": 0}, {"mutations": -1}, {"mutations": 30, "crossovers": 30}]
)
def test_sizes_that_do_not_fit_are_refused(sizes):
    with pytest.raises(InputError, match=next(iter(sizes))):
        EvolutionConfig(**sizes)
