"""Scores of untrained networks against their definitions, on digits and on small tensors."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from metad2a.spaces import SPACES
from search.device import seeded
from search.training_free import (
    SCORES,
    jacobian_score,
    kernel_log_det,
    scores,
    spectrum_entropy,
    synflow,
    trainability,
)

SPACE = SPACES.get("nasbench201")
STRONG = SPACE.parse("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
                     "|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|")
WEAK = SPACE.parse("|none~0|+|none~0|none~1|+|avg_pool_3x3~0|none~1|none~2|")
DEAD = SPACE.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|none~2|")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def score(architecture, weights=0, signs=0, images=None):
    if images is None:
        images = torch.randn(12, 3, 16, 16, generator=generator())
    with seeded(weights):
        network = SPACE.build(architecture, 1, channels=8, cells=1)
    return scores(network, images, signs)


def test_naswot_kernel_is_units_minus_hamming_distance():
    codes = [torch.rand(6, units, generator=generator(units)) > 0.5 for units in (9, 40)]
    together = torch.cat(codes, dim=1).numpy()
    hamming = (together[:, None] != together[None]).sum(-1)
    kernel = together.shape[1] - hamming
    assert kernel_log_det(codes) == pytest.approx(np.linalg.slogdet(kernel.astype(float))[1])
    assert kernel_log_det([codes[0].reshape(6, 3, 3)]) == kernel_log_det([codes[0]])


def test_naswot_of_two_images_with_one_code_is_undefined():
    code = torch.tensor([[True, False, True], [True, False, True]])
    assert kernel_log_det([code]) == kernel_log_det([]) == -math.inf


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
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3, bias=False),
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


def test_convolutions_score_above_a_lone_pool():
    strong, weak = score(STRONG), score(WEAK)
    assert all(strong[name] > weak[name] for name in ("naswot", "synflow", "expressivity"))


def test_a_dead_cell_has_no_score():
    assert score(DEAD) == dict.fromkeys(SCORES, -math.inf)


def test_equal_images_cannot_be_told_apart():
    found = score(STRONG, images=torch.ones(4, 3, 16, 16))
    assert found["naswot"] == -math.inf
    assert math.isfinite(found["synflow"])
