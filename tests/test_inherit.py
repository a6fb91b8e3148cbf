"""Plain networks with the weights of a supernet."""

import numpy as np
import pytest
import torch
from torch import nn

from metad2a.spaces import SPACES, WeightSharing
from metad2a.training.device import DevicePlan, seeded
from metad2a.training.loop import average_statistics
from search.engine.inheritance import inherit

CLASSES, MACRO = 3, {"channels": 4, "cells": 2}
EXACT = DevicePlan(torch.device("cpu"), torch.float32)
CELL = (3, 2, 3, 1, 4, 2)  # of NAS-Bench-201, with every operation but none


def calibrated(space, architecture, batches):
    """Return a supernet in float64 whose statistics are those of one path."""
    with seeded(0):
        network = space.supernet(CLASSES, **MACRO).double()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
                if module.affine:  # as training would leave it
                    module.weight.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
                    module.bias.uniform_(-1, 1, generator=torch.Generator().manual_seed(2))
        network.train()
        for images in batches:
            network(images, architecture)
    return network.eval()


def batches(count=2, side=8):
    images = torch.randn(16 * count, 3, side, side, generator=torch.Generator().manual_seed(3))
    return images.double().split(16)


def pool_free(space, rng):
    """Draw an architecture without pools, after which a supernet of 'darts' has a batch norm."""
    allowed = np.array([["pool" not in name for name in space.operations]] * space.slots)
    while True:
        drawn = space.sample(rng, allowed)
        if space.is_connected(drawn):
            return drawn


@pytest.mark.parametrize("name", ["nasbench201", "darts"])
def test_the_plain_network_computes_what_the_path_computes(name):
    space = SPACES.get(name)
    architecture = CELL if name == "nasbench201" else pool_free(space, np.random.default_rng(0))
    shared = calibrated(space, architecture, batches())
    plain = inherit(space, shared, architecture, CLASSES, MACRO).double().eval()
    recalibrated = inherit(space, shared, architecture, CLASSES, MACRO).double()
    average_statistics(recalibrated, batches(), EXACT)
    x = batches(1)[0]
    with torch.no_grad():
        expected = shared(x, architecture)
        # The weights went through float32, in which plain networks are made.
        torch.testing.assert_close(plain(x), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(recalibrated(x), expected, rtol=1e-5, atol=1e-5)
    assert not torch.equal(expected[0], expected[1])


@pytest.mark.parametrize(
    "name", [space.name for space in SPACES if isinstance(space, WeightSharing)]
)
def test_any_architecture_inherits_and_nothing_of_the_supernet_changes(name):
    space, rng = SPACES.get(name), np.random.default_rng(1)
    with seeded(0):
        shared = space.supernet(CLASSES, **MACRO)
    before = {key: value.clone() for key, value in shared.state_dict().items()}
    known = {value.data_ptr() for value in shared.state_dict().values()}
    values = {value.flatten()[0].item() for value in before.values() if value.dim() == 4}
    for _ in range(5):
        network = inherit(space, shared, space.sample(rng), CLASSES, MACRO)
        state = network.state_dict()
        assert not known & {value.data_ptr() for value in state.values()}
        kernels = [value for value in state.values() if value.dim() == 4]
        assert all(value.flatten()[0].item() in values for value in kernels)
        assert torch.equal(network.classifier.weight, shared.classifier.weight)
        with torch.no_grad():
            network(torch.zeros(2, 3, 8, 8)).sum()
    assert all(torch.equal(before[key], value) for key, value in shared.state_dict().items())


def test_kept_weights_are_bit_equal():
    space = SPACES.get("nasbench201")
    with seeded(0):
        shared = space.supernet(CLASSES, **MACRO)
    network = inherit(space, shared, CELL, CLASSES, MACRO)
    for stage in range(3):
        for cell in range(2):
            edges = network.stages[stage][cell].edges
            for slot, (key, op) in enumerate(zip(edges, CELL, strict=True)):
                if op in (2, 3):
                    parent = shared.stages[stage][cell].edges[slot].operation(op)[0]
                    assert torch.equal(edges[key][1].weight, parent[1].weight)
    assert torch.equal(network.stem[0].weight, shared.stem[0].weight)
    assert torch.equal(
        network.reductions[1].shortcut[1].weight, shared.reductions[1].shortcut[1].weight
    )


def test_of_several_copies_the_one_of_the_leading_slot_is_kept():
    space = SPACES.get("nasbench201")
    with seeded(0):
        shared = space.supernet(CLASSES, **MACRO)
    shared.clone(2, 3, 0)  # by the operation of slot 0, which is number 3 in CELL
    copies = shared.edges(2)[0].operation(3)
    with torch.no_grad():
        for number, copied in enumerate(copies):
            copied[1].weight.fill_(float(number))
    network = inherit(space, shared, CELL, CLASSES, MACRO)
    assert (network.stages[0][0].edges["1->2"][1].weight == 3).all()


def test_recalibrated_statistics_are_those_of_all_images_at_once():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=0.2)).train()
    images = [x.float() for x in batches(3)]
    network(images[0] * 7)  # what was there before does not matter
    average_statistics(network, images, EXACT)
    with torch.no_grad():
        values = network[0](torch.cat(images))
    torch.testing.assert_close(network[1].running_mean, values.mean((0, 2, 3)))
    torch.testing.assert_close(
        network[1].running_var,
        torch.stack([network[0](x).var((0, 2, 3)) for x in images]).mean(0).detach(),
    )
    assert network[1].momentum == 0.2
    assert not network.training
