"""A search as a labeller: what it names, what it stores, and what it never sees."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import pytest
from searching import images_of, task

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.labellers.search import SearchLabeller

SPACE = SPACES.get("nasbench201")
SMALL = {"fairnas.population": 6, "fairnas.generations": 1}


def fairnas(keep=2, images=400):
    return SearchLabeller("fairnas", images, keep, channels=4, cells=1, options=SMALL)


@pytest.fixture(scope="module")
def found():
    return list(fairnas().measure(images_of(task()), SPACE, [], seed=3))


def test_each_of_the_best_has_a_score_and_an_accuracy(found):
    score, accuracy = fairnas().protocols
    assert [row.protocol for row in found] == [score.name, accuracy.name] * 2
    assert (score.kind, accuracy.kind) == ("score", "accuracy")
    first, second = (row.architecture for row in found[::2])
    assert first != second
    assert found[0].value >= found[2].value
    assert all(0 <= row.value <= 1 for row in found[1::2])
    assert {row.seed for row in found} == {3}
    assert all(row.seconds > 0 for row in found)


def test_the_same_seed_gives_the_same_rows_in_another_copy(found):
    again = pickle.loads(pickle.dumps(fairnas())).measure(images_of(task()), SPACE, [], seed=3)
    assert [(row.protocol, row.architecture, row.value) for row in again] == [
        (row.protocol, row.architecture, row.value) for row in found
    ]


def test_the_images_of_the_test_side_are_never_looked_at(found):
    data = task()
    noise = replace(data, test_x=data.test_x.flip(0), test_y=(data.test_y + 1) % 3)
    assert [row.value for row in fairnas().measure(images_of(noise), SPACE, [], seed=3)] == [
        row.value for row in found
    ]


def test_a_method_that_measures_nothing_has_scores_alone():
    search = SearchLabeller("naswot", 64, 3, channels=4, cells=1)
    rows = list(search.measure(images_of(task()), SPACE, [], seed=0))
    assert {row.protocol for row in rows} == {search.protocols[0].name}
    assert 1 <= len(rows) <= 3
    assert all(math.isfinite(row.value) for row in rows)


def test_the_name_stands_for_the_whole_recipe():
    assert fairnas().name == fairnas().name
    assert fairnas().name.startswith("fairnas@")
    assert (
        len(
            {
                fairnas().name,
                fairnas(images=500).name,
                fairnas(keep=3).name,
                replace(fairnas(), channels=8).name,
            }
        )
        == 4
    )
    assert '"images": 400' in fairnas().protocols[1].description


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("fairnass", {}, "Did you mean 'fairnas'"),
        ("fairnas+curiculum", {}, "Did you mean 'curriculum'"),
        ("fairnas", {"fairnas.populatoin": 3}, "population"),
    ],
)
def test_what_cannot_be_a_search_is_refused_at_once(method, options, message):
    with pytest.raises(InputError, match=message):
        SearchLabeller(method, 400, 2, options=options)
