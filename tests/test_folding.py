"""Networks in the form that only looks say what they said before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from metad2a.spaces import SPACES
from metad2a.spaces._folding import folded
from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
from metad2a.training.loop import evaluating


def drawn(space, number):
    """Return a member whose batch norms have seen something."""
    network = space.build(space.pool(8, np.random.default_rng(0))[number], 5, pretrained=False)
    with torch.no_grad():
        for _ in range(3):
            network.train()(torch.randn(4, 3, 48, 48))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
    return network.eval()


@pytest.mark.parametrize("name", ["efficientnet_lite", "mobilenetv3"])
@pytest.mark.parametrize("side", [(32, 32), (33, 33), (48, 64), (35, 50)], ids=str)
def test_a_folded_network_says_the_same(name, side):
    torch.manual_seed(0)
    for number in (0, 3, 7):
        network = drawn(SPACES.get(name), number)
        images = torch.randn(3, 3, *side)
        with torch.no_grad():
            assert torch.allclose(folded(network)(images), network(images), atol=1e-4)


def test_wide_kernels_with_a_stride_are_padded_as_before():
    torch.manual_seed(0)
    for kernel in (3, 5, 7):
        block = [8, 16, kernel, 2, "relu6", 0]
        network = InvertedResidualNetwork(2, 8, [[block], [block], [block]]).eval()
        for side in (31, 32, 34):
            images = torch.randn(2, 3, side, side)
            with torch.no_grad():
                assert torch.allclose(folded(network)(images), network(images), atol=1e-5)


def test_the_network_itself_stays_as_it_was():
    network = drawn(SPACES.get("efficientnet_lite"), 0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with evaluating(network) as looking:
        assert not looking.training and not any(p.requires_grad for p in looking.parameters())
        looking(torch.randn(2, 3, 32, 32))
    assert network.training and all(p.requires_grad for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_what_cannot_be_folded_is_looked_through_as_it_is():
    space = SPACES.get("nasbench201")
    network = space.build(space.sample(np.random.default_rng(0)), 3)
    assert folded(network) is network
    with evaluating(network) as looking:
        assert looking is network and not network.training
    assert network.training
