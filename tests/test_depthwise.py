"""Depthwise convolutions of small maps train alike, whichever way their gradient is found."""

import copy

import pytest
import torch
from torch import nn

from metad2a.training.depthwise import quicken


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 2, 4, 6, 8])
def test_gradients_are_those_of_the_plain_convolution(kernel, stride, side):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(24, 24, kernel, stride, kernel // 2, groups=24, bias=False))
    plain = plain.double()  # oneDNN has no doubles, so that the reference is another code
    quick = copy.deepcopy(plain).float()
    quicken(quick)
    x = torch.randn(3, 24, side, side + 1)
    found = []
    for network, dtype in ((plain, torch.float64), (quick, torch.float32)):
        images = x.to(dtype).requires_grad_()
        y = network(images)
        y.square().sum().backward()
        found.append([y, images.grad, network[0].weight.grad])
    for expected, value in zip(*found, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-4, atol=1e-4)


def test_what_is_no_depthwise_convolution_is_left_alone():
    network = nn.Sequential(
        nn.Conv2d(8, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=0, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, padding=1, groups=4, bias=False),
    )
    quicken(network)
    assert all("forward" not in vars(module) for module in network)
