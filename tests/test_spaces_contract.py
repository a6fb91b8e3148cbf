"""What every search space must keep; a new file in ``metad2a/spaces`` is tested by being there."""

import ast
import inspect
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch_geometric.data import Batch

from metad2a.errors import BudgetError, InputError
from metad2a.spaces import SPACES, SearchSpace, WeightSharing
from metad2a.spaces.base import architecture_from_json

CLASSES = 3
SHARING = [space for space in SPACES if isinstance(space, WeightSharing)]

each_space = pytest.mark.parametrize("space", list(SPACES), ids=SPACES.names())
each_sharing = pytest.mark.parametrize("space", SHARING, ids=[space.name for space in SHARING])
quick = settings(max_examples=40, deadline=None, derandomize=True)


def architectures(space: SearchSpace):
    return st.integers(0, 2**32).map(lambda seed: space.sample(np.random.default_rng(seed)))


def small(space):
    """Return sizes that make a network quick: of cells, the least that has every kind of cell."""
    if not isinstance(space, WeightSharing):
        return {}
    return {"channels": 4, "cells": min(3, space.search_macro["cells"])}


def draw(space, count, seed=0):
    rng = np.random.default_rng(seed)
    return [space.sample(rng) for _ in range(count)]


def images(side=8, batch=2, seed=0):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def scrambled(space, architecture, seed=0):
    """Return an architecture with other choices wherever a decision means nothing."""
    rng = np.random.default_rng(seed)
    return tuple(
        choice if on else int(rng.integers(len(decision.values)))
        for choice, on, decision in zip(
            architecture, space.active(architecture), space.decisions, strict=True
        )
    )


def is_canonical(space, architecture):
    return space.canonical(architecture) == architecture and space.valid(np.array([architecture]))


def set_weights_by_shape(network: nn.Module) -> nn.Module:
    """Give equal weights to equal convolutions, so that only the wiring can tell two apart.

    Each quarter of the inputs has the same weights: a cell's output may be its four nodes in any
    order.
    """
    for name, parameter in network.named_parameters():
        if parameter.dim() > 1:
            generator = torch.Generator().manual_seed(math.prod(parameter.shape))
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.shape[1] % 4 == 0:
                drawn = (
                    drawn[:, : parameter.shape[1] // 4]
                    .repeat_interleave(4, 1)
                    .unflatten(1, (-1, 4))
                    .transpose(1, 2)
                    .flatten(1, 2)
                )
            parameter.data = drawn / math.sqrt(drawn[0].numel())
        elif name.endswith("bias"):
            parameter.data.zero_()
    return network.double().eval()


def nothing_behind_a_cut(space, architecture):
    """Whether every operation is reached by the image."""
    passes = [space.operations[op] != "none" for op in architecture]
    reached = {
        slot for path in space.paths() for slot in itertools.takewhile(passes.__getitem__, path)
    }
    return reached == {slot for slot, alive in enumerate(passes) if alive}


@each_space
@quick
@given(data=st.data())
def test_string_and_json_round_trip(space, data):
    architecture = data.draw(architectures(space))
    assert space.parse(space.format(architecture)) == architecture
    assert architecture_from_json(space.to_json(architecture)) == (space, architecture)
    assert (
        space.as_array([space.format(architecture), architecture]).tolist()
        == [list(architecture)] * 2
    )


@each_space
def test_strings_of_another_kind_and_incomplete_json_are_refused(space):
    good = space.to_json(draw(space, 1)[0])
    for text in ("", "nonsense", "|", good["architecture"][:-3], "x" * 100_000):
        with pytest.raises(InputError):
            space.parse(text)
    with pytest.raises(InputError, match="missing: architecture"):
        architecture_from_json({"space": space.name})
    with pytest.raises(InputError, match=f"Did you mean '{space.name}'"):
        architecture_from_json({**good, "space": space.name[:-1]})


@each_space
def test_decisions_have_names_and_choices(space):
    names = [decision.name for decision in space.decisions]
    assert len(set(names)) == len(names) == space.slots
    for decision in space.decisions:
        assert len(set(decision.values)) == len(decision.values) > 1
    assert len(set(space.node_features)) == len(space.node_features)


@each_space
@quick
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_decisions_that_mean_nothing_are_ignored(space, data, seed):
    architecture = space.canonical(data.draw(architectures(space)))
    assert space.canonical(architecture) == architecture
    on = space.active(architecture)
    assert all(choice == 0 for choice, lit in zip(architecture, on, strict=True) if not lit)
    other = scrambled(space, architecture, seed)
    assert space.canonical(other) == architecture
    assert space.active(other) == on
    assert space.canonical(space.parse(space.format(other))) == architecture
    assert space.resolution(other) == space.resolution(architecture)
    assert space.cost(other, CLASSES) == space.cost(architecture, CLASSES)
    one, two = space.graph(architecture), space.graph(other)
    assert torch.equal(one.x, two.x) and torch.equal(one.edge_index, two.edge_index)


@each_space
@quick
@given(data=st.data())
def test_what_a_decision_means_hangs_on_earlier_ones(space, data):
    whole = data.draw(architectures(space))
    slot = data.draw(st.integers(0, space.slots - 1))
    filled = space.complete(np.array([whole[: slot + 1]]))[0].tolist()
    assert space.active(tuple(filled))[: slot + 1] == space.active(whole)[: slot + 1]


@each_sharing
@quick
@given(data=st.data())
def test_the_canonical_form_is_its_own_and_keeps_connection(space, data):
    architecture = data.draw(architectures(space))
    form = space.canonical(architecture)
    assert space.canonical(form) == form
    assert space.is_connected(form) == space.is_connected(architecture)


@each_sharing
def test_isomorphic_architectures_compute_the_same(space):
    for architecture in draw(space, 12):
        form = space.canonical(architecture)
        outputs = []
        for one in (architecture, form):
            network = set_weights_by_shape(space.build(one, CLASSES, **small(space)))
            outputs.append(network(images().double()))
        torch.testing.assert_close(*outputs)


@each_space
@quick
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_variation_gives_members_and_obeys_the_seed(space, data, seed):
    first, second = data.draw(architectures(space)), data.draw(architectures(space))

    def vary():
        rng = np.random.default_rng(seed)
        return [
            space.sample(rng),
            space.mutate(first, rng),
            space.mutate(scrambled(space, first, 1), rng),
            space.cross(first, second, rng),
        ]

    made = vary()
    assert made == vary()
    for one in made:
        assert space.parse(space.format(one)) == one
        if not isinstance(space, WeightSharing):  # which keep to what a search allows instead
            assert is_canonical(space, one)
    assert made[1] != first
    assert space.cross(first, first, np.random.default_rng(seed)) == first


@each_space
@quick
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_what_both_parents_decided_alike_stays(space, data, seed):
    rng = np.random.default_rng(seed)
    first = data.draw(architectures(space))
    second = space.mutate(first, rng)
    child = space.cross(first, second, rng)
    shared = [
        slot
        for slot in range(space.slots)
        if all(space.active(one)[slot] for one in (first, second, child))
        and first[slot] == second[slot]
    ]
    if not isinstance(space, WeightSharing) or space.left_over is None:
        assert all(child[slot] == first[slot] for slot in shared)


@each_space
@pytest.mark.parametrize("limited", [False, True])
def test_a_pool_is_spread_over_the_costs_within_the_limits(space, limited):
    limits = (None, None)
    if limited:
        some = space.costs(np.array(draw(space, 100)), CLASSES)
        limits = tuple(int(value) for value in np.quantile(some, 0.4, axis=0))
    pool = space.pool(60, np.random.default_rng(1), CLASSES, *limits)
    assert pool == space.pool(60, np.random.default_rng(1), CLASSES, *limits)
    assert len(set(pool)) == len(pool) == 60
    assert all(is_canonical(space, one) for one in pool)
    assert space.feasible(np.array(pool), CLASSES, *limits).all()
    logs = np.log(space.costs(np.array(pool), CLASSES)[:, 1])
    places = (logs - logs.min()) / (logs.max() - logs.min())
    assert all(
        ((low <= places) & (places <= low + 0.25)).sum() >= 6 for low in (0, 0.25, 0.5, 0.75)
    )
    assert len(np.unique((places[:12] * 4).clip(max=3).astype(int))) >= 3
    least, widest = space.smallest(CLASSES).macs, space.costs(np.array(draw(space, 60)), CLASSES)
    if not limited:  # both ends are reached, which chance alone does not
        assert (
            math.exp(logs.min()) < 1.5 * least and math.exp(logs.max()) > widest[:, 1].max() / 1.2
        )


@each_space
def test_a_pool_of_a_small_space_is_all_of_it(space):
    members = space.listed()
    if members is None:
        return
    everything = {tuple(row) for row in members.tolist()}
    pool = space.pool(len(everything) + 1, np.random.default_rng(0), CLASSES)
    assert set(pool) == everything and len(pool) == len(everything)
    least = space.smallest(CLASSES)
    few = space.pool(len(everything), np.random.default_rng(0), CLASSES, None, least.macs)
    good = space.feasible(members, CLASSES, None, least.macs)
    assert set(few) == {tuple(row) for row in members[good].tolist()}


@each_sharing
@quick
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_variation_keeps_to_the_parents(space, data, seed):
    first, second = data.draw(architectures(space)), data.draw(architectures(space))
    rng = np.random.default_rng(seed)
    mutant = space.mutate(first, rng)
    assert 1 <= sum(a != b for a, b in zip(first, mutant, strict=True)) <= 2
    child = space.cross(first, second, rng)
    assert all(
        c in (a, b) or space.operations[c] == "none"
        for c, a, b in zip(child, first, second, strict=True)
    )
    for made in (mutant, child, space.sample(rng)):
        assert space.parse(space.format(made)) == made


@each_sharing
@quick
@given(seed=st.integers(0, 2**32), banned=st.sets(st.integers(2, 4), max_size=2))
def test_variation_keeps_to_what_is_allowed(space, seed, banned):
    rng = np.random.default_rng(seed)
    allowed = rng.random((space.slots, len(space.operations))) < 0.5
    allowed[:, 1] = True
    allowed[:, list(banned)] = False
    one = space.sample(rng, allowed)
    for made in (
        one,
        space.mutate(one, rng, allowed),
        space.cross(one, space.sample(rng, allowed), rng),
    ):
        assert space.parse(space.format(made)) == made
        assert all(
            allowed[slot, op] or space.operations[op] == "none" for slot, op in enumerate(made)
        )


@each_sharing
def test_what_cannot_change_stays(space):
    rng = np.random.default_rng(0)
    one = next(a for a in draw(space, 50) if space.is_connected(a))
    only = np.zeros((space.slots, len(space.operations)), dtype=bool)
    only[np.arange(space.slots), one] = True
    assert space.sample(rng, only) == one
    assert space.mutate(one, rng, only) == one
    assert space.cross(one, one, rng) == one


@each_sharing
def test_chance_reaches_every_operation_of_every_slot_and_obeys_the_seed(space):
    drawn = draw(space, 60 * len(space.operations))
    none = {space.operations.index("none")}
    assert all(
        set(column) | none == set(range(len(space.operations)))
        for column in zip(*drawn, strict=True)
    )
    assert drawn == draw(space, 60 * len(space.operations))
    rng = np.random.default_rng(0)
    mutants = [space.mutate(drawn[0], rng) for _ in range(900)]
    changed = {
        (slot, b)
        for mutant in mutants
        for slot, (a, b) in enumerate(zip(drawn[0], mutant, strict=True))
        if a != b
    }
    assert {slot for slot, _ in changed} == set(range(space.slots))
    assert changed >= {
        (slot, op)
        for slot, used in enumerate(drawn[0])
        if used not in none
        for op in set(range(len(space.operations))) - none - {used}
    }
    children = {space.cross(drawn[0], drawn[1], rng) for _ in range(50)}
    assert len(children) > 10


@each_sharing
def test_enumeration_has_no_double(space):
    try:
        some = list(itertools.islice(space.enumerate(), 1000))
    except InputError as error:
        assert "cannot be enumerated" in str(error)
        assert space.listed() is None
        return
    assert len(set(some)) == len(some)
    assert all(space.parse(space.format(one)) == one for one in some[::50])


@each_space
@quick
@given(data=st.data())
def test_the_cheapest_completion_of_a_prefix_is_a_member_if_any_is(space, data):
    whole = data.draw(architectures(space))
    length = data.draw(st.integers(0, space.slots))
    prefix = np.array([whole[:length]], dtype=np.int64).reshape(1, length)
    filled = space.complete(prefix)
    assert filled.shape == (1, space.slots)
    assert tuple(filled[0, :length].tolist()) == whole[:length]
    assert not space.valid(np.array([whole]))[0] or space.valid(filled)[0]
    assert (space.costs(filled, CLASSES) <= space.costs(np.array([whole]), CLASSES)).all()


@each_sharing
@quick
@given(data=st.data())
def test_one_score_for_each_decision_names_the_architecture(space, data):
    architecture = data.draw(architectures(space))
    scores = np.zeros((space.slots, len(space.operations)))
    scores[np.arange(space.slots), architecture] = 1
    if space.is_connected(architecture):
        assert space.discretise(scores) == architecture
    assert space.is_connected(space.discretise(scores))


@each_sharing
def test_forbidden_operations_do_not_win(space):
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores = rng.standard_normal((space.slots, len(space.operations)))
        scores[:, 2:][rng.random((space.slots, len(space.operations) - 2)) < 0.7] = -np.inf
        found = space.discretise(scores)
        assert all(scores[slot, op] > -np.inf for slot, op in enumerate(found))
    with pytest.raises(InputError, match="forbid"):
        space.discretise(np.full((space.slots, len(space.operations)), -np.inf))


@each_sharing
def test_scores_that_are_none_are_refused(space):
    good = np.zeros((space.slots, len(space.operations)))
    bad = good.copy()
    bad[0, 1] = np.nan
    endless = good.copy()
    endless[0, 1] = np.inf
    for wrong in (good[1:], good[0], bad, endless):
        with pytest.raises(InputError, match=f"no architecture of '{space.name}'"):
            space.discretise(wrong)


@each_sharing
def test_width_and_depth_measure_what_is_alive(space):
    for architecture in draw(space, 30):
        width, depth = space.width_depth(architecture)
        assert (width > 0) == (depth > 0) == space.is_connected(architecture)
        assert depth <= max(map(len, space.paths())) + 1


@each_sharing
def test_the_preceding_slot_leads_to_the_source(space):
    inner = {
        path[i + 1]: {
            p[j] for p in space.paths() for j in range(len(p) - 1) if p[j + 1] == path[i + 1]
        }
        for path in space.paths()
        for i in range(len(path) - 1)
    }
    for slot in range(space.slots):
        before = space.preceding(slot)
        assert before in inner[slot] if slot in inner else before is None


@each_space
@pytest.mark.parametrize(
    ("classes", "side"),
    [
        (10, None),
        pytest.param(2, 15, marks=pytest.mark.slow),
        pytest.param(37, 48, marks=pytest.mark.slow),
    ],
)
def test_costs_are_those_of_the_module(space, classes, side):
    for architecture in draw(space, 3):
        resolution = side or space.resolution(architecture)
        with torch.device("meta"):  # shapes without arithmetic
            network = space.build(architecture, classes)
        params = sum(p.numel() for p in network.parameters())
        for module in list(network.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d):  # slow without arithmetic, and free
                    setattr(module, name, nn.Identity())
        macs = []

        def count(module, _, output, macs=macs):
            positions = math.prod(output.shape[2:]) if isinstance(module, nn.Conv2d) else 1
            macs.append(module.weight.numel() * positions)

        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.register_forward_hook(count)
        network(torch.empty(1, 3, resolution, resolution, device="meta"))
        cost = space.cost(architecture, classes, side)
        assert cost.params == params
        if isinstance(space, WeightSharing) and not nothing_behind_a_cut(space, architecture):
            # What the image does not reach is counted, though it is not computed.
            assert cost.macs >= sum(macs)
        else:
            assert cost.macs == sum(macs)
        assert space.costs(np.array([architecture]), classes, side).tolist() == [
            [cost.params, cost.macs]
        ]


@each_space
def test_limits_are_obeyed_exactly(space):
    drawn = np.array(draw(space, 200))
    params, macs = space.costs(drawn, CLASSES).T
    assert space.feasible(drawn, CLASSES).all()
    limit, other = int(np.sort(params)[100]), int(np.sort(macs)[60])
    np.testing.assert_array_equal(space.feasible(drawn, CLASSES, limit), params <= limit)
    np.testing.assert_array_equal(
        space.feasible(drawn, CLASSES, limit, other), (params <= limit) & (macs <= other)
    )


@each_space
def test_an_impossible_limit_names_the_smallest_feasible_one(space):
    least = space.smallest(CLASSES)
    members = np.array(space.pool(200, np.random.default_rng(0), CLASSES))
    assert (space.costs(members, CLASSES) >= (least.params, least.macs)).all()
    space.check_limits(CLASSES, None, None)
    space.check_limits(CLASSES, least.params, least.macs)
    with pytest.raises(BudgetError, match=rf"max_params=.*Use max_params={least.params} or more"):
        space.check_limits(CLASSES, least.params - 1, None)
    with pytest.raises(BudgetError, match=rf"max_macs=.*Use max_macs={least.macs} or more"):
        space.check_limits(CLASSES, None, least.macs - 1)


@each_space
def test_graphs_are_acyclic_from_one_input_to_the_last_node(space):
    for architecture in draw(space, 20):
        graph = space.graph(architecture)
        nodes = len(graph.x)
        assert graph.x.dtype == torch.float32 and graph.edge_index.dtype == torch.int64
        assert graph.x.shape == (nodes, len(space.node_features))
        assert torch.isfinite(graph.x).all()
        again = space.graph(architecture)
        assert torch.equal(again.x, graph.x) and torch.equal(again.edge_index, graph.edge_index)
        edges = set(map(tuple, graph.edge_index.T.tolist()))
        sources, targets = ({edge[end] for edge in edges} for end in (0, 1))
        assert len(set(range(nodes)) - targets) == 1
        assert len(edges) == graph.edge_index.shape[1]
        assert set(range(nodes)) - sources == {nodes - 1}
        while edges:  # peel off what nothing enters; a cycle would stay
            free = {a for a, _ in edges} - {b for _, b in edges}
            assert free, "the graph has a cycle"
            edges = {edge for edge in edges if edge[0] not in free}


@each_space
def test_graphs_tell_architectures_apart(space):
    drawn = space.pool(30, np.random.default_rng(0), CLASSES)
    forms = {
        (space.graph(one).x.numpy().tobytes(), space.graph(one).edge_index.numpy().tobytes())
        for one in drawn
    }
    assert len(forms) == 30


@each_sharing
def test_nodes_of_cells_are_their_operations(space):
    for architecture in draw(space, 20):
        x = space.graph(architecture).x
        assert (x.sum(1) == 1).all()
        names = [space.node_features[index] for index in x.argmax(1).tolist()]
        inner = [name.rpartition("/")[2] for name in names]
        inner = [name for name in inner if name in space.operations]
        assert sorted(inner) == sorted(space.operations[op] for op in architecture)
        assert names.count("input") == names.count("output") == 1


@each_space
def test_a_batch_of_graphs_is_what_pyg_collates(space):
    drawn = draw(space, 7)
    batch = space.graphs(np.array(drawn))
    singles = batch.to_data_list()
    assert batch.num_graphs == len(singles) == 7
    for architecture, single in zip(drawn, singles, strict=True):
        alone = space.graph(architecture)
        assert torch.equal(alone.x, single.x)
        assert torch.equal(alone.edge_index, single.edge_index)
    nodes, lengths = space.graph_nodes(np.array(drawn))
    assert np.array_equal(nodes, batch.x.numpy())
    assert lengths.tolist() == [single.num_nodes for single in singles]
    collated = Batch.from_data_list(singles)
    assert set(collated.keys()) == set(batch.keys())
    assert all(torch.equal(collated[key], batch[key]) for key in collated.keys())  # noqa: SIM118


@each_space
def test_networks_run_at_their_resolution_and_come_again_from_their_config(space):
    for architecture in draw(space, 3):
        side = space.resolution(architecture)
        network = space.build(architecture, CLASSES, **small(space)).eval()
        logits = network(images(side))
        assert logits.shape == (2, CLASSES) and torch.isfinite(logits).all()
        assert isinstance(network.classifier, nn.Linear)
        assert network.classifier.out_features == CLASSES
        features = network.features(images(side))
        assert features.shape == (2, network.classifier.in_features)
        torch.testing.assert_close(network.classifier(features), logits)
        again = type(network)(**json.loads(json.dumps(network.config))).eval()
        again.load_state_dict(network.state_dict())
        assert torch.equal(again(images(side)), logits)


@each_space
def test_networks_lie_in_files_that_need_torch_alone(space):
    file = Path(inspect.getfile(type(space.build(draw(space, 1)[0], CLASSES))))
    assert file.parent.name == "networks"
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            top = name.partition(".")[0]
            assert top == "torch" or top in sys.stdlib_module_names, name


@each_space
def test_pretrained_weights_are_there_or_refused_with_the_reason(space):
    smallest = space.canonical(tuple(space.complete(np.empty((1, 0), dtype=np.int64))[0].tolist()))
    if not space.pretrained:
        with pytest.raises(InputError, match=f"{space.name!r} has no pretrained weights"):
            space.build(smallest, CLASSES, pretrained=True)
        return
    first, second = (space.build(smallest, CLASSES, pretrained=True).eval() for _ in range(2))
    x = images(space.resolution(smallest))
    assert torch.equal(first.features(x), second.features(x))
    plain = space.build(smallest, CLASSES).eval()
    assert plain.config == first.config
    assert not torch.equal(plain.features(x), first.features(x))


@each_sharing
@pytest.mark.parametrize("side", [8, 17])
def test_networks_are_connected_where_the_space_says_so(space, side):
    for architecture in draw(space, 12):
        network = space.build(architecture, CLASSES, **small(space)).eval()
        first, second = network(images(side)), network(images(side, seed=1))
        assert first.shape == (2, CLASSES)
        assert torch.isfinite(first).all()
        assert torch.equal(first, second) != space.is_connected(architecture)


@each_sharing
def test_sizes_below_one_are_refused(space):
    architecture = draw(space, 1)[0]
    for wrong in ({"channels": 0}, {"cells": -1}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=.*1 or more"):
            space.build(architecture, CLASSES, **wrong)
        with pytest.raises(InputError, match=f"{next(iter(wrong))}=.*1 or more"):
            space.supernet(CLASSES, **wrong)


@each_space
def test_sizes_that_the_space_does_not_have_are_refused(space):
    architecture = draw(space, 1)[0]
    with pytest.raises(InputError, match=f"{space.name!r} has no size 'wings'"):
        space.build(architecture, CLASSES, wings=2)


@each_sharing
def test_macro_networks_have_a_width_and_a_depth(space):
    for macro in (space.counted_macro, space.search_macro, space.published_macro):
        assert set(macro) == {"channels", "cells"}
        assert space.sizes(macro) == macro
    assert space.sizes({"channels": None, "cells": 2}) == {**space.counted_macro, "cells": 2}
    assert space.search_macro["cells"] <= space.published_macro["cells"]


@each_sharing
def test_paths_are_ways_through_the_slots(space):
    paths = space.paths()
    assert len(set(paths)) == len(paths) > 0
    assert {slot for path in paths for slot in path} == set(range(space.slots))


@each_sharing
def test_cell_types_cover_the_slots_and_what_is_left_over_is_never_chosen(space):
    assert [slot for slots in space.cell_types.values() for slot in slots] == list(
        range(space.slots)
    )
    if space.left_over is not None:
        scores = np.zeros((space.slots, len(space.operations)))
        plain = space.discretise(scores)
        scores[:, space.left_over] = 100
        assert space.discretise(scores) == plain
