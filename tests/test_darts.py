"""The DARTS space against published facts, its string form, its wiring and its networks."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.spaces._darts_cell import EDGES, NONE, OPERATIONS, SKIP
from metad2a.spaces._topology import width_depth
from metad2a.spaces.networks.darts import Depthwise, FactorizedReduce

SPACE = SPACES.get("darts")
V1 = (
    "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('skip_connect', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"
)
V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)
SNAS = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 0), "
    "('dil_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 0), "
    "('sep_conv_3x3', 1)], normal_concat=range(2, 6), reduce=[('max_pool_3x3', 0), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 1), ('skip_connect', 2), ('skip_connect', 2), "
    "('max_pool_3x3', 1), ('max_pool_3x3', 0), ('dil_conv_5x5', 2)], reduce_concat=range(2, 6))"
)
PDARTS = (
    "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), "
    "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), "
    "('dil_conv_5x5', 4)], normal_concat=range(2, 6), reduce=[('avg_pool_3x3', 0), "
    "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
    "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], reduce_concat=range(2, 6))"
)
quick = settings(max_examples=60, deadline=None, derandomize=True)
seeds = st.integers(0, 2**32)


def draw(seed):
    return SPACE.sample(np.random.default_rng(seed))


def images(batch=4, side=8, seed=0):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


# -- published facts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "params", "macs"),
    [
        (V2, 3_349_342, 528),
        (SNAS, 2_661_382, 422),
        (PDARTS, 3_433_798, 532),
    ],
)
def test_costs_are_the_published_ones(text, params, macs):
    cost = SPACE.cost(SPACE.parse(text), classes=10)
    assert cost.params == params
    assert cost.macs // 10**6 == macs


# The inputs of every node of published normal cells; the labels are those of Shu et al., figure 1.
@pytest.mark.parametrize(
    ("nodes", "label"),
    [
        ([(1, 0), (0, 0), (1, 0), (0, 0), (1, 1)], (5, 2)),  # NASNet-A
        ([(0, 1), (0, 2), (0, 3), (1, 1), (0, 1)], (4, 4)),  # AmoebaNet-A
        ([(1, 1), (1, 0), (0, 1), (0, 1), (1, 0)], (5, 2)),  # ENAS
        ([(0, 1), (0, 1), (1, 0), (0, 2)], (3.5, 3)),  # DARTS, second order
        ([(0, 1), (0, 1), (1, 0), (0, 1)], (4, 2)),  # SNAS
    ],
    ids=["NASNet", "AmoebaNet", "ENAS", "DARTS", "SNAS"],
)
def test_width_and_depth_are_the_published_labels(nodes, label):
    width, depth = width_depth(nodes, 2)
    assert (width, depth + 1) == label  # and the connection to the concatenation


def test_a_genotype_is_measured_by_its_normal_cell():
    assert SPACE.width_depth(SPACE.parse(V2)) == (3.5, 3)
    assert SPACE.width_depth(SPACE.parse(SNAS)) == (4, 2)


# -- the string form -------------------------------------------------------------------------


@pytest.mark.parametrize("text", [V1, V2, SNAS, PDARTS])
def test_published_genotypes_are_read_and_written(text):
    architecture = SPACE.parse(text)
    written = SPACE.format(architecture)
    assert SPACE.parse(written) == architecture
    assert SPACE.format(SPACE.parse(written)) == written
    assert SPACE.is_connected(architecture)


def test_the_form_is_edge_by_edge():
    architecture = SPACE.parse(V2)
    normal = dict(zip(EDGES, architecture[:14], strict=True))
    assert {edge: OPERATIONS[op] for edge, op in normal.items() if op} == {
        (0, 2): "sep_conv_3x3",
        (1, 2): "sep_conv_3x3",
        (0, 3): "sep_conv_3x3",
        (1, 3): "sep_conv_3x3",
        (0, 4): "skip_connect",
        (1, 4): "sep_conv_3x3",
        (0, 5): "skip_connect",
        (2, 5): "dil_conv_3x3",
    }
    assert SPACE.format(architecture).startswith(
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), "
    )


def test_spacing_quotes_order_and_ranges_do_not_matter():
    architecture = SPACE.parse(V2)
    spaced = V2.replace(" ", "").replace(",", "  ,\n").replace("(", "( ").replace("]", " ]")
    swapped = V2.replace(
        "('sep_conv_3x3', 0), ('sep_conv_3x3', 1)", "('sep_conv_3x3', 1), ('sep_conv_3x3', 0)"
    )
    for text in (
        f"  {V2}\n",
        spaced,
        swapped,
        V2.replace("'", '"'),
        V2.replace("[2, 3, 4, 5]", "range(2, 6)"),
        V2.replace("1)], reduce_", "1),], reduce_"),
    ):
        assert SPACE.parse(text) == architecture


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dil_conv_3x3", "dil_conv_3x4", "Unknown operation 'dil_conv_3x4'.*mean 'dil_conv_3x3'"),
        ("('dil_conv_3x3', 2)", "('none', 2)", "Unknown operation 'none'"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 5)", "Node 5 of 'normal'.* from 5.*0 to 4"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', 0)", "Node 5 of 'normal'.*both inputs from 0"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', -1)", "not a DARTS genotype"),
        ("('dil_conv_3x3', 2)", "('dil_conv_3x3', ²)", "not a DARTS genotype"),
        (", ('dil_conv_3x3', 2)", "", "'normal'.* has 7 entries; give 8"),
        (
            "('dil_conv_3x3', 2)",
            "('dil_conv_3x3', 2), ('skip_connect', 1)",
            "has 9 entries; give 8",
        ),
        (
            "reduce=[('max_pool_3x3', 0)",
            "reduce=[('max_pool_3x3', 2)",
            "Node 2 of 'reduce'.*from 2",
        ),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=[2, 3, 4]", "not a DARTS genotype"),
        ("normal_concat=[2, 3, 4, 5]", "normal_concat=range(2, 7)", "not a DARTS genotype"),
        ("'dil_conv_3x3'", "'dil_conv_3x3\"", "not a DARTS genotype"),
        ("'dil_conv_3x3'", "__import__('os')", "not a DARTS genotype"),
        ("Genotype(", "Genotype((", "write it as"),
    ],
)
def test_wrong_genotypes_are_refused_with_the_remedy(old, new, said):
    assert old in V2
    with pytest.raises(InputError, match=said):
        SPACE.parse(V2.replace(old, new))


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1_000_000,
        "(" * 500_000 + ")" * 500_000,
        "Genotype(normal=[" + " " * 1_000_000,
        "Genotype(normal=" + "[" * 9_000,
        "Genotype(normal=[" + "('a',0)," * 1_200,
        "Genotype(normal=[" + " " * 9_000,
        "Genotype(normal=[('" + "a" * 9_000,
        V2 + "\0",
    ],
    ids=range(8),
)
def test_bombs_are_refused_at_once(text):
    with pytest.raises(InputError) as error:
        SPACE.parse(text)
    assert len(str(error.value)) < 1_000


def test_what_is_no_member_is_not_written_or_built():
    lonely = (NONE,) * 28
    crowded = (SKIP,) * 28
    for wrong in (lonely, crowded, SPACE.parse(V2)[:-1]):
        with pytest.raises(InputError, match="no architecture of the space 'darts'"):
            SPACE.format(wrong)
        with pytest.raises(InputError, match="no architecture of the space 'darts'"):
            SPACE.build(wrong, 10)


# -- isomorphism -----------------------------------------------------------------------------


def renumber(cell, order):
    """Return a cell with node ``2 + i`` called ``order[i]``, or None where an edge goes back."""
    place = {0: 0, 1: 1, **{2 + i: node for i, node in enumerate(order)}}
    moved = [NONE] * len(EDGES)
    for (source, target), op in zip(EDGES, cell, strict=True):
        if op != NONE:
            if place[source] > place[target]:
                return None
            moved[EDGES.index((place[source], place[target]))] = op
    return tuple(moved)


@quick
@given(seed=seeds, first=st.permutations(range(2, 6)), second=st.permutations(range(2, 6)))
def test_the_canonical_form_forgets_the_numbers_of_the_nodes(seed, first, second):
    architecture = draw(seed)
    halves = [
        renumber(half, order) or half
        for half, order in ((architecture[:14], first), (architecture[14:], second))
    ]
    renamed = (*halves[0], *halves[1])
    assert SPACE.is_connected(renamed)
    form = SPACE.canonical(architecture)
    assert SPACE.canonical(renamed) == form <= min(architecture, renamed)
    assert SPACE.canonical(form) == form
    assert sorted(form[:14]) == sorted(architecture[:14])


def test_each_cell_is_numbered_on_its_own():
    architecture = draw(0)
    forms = {
        SPACE.canonical(
            (
                *(renumber(architecture[:14], a) or architecture[:14]),
                *(renumber(architecture[14:], b) or architecture[14:]),
            )
        )
        for a in itertools.permutations(range(2, 6))
        for b in itertools.permutations(range(2, 6))
    }
    assert len(forms) == 1


# -- derivation and variation ----------------------------------------------------------------


def test_derivation_keeps_the_two_strongest_edges_of_a_node():
    scores = np.zeros((28, 8))
    scores[:, NONE] = 9  # never chosen, whatever it scores
    node = [slot for slot, (_, target) in enumerate(EDGES) if target == 5]
    for slot, score in zip(node, (0.1, 0.9, 0.2, 0.8, 0.3), strict=True):
        scores[slot, 3 + slot % 5] = score
    found = SPACE.discretise(scores)
    assert [found[slot] for slot in node] == [0, 3 + node[1] % 5, 0, 3 + node[3] % 5, 0]
    assert scores[0, NONE] == 9, "the caller's scores are left alone"


def test_derivation_needs_two_edges_a_node():
    scores = np.zeros((28, 8))
    scores[1] = -np.inf
    with pytest.raises(InputError, match="forbid all edges but one"):
        SPACE.discretise(scores)


def test_edges_without_operations_are_not_used():
    allowed = np.zeros((28, 8), dtype=bool)
    allowed[:, NONE] = True
    for start in (0, 14):
        for slot, (source, _) in enumerate(EDGES):
            allowed[start + slot, 4:6] = source < 2
    rng = np.random.default_rng(0)
    for _ in range(20):
        one = SPACE.mutate(SPACE.sample(rng, allowed), rng, allowed)
        assert SPACE.width_depth(one) == (4, 2)
    allowed[0] = False
    with pytest.raises(InputError, match="Fewer than two edges"):
        SPACE.sample(rng, allowed)


def test_the_paths_of_both_cells():
    paths = SPACE.paths()
    assert len(paths) == 60
    assert {len(path) for path in paths} == {1, 2, 3, 4}
    assert all(len({slot // 14 for slot in path}) == 1 for path in paths)


# -- networks --------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, 2, 5, 8])
@pytest.mark.parametrize("cells", [1, 2, 3, 4])
def test_networks_take_any_side_and_any_number_of_cells(side, cells):
    network = SPACE.build(SPACE.parse(PDARTS), 3, channels=3, cells=cells, auxiliary=True)
    logits, auxiliary = network(images(side=side))
    assert logits.shape == auxiliary.shape == (4, 3)
    assert network.eval()(images(side=side)).shape == (4, 3)
    stages = network.stage_outputs(images(side=side))
    assert stages[-1].shape[-1] == math.ceil(math.ceil(side / 2) / (2 if cells > 1 else 1))
    supernet = SPACE.supernet(3, channels=3, cells=cells)
    assert supernet(images(side=side), SPACE.parse(V1)).shape == (4, 3)


def test_the_auxiliary_head_is_trained_and_not_counted():
    architecture = SPACE.parse(V2)
    plain = SPACE.build(architecture, 10, channels=4, cells=3)
    network = SPACE.build(architecture, 10, channels=4, cells=3, auxiliary=True)
    extra = sum(p.numel() for p in network.auxiliary.parameters())
    # 1x1 to 128, 2x2 to 768, a norm after each, and the classifier.
    assert extra == 64 * 128 + 256 + 4 * 128 * 768 + 1536 + 7690
    assert extra == (
        sum(p.numel() for p in network.parameters()) - sum(p.numel() for p in plain.parameters())
    )
    assert isinstance(plain(images()), torch.Tensor)
    network(images(side=32))[1].sum().backward()
    assert all(p.grad is not None for p in network.auxiliary.parameters())


def test_dropped_paths_are_whole_images_of_other_edges_than_skips():
    network = SPACE.build(SPACE.parse(V1), 3, channels=4, cells=3)
    cell = network.cells[0]  # normal: edge 0->3 is a plain skip, 0->2 a convolution
    torch.manual_seed(0)
    network.drop_path = 0.5
    x = images(batch=64).repeat(1, 2, 1, 1)[:, :4]
    assert torch.equal(cell.edge("0->3", x), x)
    dropped = cell.edge("0->2", x)
    gone = dropped.flatten(1).abs().sum(1) == 0
    assert 10 < int(gone.sum()) < 54
    network.drop_path = 0.0
    torch.testing.assert_close(dropped[~gone], 2 * cell.edge("0->2", x)[~gone])
    network.drop_path = 0.5
    network.eval()
    assert torch.equal(network(images()), network(images()))
    for wrong in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match="not a probability below 1"):
            network.drop_path = wrong


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [1, 4, 7])
def test_a_dilated_convolution_of_stride_two_is_torchs(kernel, side):
    ours = Depthwise(2, kernel, stride=2, dilation=2)
    theirs = nn.Conv2d(2, 2, kernel, 2, 2 * (kernel // 2), 2, groups=2, bias=False)
    theirs.load_state_dict(ours.state_dict())
    x = images(side=side)[:, :2]
    torch.testing.assert_close(ours(x), theirs(x))


def test_halving_sees_every_pixel():
    for side in (4, 5):
        x = torch.zeros(1, 2, side, side, requires_grad=True)
        reduce = FactorizedReduce(2, 4, affine=True).eval()
        nn.init.ones_(reduce.even.weight)
        nn.init.ones_(reduce.odd.weight)
        output = reduce(x + 1)
        assert output.shape[-1] == math.ceil(side / 2)
        output.sum().backward()
        seen = x.grad[0, 0] > 0
        rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
        assert torch.equal(seen, rows % 2 == columns % 2)


def test_depthwise_convolutions_stay_in_float32_under_autocast():
    network = SPACE.supernet(3, channels=4, cells=3)
    kinds = {}

    def record(module, _, output):
        kinds.setdefault(isinstance(module, Depthwise), set()).add(output.dtype)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(record)
    with torch.autocast("cpu", torch.bfloat16):
        network(images(), SPACE.parse(PDARTS)).float().sum().backward()
    assert kinds == {True: {torch.float32}, False: {torch.bfloat16}}


def test_a_skip_that_halves_has_weights_and_others_have_none():
    network = SPACE.supernet(3, channels=4, cells=3)
    for slot in range(28):
        halves = slot >= 14 and EDGES[slot - 14][0] < 2
        assert len(network.edges(slot)) == (1 if slot < 14 else 2)
        assert (network.operation_params(slot, SKIP) > 0) == halves
        assert (len(network.slot_weights(slot, SKIP)) > 0) == halves
        assert network.slot_weights(slot, NONE) == []
        pools = [w for op in (1, 2) for w in network.slot_weights(slot, op)]
        assert all(torch.equal(w, torch.full_like(w, 1 / 9)) for w in pools)
