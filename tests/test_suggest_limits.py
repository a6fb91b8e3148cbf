"""``suggest`` under limits, and with arguments that are none."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import metad2a
from metad2a.datasets import load_dataset
from metad2a.errors import BudgetError, InputError
from metad2a.model import description
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")
cells = functools.partial(metad2a.suggest, space=SPACE.name)


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    """Thirty striped images of three classes."""
    rng, labels = np.random.default_rng(0), np.arange(30) % 3
    images = rng.integers(0, 90, (30, 20, 20, 3), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:: label + 2] += 130
    return images, labels


@pytest.fixture(scope="module", autouse=True)
def looked(data):
    """Look at the images once: limits do not depend on it."""
    with load_dataset(*data) as dataset:
        found = description.describe(dataset, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(description, "describe", lambda *_: found)
        yield


@pytest.mark.parametrize(
    "limits",
    [
        {"max_params": 300_000},
        {"max_macs": 40_000_000},
        {"max_params": 150_000, "max_macs": 20_000_000},
    ],
    ids=str,
)
def test_limits_are_obeyed_by_the_networks_as_built(data, limits):
    found = cells(data, k=5, **limits)
    assert len(found) == 5
    for one in found:
        network = one.build()
        params = sum(p.numel() for p in network.parameters() if p.requires_grad)
        assert params == one.params <= limits.get("max_params", params)
        assert counted_macs(network) == one.macs <= limits.get("max_macs", one.macs)


def counted_macs(network: torch.nn.Module) -> int:
    """Run an image through and count the multiply-adds of what it meets.

    Every operation of a cell counts, reached or not, so operations are met one by one.
    """
    total = 0

    def count(module: torch.nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        total += (
            module.weight[0].numel() * out[0].numel()
            if isinstance(module, torch.nn.Conv2d)
            else module.weight.numel()
        )

    for module in network.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        network.eval()(torch.zeros(1, 3, 32, 32))
    return total


@pytest.mark.parametrize("name", ["max_params", "max_macs"])
def test_an_impossible_limit_names_the_smallest_that_works(data, name):
    with pytest.raises(BudgetError, match=rf"Use {name}=(\d+) or more") as caught:
        cells(data, **{name: 1})
    least = int(str(caught.value).rsplit("=", 1)[1].split()[0])
    with pytest.raises(BudgetError):
        cells(data, **{name: least - 1})
    found = cells(data, **{name: least})
    assert len(found) > 0
    for one in found:
        assert {"max_params": one.params, "max_macs": one.macs}[name] == least


def test_fewer_come_back_when_fewer_obey(data):
    least = SPACE.smallest(3)
    found = cells(data, k=10_000, max_params=least.params, max_macs=least.macs)
    assert 0 < len(found) < 10_000
    assert {(one.params, one.macs) for one in found} == {(least.params, least.macs)}


@pytest.mark.parametrize(
    "arguments",
    [
        {"k": 0},
        {"k": -1},
        {"k": 2.5},
        {"k": True},
        {"k": None},
        {"k": "five"},
        {"k": [5]},
        {"k": float("nan")},
        {"k": float("inf")},
        {"max_params": 0},
        {"max_params": -5},
        {"max_params": "2M"},
        {"max_macs": 1.5},
        {"max_macs": float("inf")},
        {"max_macs": 10**400},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "x"},
        {"seed": None},
        {"seed": 2**63},
        {"space": "nasbench"},
    ],
    ids=lambda arguments: str(arguments)[:30],
)
def test_bad_arguments_are_named(data, arguments):
    with pytest.raises(InputError) as caught:
        cells(data, **arguments)
    ((name, value),) = arguments.items()
    assert repr(value) in str(caught.value)
    assert name in str(caught.value) or "search space" in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"seed": 2**63 - 1},
        {"k": 3.0},
        {"k": np.int32(3)},
        {"max_params": 2**63 - 1},
        {"max_macs": 1e9},
    ],
    ids=str,
)
def test_odd_but_meaningful_arguments(data, arguments):
    assert len(cells(data, **{"k": 3, **arguments})) == 3
