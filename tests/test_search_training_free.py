"""Scores of untrained networks against their definitions, on digits and on small tensors."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from metad2a.spaces import SPACES
from metad2a.training.device import seeded
from search.scores.zero_cost import (
    SCORES,
    agreement,
    jacobian_score,
    log_det,
    naswot,
    scores,
    spectrum_entropy,
    synflow,
    trainability,
)

SPACE = SPACES.get("nasbench201")
STRONG = SPACE.parse(
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
    "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
)
WEAK = SPACE.parse("|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|")
DEAD = SPACE.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|none~2|")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


IMAGES = torch.randn(12, 3, 16, 16, generator=generator())


def build(architecture, weights=0):
    with seeded(weights):
        return SPACE.build(architecture, 1, channels=8, cells=1)


def score(architecture, weights=0, signs=0, images=IMAGES):
    return scores(build(architecture, weights), images, signs)


def test_agreement_is_units_minus_hamming_distance():
    codes = torch.rand(6, 40, 3, 3, generator=generator()) > 0.5
    flat = codes.flatten(1).numpy()
    hamming = (flat[:, None] != flat[None]).sum(-1)
    for order in (torch.contiguous_format, torch.channels_last):
        found = agreement(codes.contiguous(memory_format=order))
        assert found.dtype == torch.float64
        np.testing.assert_array_equal(found.numpy(), 360 - hamming)
    np.testing.assert_array_equal(agreement(codes.flatten(1)).numpy(), 360 - hamming)


def test_log_det_is_that_of_the_definition():
    kernel = agreement(torch.rand(6, 90, generator=generator()) > 0.5)
    assert log_det(kernel) == pytest.approx(np.linalg.slogdet(kernel.numpy())[1], rel=1e-12)


@pytest.mark.parametrize("size", [2, 30, 128])
def test_two_images_with_one_code_are_always_undefined(size):
    for seed in range(5):
        codes = torch.rand(size, 2000, generator=generator(seed)) > 0.5
        assert math.isfinite(log_det(agreement(codes)))
        codes[-1] = codes[0]  # a decomposition alone often misses the zero, by rounding
        assert log_det(agreement(codes)) == -math.inf
    assert log_det(torch.zeros(size, size, dtype=torch.float64)) == -math.inf


def test_more_images_than_units_are_undefined():
    assert log_det(agreement(torch.rand(30, 12, generator=generator()) > 0.5)) == -math.inf


def test_entropy_is_log_of_the_channels_for_white_features_and_0_for_one_direction():
    white = torch.randn(50, 4, 20, 20, generator=generator())
    line = white[:, :1] * torch.arange(1.0, 5).reshape(1, 4, 1, 1)
    assert spectrum_entropy(white) == pytest.approx(math.log(4), abs=1e-3)
    assert spectrum_entropy(line) == pytest.approx(0, abs=1e-3)


def test_jacobian_score_is_best_for_uncorrelated_gradients():
    apart = torch.randn(5, 400, generator=generator())
    near, same = apart + 2 * apart[:1], apart[:1].repeat(5, 1)
    assert jacobian_score(apart) > jacobian_score(near) > jacobian_score(same)
    assert jacobian_score(apart) == pytest.approx(-5, abs=0.1)  # five eigenvalues of 1
    assert jacobian_score(torch.zeros(5, 400)) == -math.inf


def test_trainability_is_0_for_an_isometry_and_falls_with_scale():
    x = torch.randn(16, 3, 8, 8, generator=generator(), requires_grad=True)
    assert trainability([x, x * 1.0], generator()) == pytest.approx(0, abs=0.05)
    assert trainability([x, x * 8.0], generator()) < trainability([x, x * 2.0], generator()) < -0.4


def test_synflow_of_a_linear_network_is_the_log_of_its_paths():
    first, second = torch.randn(3, 3, generator=generator()), torch.randn(2, 3)
    network = nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(3, 3, bias=False),
        nn.Linear(3, 2, bias=False),
    )
    network[2].weight.data, network[3].weight.data = first, second
    paths = float((second.abs() @ first.abs()).sum())
    assert synflow(network) == pytest.approx(math.log(2 * paths), rel=1e-6)


def test_scores_are_finite_repeatable_and_change_with_the_seeds():
    found = score(STRONG)
    assert tuple(sorted(found)) == tuple(sorted(SCORES))
    assert all(math.isfinite(value) for value in found.values())
    assert score(STRONG) == found
    other = score(STRONG, signs=1)
    assert {name for name in SCORES if other[name] != found[name]} == {"trainability"}
    assert all(value != found[name] for name, value in score(STRONG, weights=1).items())


@pytest.mark.parametrize("cell", [STRONG, WEAK])
def test_naswot_alone_is_naswot_of_all(cell):
    assert naswot(build(cell), IMAGES) == score(cell)["naswot"]


def test_convolutions_score_above_a_lone_pool():
    strong, weak = score(STRONG), score(WEAK)
    assert all(strong[name] > weak[name] for name in ("naswot", "synflow", "expressivity"))


def test_a_dead_cell_has_no_score():
    assert score(DEAD) == dict.fromkeys(SCORES, -math.inf)


def test_equal_images_cannot_be_told_apart():
    found = score(STRONG, images=torch.ones(4, 3, 16, 16))
    assert found["naswot"] == -math.inf
    assert math.isfinite(found["synflow"])
