"""Random search, evolution and NASWOT: budgets in parts, aging, the best of the candidates."""

import numpy as np
import pytest
import torch
from searching import task

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.engine.composition import compose
from search.labellers.standalone import accuracy
from search.sampling.trials import Trial
from search.scores.zero_cost import IMAGES
from search.searching import Search

SPACE = SPACES.get("nasbench201")
PART = 4 * 32  # images of a training of four steps


def searched(method, images, space="nasbench201", **arguments):
    options = {f"{method}.{name}": value for name, value in arguments.pop("options", {}).items()}
    return Search(
        arguments.pop("data", task()),
        space,
        method,
        images=images,
        channels=2,
        cells=1,
        options=options,
        **arguments,
    ).conduct()


@pytest.fixture
def rates(monkeypatch):
    """Collect the architecture and learning rate of each step of each training."""
    seen, advance = [], Trial.advance

    def observed(trial, run, done):
        loss = advance(trial, run, done)
        seen.append((trial.architecture, trial.optimiser.param_groups[0]["lr"]))
        return loss

    monkeypatch.setattr(Trial, "advance", observed)
    return seen


def test_the_budget_is_divided_equally_and_each_training_has_the_whole_schedule(rates):
    found = searched("random", 3 * 20 * 32, options={"trainings": 3})
    results = found.composed.method.results
    assert [architecture for architecture, _ in rates] == [a for a, _ in results for _ in range(20)]
    for part in range(3):
        lrs = [lr for _, lr in rates[20 * part : 20 * part + 20]]
        assert lrs[0] == pytest.approx(0.01)  # a tenth of the peak, then up
        assert max(lrs) == pytest.approx(0.1, rel=0.05)
        assert lrs[-1] < 0.002
        assert np.argmax(lrs) == 2
    assert found.run.images == 3 * 20 * 32
    assert not found.run.has_supernet


def test_the_winner_is_the_best_and_its_trained_network_is_returned():
    found = searched("random", 5 * PART, options={"trainings": 5})
    method, run, result = found.composed.method, found.run, found.result()
    values = dict(method.results)
    assert len({SPACE.canonical(a) for a in values}) == 5
    assert list(result.scores.values()) == sorted(values.values(), reverse=True)
    assert result.accuracy == max(values.values()) == max(result.scores.values())
    network = result.network.network
    assert accuracy(network, run.valid_x, run.valid_y, run.place) == result.accuracy
    assert result.protocol.startswith("trained alone")
    winner = SPACE.parse(result.architecture)
    other = next(a for a in values if a != winner)
    assert method.network(run, other) is None
    never = next(a for a in SPACE.enumerate() if a not in values)
    assert method.accuracy(run, never) is None
    assert method.score(run, [winner, never]).tolist() == [result.accuracy, -np.inf]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "evolution"])
def test_a_resumed_search_keeps_the_same_network_to_the_last_bit(method, tmp_path):
    options = {"trainings": 4}
    asked = iter(range(10))  # in the midst of the third training
    stopped = searched(
        method,
        4 * PART,
        options=options,
        checkpoint=tmp_path / "run",
        should_stop=lambda: next(asked, None) is None,
    )
    assert len(stopped.composed.method.results) == 3  # two, and what was begun
    resumed = searched(method, 4 * PART, options=options, checkpoint=tmp_path / "run")
    whole = searched(method, 4 * PART, options=options)
    assert resumed.composed.method.results == whole.composed.method.results
    left, right = (found.result().network.state_dict() for found in (resumed, whole))
    assert all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.parametrize("method", ["random", "evolution", "naswot"])
def test_suggestions_are_looked_at_first_where_limits_allow_them(method):
    large, small = (3,) * 6, (1, 1, 1, 1, 1, 1)
    limit = SPACE.cost((2,) * 6, 3).macs
    found = searched(method, 3 * IMAGES, warm=(large, small, small), max_macs=limit)
    looked = [a for a, _ in getattr(found.composed.method, "results", found.ranking)]
    assert small in looked
    assert large not in looked
    if method != "naswot":
        assert looked[0] == small
        assert looked[1] != small


def evolution(results, **options):
    """Return an evolution with some history, and its run."""
    found = searched("evolution", 32, options={"trainings": 4, **options})
    method = found.composed.method
    method.results = results
    return method, found.run


def distance(first, second):
    return sum(a != b for a, b in zip(first, second, strict=True))


def test_the_oldest_dies_however_good_it_was():
    ancestor, alive = (3, 3, 3, 3, 3, 3), [(1, 1, 1, 1, 1, op) for op in (1, 2, 3)]
    results = [(ancestor, 1.0), *((a, 0.1 * i) for i, a in enumerate(alive))]
    method, run = evolution(results, population=3, sample=50)
    children = [method.propose(run) for _ in range(60)]
    assert {distance(child, alive[-1]) for child in children} == {1}  # of the best alive
    method.alive = 4
    assert {distance(method.propose(run), ancestor) for _ in range(60)} == {1}


def test_the_sample_is_drawn_with_replacement_from_those_alive():
    alive = [(1, 1, 1, 1, 1, 1), (3, 3, 3, 3, 3, 3)]
    method, run = evolution([(alive[0], 0.1), (alive[1], 0.9)], population=2, sample=2)
    children = [method.propose(run) for _ in range(400)]
    worse = np.mean([distance(child, alive[0]) == 1 for child in children])
    assert 0.18 < worse < 0.32  # a quarter of the samples holds the worse one twice


def test_the_first_population_is_random_and_no_network_is_trained_twice():
    found = searched("evolution", 12 * 32, options={"trainings": 12, "population": 4, "sample": 2})
    trained = [a for a, _ in found.composed.method.results]
    assert len(trained) == 12
    assert len({SPACE.canonical(a) for a in trained}) == 12
    ages = range(4, 12)
    assert all(min(distance(trained[i], a) for a in trained[i - 4 : i]) == 1 for i in ages)


def test_screening_puts_the_best_by_score_into_the_first_population():
    options = {"trainings": 6, "population": 2, "sample": 2, "screening": 3}
    found = searched("evolution", 6 * 3 * IMAGES, data=task(count=160), options=options)
    method, best = found.composed.method, found.composed.method.screening.best(1000)
    assert len(best) == 9  # half of the budget, a mini-batch each
    assert [a for a, _ in method.results[:2]] == [a for a, _ in best[:2]]
    assert len(method.results) == 3
    assert found.run.images == 6 * 3 * IMAGES


def test_a_search_resumed_while_candidates_are_scored_ends_as_any_other(tmp_path):
    options = {"trainings": 4, "population": 2, "screening": 2}
    asked = iter(range(4))
    stopped = searched(
        "evolution",
        4 * PART,
        options=options,
        checkpoint=tmp_path / "run",
        should_stop=lambda: next(asked, None) is None,
    )
    assert len(stopped.composed.method.screening.best(10)) == 4
    resumed = searched("evolution", 4 * PART, options=options, checkpoint=tmp_path / "run")
    whole = searched("evolution", 4 * PART, options=options)
    assert resumed.composed.method.screening.best(99) == whole.composed.method.screening.best(99)
    assert resumed.composed.method.results == whole.composed.method.results


def test_naswot_names_the_best_of_its_candidates():
    data = task(count=160)
    found = searched("naswot", 6 * IMAGES, data=data)
    run, (winner, best) = found.run, found.ranking[0]
    assert run.images == 6 * IMAGES
    assert run.steps == len(found.ranking) == len({SPACE.canonical(a) for a, _ in found.ranking})
    candidates = [a for a, _ in found.ranking]
    scores = run.evaluator("naswot").score(candidates)
    assert scores.tolist() == [score for _, score in found.ranking]
    assert scores.argmax() == 0
    assert found.composed.method.score(run, [winner]).tolist() == [best]
    assert found.result().accuracy is None
    assert found.result().protocol == "not measured"
    assert [p["loss"] for p in run.history][-1] == -best


def test_a_space_that_is_used_up_does_not_stop_a_search():
    found = searched("naswot", 10 * IMAGES, max_macs=SPACE.smallest(3).macs, data=task(count=160))
    assert found.run.steps == 10
    assert 1 <= len(found.ranking) <= 10


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("random", {"trainings": 0}),
        ("evolution", {"population": 0}),
        ("evolution", {"sample": 0}),
        ("evolution", {"screening": 30}),
        ("evolution", {"screening": -1}),
    ],
)
def test_sizes_that_cannot_be_are_refused(method, options):
    name, value = next(iter(options.items()))
    with pytest.raises(InputError, match=f"{name}={value}"):
        compose(method, {f"{method}.{name}": value})
