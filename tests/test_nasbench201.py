"""The NAS-Bench-201 space against facts that its authors published."""

import numpy as np
import pytest

from metad2a.errors import BudgetError, InputError
from metad2a.spaces import SPACES
from metad2a.spaces._nasbench201_cell import CONV1, CONV3, NONE, POOL, SKIP

SPACE = SPACES.get("nasbench201")
CELLS = np.array(list(SPACE.enumerate()))
# Official strings with parameters and MACs of the network for CIFAR-10.
PUBLISHED = [
    (
        "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+"
        "|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
        129_306,
        15_647_360,
    ),
    (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+"
        "|skip_connect~0|nor_conv_3x3~1|skip_connect~2|",
        802_426,
        113_951_360,
    ),
    (
        "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
        "|avg_pool_3x3~0|avg_pool_3x3~1|avg_pool_3x3~2|",
        559_386,
        78_561_920,
    ),
]


def test_the_space_has_15625_cells_in_6466_classes():
    forms = {SPACE.canonical(tuple(cell)) for cell in CELLS.tolist()}
    assert CELLS.shape == (15_625, 6)
    assert len(np.unique(CELLS, axis=0)) == 15_625
    assert len(forms) == 6_466
    assert sorted(forms) == SPACE.representatives()
    assert all(SPACE.canonical(form) == form for form in forms)


def test_the_official_string_reads_edge_by_edge():
    text = PUBLISHED[0][0]
    assert SPACE.parse(text) == (POOL, CONV1, SKIP, CONV1, SKIP, SKIP)
    assert SPACE.parse(f"  {text}\n") == SPACE.parse(text)
    assert all(SPACE.format(SPACE.parse(text)) == text for text, _, _ in PUBLISHED)


@pytest.mark.parametrize(("text", "params", "macs"), PUBLISHED)
def test_costs_are_the_published_ones(text, params, macs):
    cost = SPACE.cost(SPACE.parse(text), classes=10)
    assert (cost.params, cost.macs) == (params, macs)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("|nor_conv_3x4~0|+|none~0|none~1|+|none~0|none~1|none~2|", "mean 'nor_conv_3x3'"),
        (
            "|skip~0|+|none~0|none~1|+|none~0|none~1|none~2|",
            "Unknown operation 'skip'.*skip_connect",
        ),
        (
            "|none~0|+|none~1|none~0|+|none~0|none~1|none~2|",
            "three nodes list their inputs in order",
        ),
        ("|none~0|+|none~0|none~1|+|none~0|none~1|", "three nodes list their inputs in order"),
        ("|none~0|+|none~0|none~1|", "not a NAS-Bench-201 cell"),
        ("none~0+none~0|none~1+none~0|none~1|none~2", "write it as '.nor_conv_3x3~0"),
        ("|none~²|+|none~0|none~1|+|none~0|none~1|none~2|", "not a NAS-Bench-201 cell"),
    ],
)
def test_invalid_strings_are_refused_with_the_remedy(text, said):
    with pytest.raises(InputError, match=said):
        SPACE.parse(text)


def test_isomorphic_cells_share_a_form():
    one_way = (SKIP, POOL, SKIP, SKIP, CONV3, CONV3)
    other_way = (SKIP, SKIP, POOL, SKIP, CONV3, CONV3)
    assert SPACE.canonical(one_way) == SPACE.canonical(other_way)
    assert SPACE.canonical(one_way) != SPACE.canonical((SKIP, SKIP, POOL, SKIP, CONV3, CONV1))
    dead_end = (SKIP, SKIP, CONV3, SKIP, CONV3, NONE)
    assert SPACE.canonical(dead_end) == (SKIP, NONE, NONE, SKIP, CONV3, NONE)


def test_a_cell_is_connected_by_any_path_without_none():
    assert SPACE.is_connected((NONE, NONE, NONE, SKIP, NONE, NONE))
    assert SPACE.is_connected((POOL, NONE, CONV1, NONE, NONE, CONV3))
    assert not SPACE.is_connected((CONV3, NONE, CONV3, NONE, NONE, NONE))
    assert not SPACE.is_connected((NONE,) * 6)


def test_the_smallest_network_is_the_smallest_of_all_connected_ones():
    connected = np.array([cell for cell in CELLS.tolist() if SPACE.is_connected(tuple(cell))])
    least = SPACE.smallest(10)
    assert SPACE.costs(connected, 10).min(0).tolist() == [least.params, least.macs]
    with pytest.raises(BudgetError, match=f"max_params=1,000 .* 10 classes.*{least.params:,}"):
        SPACE.check_limits(10, 1_000, None)


def test_all_classes_become_graphs_at_once():
    batch = SPACE.graphs(np.array(SPACE.representatives()))
    assert (batch.num_graphs, batch.num_nodes) == (6_466, 8 * 6_466)


def test_distinct_cells_are_the_connected_classes():
    found = [tuple(cell) for cell in SPACE.listed().tolist()]
    assert found == [cell for cell in SPACE.representatives() if SPACE.is_connected(cell)]
    assert len(found) == 6_461


@pytest.mark.parametrize(
    ("cell", "measure"),
    [
        ((CONV3,) * 6, (1 + 1 / 2 + 1 / 3, 3)),
        ((CONV3, NONE, CONV3, NONE, NONE, CONV3), (1, 3)),  # a chain
        ((NONE, NONE, NONE, SKIP, NONE, NONE), (1, 1)),
        ((POOL, CONV1, NONE, CONV3, SKIP, SKIP), (2 + 1 / 3, 2)),
        ((CONV3, NONE, CONV3, SKIP, NONE, NONE), (1, 1)),  # nodes 1 and 2 are a dead end
        ((NONE, CONV3, CONV3, NONE, NONE, CONV3), (1, 2)),  # nothing comes out of node 1
        ((NONE,) * 6, (0, 0)),
    ],
)
def test_width_and_depth_count_what_lives(cell, measure):
    assert SPACE.width_depth(cell) == pytest.approx(measure)


def test_the_preceding_edge_comes_from_the_node_before():
    assert [SPACE.preceding(slot) for slot in range(6)] == [None, None, 0, None, 0, 2]


def test_the_winner_has_the_largest_sum_of_all_connected_cells():
    rng = np.random.default_rng(0)
    connected = CELLS[SPACE.connected(CELLS)]
    for _ in range(5):
        scores = rng.standard_normal((6, 5))
        scores[:, NONE] += 2  # the best cell of all is cut
        totals = scores[np.arange(6), connected].sum(1)
        assert SPACE.discretise(scores) == tuple(connected[totals.argmax()])


def test_scores_that_cut_every_path_are_refused():
    scores = np.zeros((6, 5))
    scores[3:, 1:] = -np.inf
    with pytest.raises(InputError, match="forbid every connected cell"):
        SPACE.discretise(scores)
