"""Fisher task distance: the Fisher information by hand, the distance's properties, and digits."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.spaces import SPACES
from metad2a.training.device import plan, seeded
from search.data import TaskData
from search.wrappers import fisher
from search.wrappers.fisher import (
    approximation_network,
    diagonal_fisher,
    fisher_distance,
    task_distance,
)

SPACE = SPACES.get("nasbench201")


def network(classes=3, seed=0, channels=4):
    with seeded(seed):
        return nn.Sequential(
            nn.Conv2d(3, channels, 3),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )


def batch(count=10, classes=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, 6, 6, generator=generator),
        torch.randint(0, classes, (count,), generator=generator),
    )


def by_hand(net, x, y):
    """One backward pass an image."""
    net.eval()
    total = {name: 0.0 for name, _ in net.named_parameters()}
    for image, label in zip(x, y, strict=True):
        net.zero_grad()
        F.cross_entropy(net(image[None]), label[None]).backward()
        for name, parameter in net.named_parameters():
            total[name] = total[name] + parameter.grad.double() ** 2
    mass = sum(float(value.sum()) for value in total.values())
    return {name: value / mass for name, value in total.items()}


def space_network():
    with seeded(0):
        return plan().place(SPACE.build(fisher.CELL, 3, channels=4, cells=1))


@pytest.mark.parametrize("net", [network(), space_network()], ids=["plain", "channels_last"])
def test_it_equals_a_loop_over_single_images_whatever_the_batch(net):
    x, y = batch()
    x = x.contiguous(memory_format=torch.channels_last)
    expected = by_hand(net, x, y)
    for size in (4, 64):
        found = diagonal_fisher(net, x, y, size)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-9)
        assert sum(float(value.sum()) for value in found.values()) == pytest.approx(1)


def test_the_distance_is_that_of_the_square_roots():
    x, y = batch()
    first, second = network(seed=1), network(seed=2)
    roots = [
        torch.cat([v.flatten().sqrt() for v in by_hand(net, x, y).values()])
        for net in (first, second)
    ]
    expected = float((roots[0] - roots[1]).norm()) / 2**0.5
    assert fisher_distance(first, second, x, y) == pytest.approx(expected, rel=1e-4)
    assert 0 < expected < 1


def test_a_network_is_at_no_distance_from_itself_and_networks_are_not_changed():
    x, y = batch()
    net = network().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert fisher_distance(net, net, x, y) == pytest.approx(0, abs=1e-6)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())


class OneWeight(nn.Module):
    """Logits of which a single weight has a gradient."""

    def __init__(self, place):
        super().__init__()
        self.weight, self.place = nn.Parameter(torch.ones(2)), place

    def forward(self, x):
        first = self.weight[self.place] * x[:, 0, 0, :1]
        return torch.cat([first, 0 * first], dim=1)


def test_networks_that_use_different_weights_are_at_distance_1():
    x, y = batch(classes=2)
    assert fisher_distance(OneWeight(0), OneWeight(1), x, y) == 1
    assert fisher_distance(OneWeight(0), OneWeight(0), x, y) == 0


@pytest.mark.parametrize(("source", "target"), [(2, 5), (5, 2)])
def test_the_smaller_classifier_is_padded_with_zeros(source, target):
    x, y = batch(classes=target)
    past, own = network(source, seed=1), network(target, seed=2)
    known = network(max(source, target))  # the source that has an output for each label
    known.load_state_dict(
        past.state_dict()
        | {
            name: F.pad(past.state_dict()[name], padding)
            for name, padding in (
                ("5.weight", (0, 0, 0, max(0, target - source))),
                ("5.bias", (0, max(0, target - source))),
            )
        }
    )
    first, second = by_hand(known, x, y), by_hand(own, x, y)
    squared = 0.0
    for name, value in first.items():
        other = torch.zeros_like(value)
        other[: len(second[name])] = second[name]
        squared += float((value.sqrt() - other.sqrt()).square().sum())
    distance = fisher_distance(past, own, x, y)
    assert distance == pytest.approx((squared / 2) ** 0.5, rel=1e-4)
    assert 0 < distance <= 1


def test_what_cannot_be_compared_is_refused():
    x, y = batch()
    with pytest.raises(InputError, match="more than the number of classes"):
        fisher_distance(network(), network(channels=5), x, y)
    with pytest.raises(InputError, match="labels from 0 to 1"):
        diagonal_fisher(network(classes=2), x, y)
    with pytest.raises(InputError, match="needs images"):
        diagonal_fisher(network(), x[:0], y[:0])
    sure = network()
    sure[5].weight.data.zero_()
    sure[5].bias.data = torch.tensor([1000.0, 0, 0])
    with pytest.raises(InputError, match="no Fisher information"):
        diagonal_fisher(sure, x, torch.zeros_like(y))


# -- tasks ---------------------------------------------------------------------------------------


def digits(classes, part, count=100):
    """Return a task of some digits; the even part and the odd part share no image."""
    images, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(np.isin(labels, classes)))
    chosen = chosen[part::2][: count + 20]
    gray = torch.from_numpy((images[chosen] * 15.9).astype(np.uint8).reshape(-1, 1, 8, 8))
    x, y = gray.repeat(1, 3, 1, 1), torch.from_numpy(np.searchsorted(classes, labels[chosen]))
    return TaskData(x[:count], y[:count], x[count:], y[count:], len(classes))


@pytest.fixture(params=[5])
def steps(request, monkeypatch):
    """Train for a few steps."""
    recipe = dataclasses.replace(fisher.RECIPE, channels=4, steps=request.param)
    monkeypatch.setattr(fisher, "RECIPE", recipe)


@pytest.mark.parametrize("steps", [25], indirect=True)
def test_other_digits_are_farther_than_other_images_of_the_same_digits(steps):
    target, again, other = digits([0, 1, 2], 0), digits([0, 1, 2], 1), digits([5, 6, 7], 0)
    own, same, apart = (approximation_network(task, 0) for task in (target, again, other))
    x, y = target.normalised("train")
    near, far = fisher_distance(same, own, x, y), fisher_distance(apart, own, x, y)
    assert 0 < near < 0.8 * far < far <= 1
    back = fisher_distance(own, apart, *other.normalised("train"))
    assert abs(back - far) > 1e-3
    assert 0 < back <= 1


def test_a_task_is_at_no_distance_from_itself(steps):
    data = digits([0, 1], 0, 40)
    assert task_distance(data, data, [0]) == pytest.approx(0, abs=1e-6)


def test_tasks_of_different_class_counts_are_compared_by_the_mean_over_seeds(steps):
    few, many = digits([0, 1], 0, 40), digits([0, 1, 2, 3], 1, 40)
    single = [task_distance(few, many, [seed]) for seed in (0, 1)]
    assert task_distance(few, many, [0, 1]) == pytest.approx(np.mean(single), rel=1e-6)
    assert single[0] != single[1]
    assert 0 < task_distance(many, few, [0]) <= 1
    with pytest.raises(InputError, match="one or more"):
        task_distance(few, many, [])


def test_the_target_is_trained_once_for_all_sources(steps, monkeypatch):
    sources = digits([0, 1], 0, 40), digits([0, 1, 2, 3], 1, 40)
    target, trained, train = digits([4, 5], 0, 40), [], fisher.approximation_network

    def counted(data, *rest):
        trained.append(data)
        return train(data, *rest)

    monkeypatch.setattr(fisher, "approximation_network", counted)
    own = {}
    together = [task_distance(source, target, [0, 1], "cpu", own) for source in sources]
    assert sum(data is target for data in trained) == 2
    assert together == [task_distance(source, target, [0, 1]) for source in sources]


def test_a_training_for_a_distance_ends_where_it_is_told(steps):
    data, told = digits([0, 1], 0, 40), []

    def stop(step):
        told.append(step)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        task_distance(data, data, [0], on_step=stop)
    assert told == [1]


def test_the_seed_decides_the_network_and_tasks_start_alike(steps, monkeypatch):
    data, other = digits([0, 1, 2], 0, 40), digits([3, 4, 5, 6], 0, 40)
    states = [approximation_network(data, seed).state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["stem.0.weight"], states[2]["stem.0.weight"])
    still = dataclasses.replace(fisher.RECIPE, steps=1, peak_lr=0.0)
    monkeypatch.setattr(fisher, "RECIPE", still)
    first, second = (approximation_network(task, 0).state_dict() for task in (data, other))
    assert torch.equal(first["stem.0.weight"], second["stem.0.weight"])
    assert [len(state["classifier.weight"]) for state in (first, second)] == [3, 4]
