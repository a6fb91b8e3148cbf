"""One network of which all mobile networks are slices: equal to what is built, before and after."""

import numpy as np
import pytest
import torch

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.spaces._chain import ABSENT
from metad2a.spaces.supernets.gates import Gates, Route

SIDE, CLASSES = 32, 3


@pytest.fixture(scope="module", params=["efficientnet_lite", "mobilenetv3"])
def chain(request):
    return SPACES.get(request.param).chain(SIDE)


@pytest.fixture(scope="module")
def begun(chain):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return chain.supernet(CLASSES).eval()


def images(count=4, seed=0):
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def bounds(chain):
    """Return the largest and the smallest member."""
    macs = chain.cost_table(CLASSES, SIDE)[1][..., 1].astype(float)
    return [chain.discretise(macs), chain.discretise(-macs)]


def members(chain, count=5):
    rng = np.random.default_rng(0)
    return [*bounds(chain), *(chain.sample(rng) for _ in range(count))]


def trained(network, chain, steps=2):
    """Take steps of SGD along random paths, with statistics that follow the batches."""
    optimiser = torch.optim.SGD(network.parameters(), 0.01)
    labels = torch.arange(4) % CLASSES
    network.train()
    for step, path in enumerate(members(chain)[:steps]):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images(seed=step), path), labels)
        loss.backward()
        optimiser.step()
    return network.eval()


@torch.no_grad()
def test_every_slice_begins_as_what_is_built(chain, begun):
    x = images()
    for one in members(chain):
        built = chain.build(one, CLASSES, pretrained=True).eval()
        expected = built.features(x)
        found = begun.features(x, one)
        scale = float(expected.abs().max())
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * scale)
        plain = begun.plain(one).eval()
        built.classifier.load_state_dict(plain.classifier.state_dict())
        assert torch.allclose(begun(x, one), built(x), rtol=1e-5, atol=1e-5)


def test_a_slice_keeps_its_trained_weights_as_a_network_of_its_own(chain):
    network = trained(chain.supernet(CLASSES), chain)
    x = images(seed=9)
    for one in members(chain):
        plain = network.plain(one).eval()
        assert type(plain)(**plain.config).load_state_dict(plain.state_dict())
        with torch.no_grad():
            found = network(x, one)
            assert torch.allclose(found, plain(x), rtol=1e-5, atol=1e-5 * float(found.abs().max()))
        built = chain.build(one, CLASSES, pretrained=True)
        assert sum(p.numel() for p in plain.parameters()) == chain.cost(one, CLASSES).params
        moved = [
            not torch.equal(a, b)
            for a, b in zip(plain.stages.parameters(), built.stages.parameters(), strict=True)
        ]
        assert any(moved)


def test_narrow_slices_lie_in_wide_ones(chain):
    """A step of the smallest network moves the largest, and leaves what it does not have."""
    network = chain.supernet(CLASSES).train()
    largest, smallest = bounds(chain)
    network(images(), smallest).sum().backward()
    block = network.edges(0)[0]
    width = block.widths[chain.choices[smallest[0] - 1][1]]
    gradient = block.project.weight.grad
    assert gradient[:, :width].abs().sum() > 0
    assert gradient[:, width:].abs().sum() == 0
    last = network.edges(chain.slots - 1)[0]
    absent = smallest[-1] == ABSENT
    assert (last.project.weight.grad is None) == absent
    assert largest[-1] != ABSENT


def test_a_mixture_of_one_operation_a_slot_is_its_path(chain, begun):
    x = images()
    for one in members(chain, 2):
        path = Gates.path(one, len(chain.operations))
        weights = torch.from_numpy(path.active).float().requires_grad_(True)
        with torch.no_grad():
            expected = begun(x, one)
        found = begun(x, Gates(path.active, weights))
        assert torch.allclose(found, expected, atol=1e-5)
        found.square().sum().backward()
        there = torch.from_numpy(path.active)
        assert weights.grad[there].abs().sum() > 0
        assert weights.grad[~there].abs().sum() == 0


def test_a_mixture_of_ends_weighs_their_logits():
    chain = SPACES.get("efficientnet_lite").chain(SIDE)
    network = chain.supernet(CLASSES).eval()
    longer = list(bounds(chain)[0])
    for slots in chain.stages[3:]:
        for slot in slots:
            longer[slot] = ABSENT
    shorter = list(longer)
    start = chain.stages[2][0]
    for slot in chain.stages[2]:
        shorter[slot] = ABSENT
    x = images()
    active = np.zeros(chain.allowed().shape, dtype=bool)
    for path in (longer, shorter):
        active[np.arange(chain.slots), path] = True
    for slot in chain.stages[2][1:]:
        active[slot, ABSENT] = False
    weights = torch.from_numpy(active).float()
    weights[start] = 0.0
    weights[start, ABSENT], weights[start, longer[start]] = 0.3, 0.7
    with torch.no_grad():
        found = network(x, Gates(active, weights))
        expected = 0.3 * network(x, tuple(shorter)) + 0.7 * network(x, tuple(longer))
        assert torch.allclose(found, expected, atol=1e-5)
        with pytest.raises(InputError, match="2 depths has no features"):
            network.features(x, Gates(active, weights))


def test_an_idle_operation_teaches_its_gate_though_it_is_not_used(chain, begun):
    one, other = bounds(chain)
    count = len(chain.operations)
    active, idle = (Gates.path(a, count).active for a in (other, one))
    idle = idle & ~active
    weights = torch.from_numpy(active).float().requires_grad_(True)
    begun.requires_grad_(False)
    try:
        begun(images(), Gates(active | idle, weights, frozen=idle)).square().sum().backward()
    finally:
        begun.requires_grad_(True)
    assert weights.grad.isfinite().all()
    slot = next(s for s in range(chain.slots) if idle[s].any())
    assert weights.grad[slot][torch.from_numpy(idle[slot])].abs().sum() > 0


def test_all_first_stages_of_a_network_have_their_features_on_the_way():
    chain = SPACES.get("efficientnet_lite").chain(SIDE)
    network = chain.supernet(CLASSES).eval()
    largest = bounds(chain)[0]
    x = images()
    with torch.no_grad():
        found = list(network.ends(x, network.every_end(largest)))
        assert len(found) == len(chain.space.depths)
        for stages, (features, share, classifier) in zip(chain.space.depths, found, strict=True):
            shorter = list(largest)
            for slots in chain.stages[stages - 1 :]:
                for slot in slots:
                    shorter[slot] = ABSENT
            assert share is None
            assert torch.allclose(features, network.features(x, tuple(shorter)), atol=1e-5)
            assert torch.equal(classifier(features), network(x, tuple(shorter)))


def test_small_maps_train_in_pieces_to_the_same_gradient():
    from metad2a.training.cpu_layers import quicken

    chain = SPACES.get("efficientnet_lite").chain(SIDE)
    network = chain.supernet(CLASSES).eval()
    largest, found = bounds(chain)[0], []
    for quick in (False, True):
        if quick:
            quicken(network)
        network.zero_grad()
        network(images(), largest).square().sum().backward()
        found.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    assert any(
        block.depthwise.convolve for slot in range(chain.slots) for block in network.edges(slot)
    )
    for plain, pieces in zip(*found, strict=True):
        assert torch.allclose(plain, pieces, rtol=1e-3, atol=1e-4 * float(plain.abs().max()))


def test_what_is_no_choice_of_a_chain_is_refused(chain, begun):
    with pytest.raises(InputError, match="cannot be cloned"):
        begun.clone(1, 1, 0)
    with pytest.raises(InputError, match="one by one"):
        begun(
            images(2 * len(chain.operations)),
            Route(torch.arange(len(chain.operations)).repeat(chain.slots, 1)),
        )
    with pytest.raises(InputError, match="ends after 1 stages"):
        begun(images(), (ABSENT,) * chain.slots)
