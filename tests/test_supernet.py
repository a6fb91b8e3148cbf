"""Supernets of every space: paths, mixtures, frozen operations, routes and clones."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.spaces import SPACES, WeightSharing
from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.gates import Gates, Route
from metad2a.spaces.supernets.mixed import MixedNetwork, MixedOperation, apart

CLASSES = 3
SHARING = [space for space in SPACES if isinstance(space, WeightSharing)]
each_space = pytest.mark.parametrize("space", SHARING, ids=[space.name for space in SHARING])


def supernet(space, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        cells = min(3, space.search_macro["cells"])
        return space.supernet(CLASSES, channels=4, cells=cells)


def images(batch=6, side=8, seed=0):
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def whole(space, seed=0):
    """Return an architecture of which every operation is reached by the image and by the loss."""
    rng = np.random.default_rng(seed)
    while True:
        one = space.sample(rng)
        used = {slot for slot, op in enumerate(one) if space.operations[op] != "none"}
        alive = {slot for path in space.paths() if used.issuperset(path) for slot in path}
        if used == alive and len(used) > space.slots // 3:
            return one


def fair_paths(space, seed=0):
    rng = np.random.default_rng(seed)
    count = len(space.operations)
    return list(zip(*(rng.permutation(count).tolist() for _ in range(space.slots)), strict=True))


def loss(logits):
    return F.cross_entropy(logits, torch.arange(len(logits)) % CLASSES, reduction="sum")


def gradients(network):
    return {
        name: None if p.grad is None else p.grad.clone() for name, p in network.named_parameters()
    }


def active_weights(network, space, chosen):
    """Return the ids of the parameters of the operations that ``chosen(slot)`` holds."""
    return {
        id(p)
        for slot in range(space.slots)
        for edge in network.edges(slot)
        for op in chosen(slot)
        for one in edge.operation(op)
        for p in one.parameters()
    }


def operation_weights(network, space):
    return active_weights(network, space, lambda _: range(len(space.operations)))


# -- paths -----------------------------------------------------------------------------------


@each_space
def test_a_path_is_the_plain_network(space):
    architecture = whole(space)
    if space.name == "darts":  # whose supernet has a batch norm after pools, unlike the network
        skip = space.operations.index("skip_connect")
        architecture = tuple(skip if "pool" in space.operations[op] else op for op in architecture)
    network = supernet(space)
    cells = min(3, space.search_macro["cells"])
    plain = space.build(architecture, CLASSES, channels=4, cells=cells)
    shared = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    on_path = active_weights(network, space, lambda slot: [architecture[slot]])
    elsewhere = operation_weights(network, space) - on_path
    shared = [m for m in shared if id(m.weight) not in elsewhere]
    own = [m for m in plain.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(shared) == len(own)
    for ours, theirs in zip(own, shared, strict=True):
        ours.weight.data.copy_(theirs.weight.data)
        if ours.bias is not None:
            ours.bias.data.copy_(theirs.bias.data)
    x = images()
    torch.testing.assert_close(plain(x), network(x, architecture), atol=1e-5, rtol=1e-5)


@each_space
def test_what_is_not_on_the_path_does_not_move(space):
    network = supernet(space)
    optimiser = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    first, second = whole(space, 0), whole(space, 1)
    for architecture in (first, second):
        optimiser.zero_grad(set_to_none=True)
        loss(network(images(), architecture)).backward()
        on_path = active_weights(network, space, lambda slot, a=architecture: [a[slot]])
        beside = operation_weights(network, space) - on_path
        assert beside and on_path
        before = {id(p): p.detach().clone() for p in network.parameters()}
        assert all((p.grad is None) == (id(p) in beside) for p in network.parameters())
        optimiser.step()
        for p in network.parameters():
            assert torch.equal(p, before[id(p)]) == (id(p) in beside)


@each_space
def test_a_tuple_is_its_own_gates(space):
    network, architecture = supernet(space), whole(space)
    gates = Gates.path(architecture, len(space.operations))
    assert torch.equal(network(images(), architecture), network(images(), gates))
    assert [gates.lead(slot) for slot in range(space.slots)] == list(architecture)
    assert isinstance(network, SuperNet)


@each_space
def test_features_are_what_the_classifier_sees(space):
    network, architecture = supernet(space), whole(space)
    features = network.features(images(), architecture)
    assert features.shape == (6, network.classifier.in_features)
    torch.testing.assert_close(network.classifier(features), network(images(), architecture))


@each_space
def test_every_shared_weight_is_listed_once(space):
    network, architecture = supernet(space), whole(space)
    loss(network(images(), architecture)).backward()
    fixed = network.fixed_weights()
    assert all(weight.grad is not None for weight in fixed)
    slots = [
        id(p)
        for slot, op in itertools.product(range(space.slots), range(len(space.operations)))
        for p in network.slot_weights(slot, op)
        if p.requires_grad
    ]
    listed = [*map(id, fixed), *slots]
    assert len(listed) == len(set(listed))
    assert set(listed) == {id(p) for p in network.parameters() if p.dim() > 1}
    counted = sum(
        network.operation_params(slot, op)
        for slot, op in itertools.product(range(space.slots), range(len(space.operations)))
    )
    own = operation_weights(network, space)
    assert counted == sum(p.numel() for p in network.parameters() if id(p) in own)


# -- mixtures --------------------------------------------------------------------------------


def test_a_mixture_is_the_weighted_sum():
    double, square = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)
    mixed = MixedOperation([None, nn.Identity(), double, square], 2)
    x = images()[:, :2]
    weights = torch.tensor([[0.4, 0.1, 0.2, 0.3]], requires_grad=True)
    output = mixed(x, Gates.mixture(weights), 0)
    torch.testing.assert_close(output, 0.1 * x + 0.2 * double(x) + 0.3 * square(x))
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    output.backward(upstream)
    outputs = torch.stack([torch.zeros_like(x), x, double(x), square(x)])
    torch.testing.assert_close(weights.grad[0], (outputs * upstream).sum((1, 2, 3, 4)))
    some = Gates.mixture(weights, np.array([[True, False, True, False]]))
    torch.testing.assert_close(mixed(x, some, 0), 0.2 * double(x))
    assert mixed(x, Gates.mixture(weights, np.array([[True, False, False, False]])), 0) is None


@each_space
def test_zero_weights_are_no_branch(space):
    """The static form (all operations, gates 0 and 1) against the one that branches."""
    x, architecture = images(), whole(space)
    branching, static = supernet(space), supernet(space)
    weights = F.one_hot(torch.tensor(architecture), len(space.operations)).float()
    outputs = branching(x, architecture), static(x, Gates.mixture(weights))
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-5)
    for output in outputs:
        loss(output).backward()
    theirs = gradients(static)
    for name, ours in gradients(branching).items():
        expected = torch.zeros_like(theirs[name]) if ours is None else ours
        torch.testing.assert_close(theirs[name], expected, atol=1e-5, rtol=1e-4)


@each_space
def test_a_mixture_of_two_operations_computes_no_others(space):
    network = supernet(space)
    first, second = whole(space, 0), whole(space, 1)
    active = np.zeros((space.slots, len(space.operations)), dtype=bool)
    for one in (first, second):
        active[np.arange(space.slots), one] = True
    alphas = torch.zeros(active.shape, requires_grad=True)
    gates = Gates.mixture(alphas.softmax(1), active)
    loss(network(images(), gates)).backward()
    on_path = active_weights(network, space, lambda slot: {first[slot], second[slot]})
    beside = operation_weights(network, space) - on_path
    assert all((p.grad is None) == (id(p) in beside) for p in network.parameters())
    assert alphas.grad.abs().sum() > 0


def test_the_lead_is_the_active_operation_of_the_greatest_weight():
    weights = torch.tensor([[0.1, 0.5, 0.4], [0.2, 0.7, 0.1]])
    active = np.array([[True, False, True], [True, True, True]])
    gates = Gates.mixture(weights, active)
    assert (gates.lead(0), gates.lead(1)) == (2, 1)


# -- frozen operations -----------------------------------------------------------------------


def test_a_frozen_operation_teaches_its_gate_only():
    active, inactive = nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)
    mixed = MixedOperation([active, inactive], 2)
    x = images()[:, :2].requires_grad_()
    gates = torch.tensor([[1.0, 0.0]], requires_grad=True)
    both, second = np.array([[True, True]]), np.array([[False, True]])
    output = mixed(x, Gates(both, gates, second), 0)
    upstream = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    output.backward(upstream)
    outputs = torch.stack([active(x), inactive(x)])
    torch.testing.assert_close(gates.grad[0], (outputs * upstream).sum((1, 2, 3, 4)))
    assert inactive.weight.grad is None and inactive.bias.grad is None
    assert active.weight.grad is not None
    alone = images()[:, :2].requires_grad_()
    active(alone).backward(upstream)
    torch.testing.assert_close(x.grad, alone.grad)


@each_space
def test_frozen_paths_change_no_weight(space):
    network = supernet(space)
    first, second = whole(space, 0), whole(space, 1)
    rows = np.arange(space.slots)
    active = np.zeros((space.slots, len(space.operations)), dtype=bool)
    active[rows, first] = True
    frozen = np.zeros_like(active)
    frozen[rows, second] = ~active[rows, second]
    weights = torch.tensor(active, dtype=torch.float32, requires_grad=True)
    loss(network(images(), Gates(active | frozen, weights, frozen))).backward()
    on_path = active_weights(network, space, lambda slot: [first[slot]])
    beside = operation_weights(network, space) - on_path
    assert all((p.grad is None) == (id(p) in beside) for p in network.parameters())
    parametric = [
        (s, o) for s, o in enumerate(second) if frozen[s, o] and space.operations[o] != "none"
    ]
    assert any(weights.grad[s, o] != 0 for s, o in parametric)


# -- routes ----------------------------------------------------------------------------------


@each_space
def test_a_route_is_all_of_its_paths(space):
    # In float64, as batch norm enlarges the rounding of what is constant behind a cut.
    paths = fair_paths(space)
    one_by_one, routed = supernet(space).double(), supernet(space).double()
    parts = [images(batch=3, side=4, seed=seed).double() for seed in range(len(paths))]
    outputs = []
    for part, path in zip(parts, paths, strict=True):
        outputs.append(one_by_one(part, path))
        loss(outputs[-1]).backward()
    together = routed(torch.cat(parts), Route.of(paths))
    torch.testing.assert_close(together, torch.cat(outputs), atol=1e-9, rtol=1e-9)
    sum(loss(part) for part in together.chunk(len(paths))).backward()
    theirs = gradients(one_by_one)
    for name, ours in gradients(routed).items():
        expected = torch.zeros_like(ours) if theirs[name] is None else theirs[name]
        torch.testing.assert_close(ours, expected, atol=1e-8, rtol=1e-8)
    buffers = dict(one_by_one.named_buffers())
    for name, buffer in routed.named_buffers():
        if "copies" not in name:  # what all paths share keeps the same running statistics
            torch.testing.assert_close(buffer, buffers[name])


def test_a_route_names_the_chunk_of_each_operation():
    route = Route.of([(2, 0), (0, 1), (1, 2)])
    assert route.paths == 3
    assert route.order.tolist() == [[1, 2, 0], [0, 1, 2]]
    assert route.order.dtype == torch.int64


@pytest.mark.parametrize("paths", [[(0, 1), (0, 0)], [(0, 1), (1, 2)], [(0,)] * 2, []])
def test_unfair_paths_have_no_route(paths):
    with pytest.raises(InputError, match="exactly one path"):
        Route.of(paths)


# -- static graphs ---------------------------------------------------------------------------


class Chain(MixedNetwork):
    """Two slots in a row, as real supernets take long to compile."""

    slots, operations = 2, 3

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.chain = nn.ModuleList(
            MixedOperation([None, nn.Identity(), nn.Conv2d(4, 4, 3, padding=1)], 4)
            for _ in range(self.slots)
        )
        self.classifier = nn.Linear(4, CLASSES)

    def pooled(self, x, choice):
        x = apart(self.stem, x, choice)
        for slot, mixed in enumerate(self.chain):
            x = x + mixed(x, choice, slot)
        return x.mean((2, 3))

    def edges(self, slot):
        return [self.chain[slot]]

    def fixed_weights(self):
        return [self.stem[0].weight, self.classifier.weight]


@pytest.mark.slow
def test_one_compiled_graph_serves_every_route_and_mixture():
    network, graphs = Chain(), []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(network, backend=backend, fullgraph=True)
    x = images(batch=6)
    for paths in ([(0, 1), (1, 2), (2, 0)], [(1, 1), (2, 0), (0, 2)]):
        route = Route.of(paths)
        output = compiled(x, route)
        torch.testing.assert_close(output, network(x, route))
        loss(output).backward()
    assert len(graphs) == 1
    for seed in range(2):
        weights = torch.rand(2, 3, generator=torch.Generator().manual_seed(seed))
        gates = Gates.mixture(weights.requires_grad_())
        output = compiled(x, gates)
        torch.testing.assert_close(output, network(x, gates))
        loss(output).backward()
        assert (weights.grad[:, 1:] != 0).all()
    assert len(graphs) == 2


@pytest.mark.slow
@each_space
def test_one_graph_of_a_slot_serves_every_route(space):
    network, graphs = supernet(space), []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    mixed = network.edges(0)[0]
    compiled = torch.compile(mixed, backend=backend, fullgraph=True)
    x = torch.randn(2 * len(space.operations), 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for seed in range(2):
        route = Route.of(fair_paths(space, seed))
        torch.testing.assert_close(compiled(x, route, 0), mixed(x, route, 0))
    assert len(graphs) == 1


# -- clones ----------------------------------------------------------------------------------


def clonable(space, network):
    """Return (slot, operation, by_slot) with weights, behind another slot."""
    return next(
        (slot, op, space.preceding(slot))
        for slot, op in itertools.product(range(space.slots), range(len(space.operations)))
        if space.preceding(slot) is not None and network.operation_params(slot, op)
    )


def through(space, slot, op, by_slot, lead):
    """Return the gates of a path through one operation, with another one before it."""
    active = np.zeros((space.slots, len(space.operations)), dtype=bool)
    active[:, space.operations.index("skip_connect")] = True
    active[[slot, by_slot]] = False
    active[slot, op] = active[by_slot, lead] = True
    return Gates(active)


@each_space
def test_clones_begin_equal_then_differ_and_follow_the_slot_before(space):
    network = supernet(space)
    slot, op, by_slot = clonable(space, network)
    leads = [i for i, name in enumerate(space.operations) if name != "none"][:2]
    before = [network(images(), through(space, slot, op, by_slot, lead)) for lead in leads]
    size = sum(p.numel() for p in network.parameters())
    added = network.clone(slot, op, by_slot)
    assert added == (len(space.operations) - 1) * network.operation_params(slot, op)
    assert sum(p.numel() for p in network.parameters()) == size + added
    assert network.clones == [(slot, op, by_slot)]
    for lead, logits in zip(leads, before, strict=True):
        assert torch.equal(network(images(), through(space, slot, op, by_slot, lead)), logits)
    copies = network.edges(slot)[0].operation(op)
    assert len(copies) == len(space.operations)
    optimiser = torch.optim.SGD(network.parameters(), 0.1)
    optimiser.zero_grad()
    loss(network(images(), through(space, slot, op, by_slot, leads[0]))).backward()
    moved = [any(p.grad is not None for p in one.parameters()) for one in copies]
    assert moved == [index == leads[0] for index in range(len(copies))]
    optimiser.step()
    weights = [next(one.parameters()) for one in copies]
    assert not torch.equal(weights[leads[0]], weights[leads[1]])
    assert len(network.slot_weights(slot, op)) == len(copies) * len(
        supernet(space).slot_weights(slot, op)
    )


@each_space
def test_a_cloned_network_is_made_again_from_its_list_of_clones(space):
    network, other = supernet(space), supernet(space, seed=1)
    network.clone(*clonable(space, network))
    for clone in network.clones:
        other.clone(*clone)
    other.load_state_dict(network.state_dict())
    gates = through(space, *network.clones[0], lead=1)
    assert torch.equal(network.eval()(images(), gates), other.eval()(images(), gates))


@each_space
def test_what_cannot_be_cloned_or_routed(space):
    network = supernet(space)
    slot, op, by_slot = clonable(space, network)
    with pytest.raises(InputError, match="no parameters"):
        network.clone(slot, space.operations.index("none"), by_slot)
    with pytest.raises(InputError, match="among its own copies"):
        network.clone(slot, op, slot)
    network.clone(slot, op, by_slot)
    with pytest.raises(InputError, match="cloned already"):
        network.clone(slot, op, by_slot)
    with pytest.raises(InputError, match="cloned operations"):
        network(images(batch=2 * len(space.operations)), Route.of(fair_paths(space)))


# -- refusals --------------------------------------------------------------------------------


@each_space
def test_choices_of_another_space_are_refused(space):
    network, count = supernet(space), len(space.operations)
    for wrong in (
        (0,) * (space.slots - 1),
        Gates.mixture(torch.ones(space.slots, count + 1)),
        Route.of([(0,), (1,)]),
    ):
        with pytest.raises(InputError, match="does not fit a supernet"):
            network(images(), wrong)
    with pytest.raises(InputError, match="beyond the"):
        network(images(), (count,) * space.slots)
    with pytest.raises(InputError, match=f"use a multiple of {count}"):
        network(images(batch=count + 1), Route.of(fair_paths(space)))


def test_gates_of_different_shapes_are_refused():
    with pytest.raises(InputError, match="do not fit together"):
        Gates(np.ones((2, 3), dtype=bool), torch.ones(2, 4))
    with pytest.raises(InputError, match="do not fit together"):
        Gates(np.ones(3, dtype=bool))
