"""Layers that train in less time give the same, and have the same gradients."""

import copy

import pytest
import torch
from torch import nn

from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
from metad2a.training.cpu_layers import quicken


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


@pytest.mark.parametrize("moving", [False, True], ids=["norms stand still", "norms move"])
@pytest.mark.parametrize("side", [9, 16, 34])
@pytest.mark.parametrize("same", [False, True])
def test_networks_train_alike(same, side, moving):
    torch.manual_seed(0)
    stages = [[[8, 24, 3, 2, "relu6", 0], [8, 32, 5, 1, "relu6", 0]], [[16, 24, 5, 2, "relu6", 8]]]
    plain = InvertedResidualNetwork(3, 8, stages, 24, same=same).train()
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
            module.train(moving)
    plain = plain.double()
    quick = copy.deepcopy(plain).float()
    quicken(quick)
    x = torch.randn(4, 3, side, side)
    for network, dtype in ((plain, torch.float64), (quick, torch.float32)):
        network(x.to(dtype)).square().sum().backward()
    most = max(float(one.grad.abs().max()) for one in plain.parameters())
    for (name, expected), value in zip(plain.named_parameters(), quick.parameters(), strict=True):
        near = {"rtol": 1e-3, "atol": 1e-5 * most}
        torch.testing.assert_close(value.grad.double(), expected.grad, msg=name, **near)
    for expected, value in zip(plain.buffers(), quick.buffers(), strict=True):
        torch.testing.assert_close(value.double(), expected.double(), rtol=1e-4, atol=1e-4)


def test_depthwise_convolutions_stay_in_float32_under_autocast():
    torch.manual_seed(0)
    network = InvertedResidualNetwork(3, 8, [[[8, 24, 3, 2, "relu6", 0]]], 24).train()
    quicken(network)
    seen = []
    for module in network.modules():
        if isinstance(module, nn.ReLU6):
            module.register_forward_hook(lambda _, x, y: seen.append((x[0].shape[1], y.dtype)))
    images = torch.randn(4, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(images)
    logits.float().square().sum().backward()
    # stem, expansion, depthwise, head
    half, whole = torch.bfloat16, torch.float32
    assert seen == [(8, half), (24, half), (24, whole), (24, half)]
    assert all(
        p.grad.dtype == whole and bool(p.grad.isfinite().all()) for p in network.parameters()
    )
    alone = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False))
    quicken(alone)
    with torch.autocast("cpu", half):
        assert alone(torch.randn(1, 8, 4, 4)).dtype == whole
