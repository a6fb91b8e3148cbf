"""The NASWOT evaluator: what counts, what it depends on, and where it has no score."""

import dataclasses

import numpy as np
import pytest
import torch
from searching import task
from torch import nn

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.training.device import plan, seeded
from search.scores.base import Context
from search.scores.zero_cost import IMAGES, Naswot, activation_kernel, naswot, reached_relus

SPACE, DARTS = SPACES.get("nasbench201"), SPACES.get("darts")
FULL, POOLS, DEAD = (3, 2, 3, 4, 3, 3), (4, 4, 4, 4, 4, 4), (3, 3, 3, 0, 0, 0)
TINY = {"channels": 4, "cells": 1}


def images(count: int = 6, side: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def judge(seed: int = 0, data=None, space=SPACE, macro=None) -> Naswot:
    data = task(count=20) if data is None else data
    return Naswot(Context(space, data, seed=seed), TINY if macro is None else macro)


def units(network: nn.Module) -> int:
    """Return how many units the kernel counts: every image agrees with itself on all."""
    with activation_kernel(network, images()) as kernel:
        network(images())
    assert (kernel.diagonal() == kernel[0, 0]).all()
    return int(kernel[0, 0])


def built(architecture) -> nn.Module:
    with seeded(0):
        return SPACE.build(architecture, 1, **TINY)


class Shared(nn.Module):
    """One ReLU for everything: called for the output, for nothing, and on what is no input."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.layers = nn.ModuleList(nn.Linear(5, 5) for _ in range(3))
        self.unused = nn.Parameter(torch.ones(1, 7))

    def forward(self, x):
        x = x.flatten(1)[:, :5]
        self.relu(self.layers[0](x))
        x = self.relu(self.layers[1](x))
        return self.relu(self.layers[2](x)).sum(1) + self.relu(self.unused).sum()


def test_calls_count_each_on_its_own_though_modules_are_shared():
    network = Shared()
    assert reached_relus(network, images(2)) == {1, 2}
    assert units(network) == 5 + 5


def test_relus_behind_none_do_not_count():
    stem, reductions = 0, 4 * 64 + 8 * 16 + 8 * 16 + 16 * 4  # ReLUs of the two residual blocks
    head = 16 * 4
    convolution = 4 * 64 + 8 * 16 + 16 * 4  # one ReLU a stage
    fixed = stem + reductions + head
    assert units(built((0, 0, 0, 1, 0, 0))) == fixed
    assert units(built((0, 0, 0, 3, 0, 0))) == fixed + convolution
    assert units(built((3, 0, 0, 3, 0, 0))) == fixed + convolution  # its node feeds nothing
    assert units(built((0, 0, 0, 3, 3, 0))) == fixed + convolution  # its node is fed by nothing
    assert units(built((3, 0, 0, 3, 3, 0))) == fixed + 3 * convolution


def test_the_kernel_is_units_minus_hamming_distance_of_what_enters_the_relus():
    codes, network = [], Shared()
    network.relu.register_forward_hook(lambda _, inputs, output: codes.append(inputs[0] > 0))
    with activation_kernel(network, images()) as kernel:
        codes.clear()  # of the pass that finds what is reached
        network(images())
    seen = torch.cat(codes[1:3], dim=1).numpy()
    hamming = (seen[:, None] != seen[None]).sum(-1)
    np.testing.assert_array_equal(kernel.numpy(), seen.shape[1] - hamming)


def test_a_score_leaves_weights_alone_and_hooks_nothing():
    network = built(FULL)
    before = [p.clone() for p in network.parameters()]
    first = naswot(network, images())
    assert naswot(network, images()) == first
    for parameter, old in zip(network.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None
    assert not any(m._forward_hooks for m in network.modules())


def test_training_mode_and_not_the_initial_statistics_are_used():
    network = built(FULL).eval()
    shifted = images() + 100
    assert naswot(network, shifted) == naswot(network, shifted)
    assert np.isfinite(naswot(network, shifted))
    assert network.training


def test_a_network_that_is_cut_has_no_score():
    assert naswot(built(DEAD), images()) == -np.inf
    assert naswot(nn.Sequential(nn.Flatten(), nn.Linear(192, 1)), images()) == -np.inf  # no ReLU


def test_equal_seeds_give_equal_scores_and_other_seeds_other_ones():
    cells = [FULL, POOLS, (3,) * 6]
    first = judge().score(cells)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(judge().score(cells), first)
    np.testing.assert_array_equal(judge().score(cells[::-1])[::-1], first)
    assert (judge(seed=1).score(cells) != first).all()


def test_it_is_the_score_of_the_network_as_the_space_builds_it():
    found = judge()
    network = plan().place(built(FULL))
    assert found.score([FULL])[0] == naswot(network, found.images)
    assert found.score([(3,) * 6])[0] > found.score([POOLS])[0]


def test_dead_cells_are_minus_infinity_among_others():
    scores = judge().score([DEAD, FULL, (0,) * 6])
    assert np.isfinite(scores).tolist() == [False, True, False]
    assert (scores[[0, 2]] == -np.inf).all()


def test_a_hundred_and_twenty_eight_images_or_all():
    assert len(judge().images) == 20
    assert len(judge(data=task(count=IMAGES + 30)).images) == IMAGES


def test_labels_do_not_matter():
    data = task(count=20)
    other = dataclasses.replace(data, train_y=1 - data.train_y.clamp(max=1))
    np.testing.assert_array_equal(judge(data=other).score([FULL]), judge(data=data).score([FULL]))


def test_copies_of_an_image_count_once():
    data = task(count=20)
    twice = dataclasses.replace(
        data, train_x=data.train_x.repeat(2, 1, 1, 1), train_y=data.train_y.repeat(2)
    )
    found = judge(data=twice)
    assert len(found.images) == 20
    assert np.isfinite(found.score([FULL])[0])
    same = dataclasses.replace(data, train_x=data.train_x[:1].expand(20, -1, -1, -1))
    with pytest.raises(InputError, match="20 training images drawn are all the same"):
        judge(data=same)


def test_the_usual_size_is_that_of_a_search_on_this_device():
    found = Naswot(Context(SPACE, task()))
    assert found.macro == SPACE.search_macro


def test_darts_networks_are_scored_too():
    rng = np.random.default_rng(0)
    cells = [DARTS.sample(rng) for _ in range(2)]
    macro = {"channels": 4, "cells": 3}
    scores = judge(space=DARTS, macro=macro).score([*cells, (0,) * DARTS.slots])
    assert np.isfinite(scores).tolist() == [True, True, False]
    assert scores[0] != scores[1]
    np.testing.assert_array_equal(judge(space=DARTS, macro=macro).score(cells), scores[:2])
