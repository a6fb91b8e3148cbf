"""The stand-alone trainer, and what every labeller must keep; on digits, a few steps each."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from searching import images_of
from sklearn.datasets import load_digits

from metad2a.errors import MetaD2AError
from metad2a.protocol import Standalone
from metad2a.spaces import SPACES
from search.data import TaskData
from search.labellers import supernet
from search.labellers.base import LABELLERS, Measurement
from search.labellers.standalone import learning_rate, train

SPACE = SPACES.get("nasbench201")
CELL = SPACE.parse(
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+"
    "|skip_connect~0|nor_conv_1x1~1|nor_conv_3x3~2|"
)
DEAD = SPACE.parse("|nor_conv_3x3~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|none~2|")
TINY = Standalone(channels=4, steps=6, batch=16)

CELLS = [name for name in LABELLERS.names() if name not in ("finetune", "probe", "slices")]
each_labeller = pytest.mark.parametrize("labeller", [*map(LABELLERS.get, CELLS)], ids=CELLS)


def digits(train_size=300, test_size=200):
    images, labels = load_digits(return_X_y=True)
    chosen = np.random.default_rng(0).permutation(len(labels))[: train_size + test_size]
    gray = torch.from_numpy((images[chosen] * 15.9).astype(np.uint8).reshape(-1, 1, 8, 8))
    x, y = gray.repeat(1, 3, 1, 1), torch.from_numpy(labels[chosen].astype(np.int64))
    return TaskData(x[:train_size], y[:train_size], x[train_size:], y[train_size:], 10)


DIGITS = digits()
FEW = digits(40, 30)


@pytest.fixture
def short(monkeypatch):
    """Let the labellers train for a few steps; their protocols stay what they are."""
    monkeypatch.setattr("search.labellers.standalone.RECIPE", TINY)
    monkeypatch.setattr(supernet, "STEPS", 2)


def weights(result):
    return torch.cat([p.detach().flatten() for p in result.network.parameters()])


def test_it_learns_digits_in_a_few_steps():
    result = train(DIGITS, SPACE, CELL, 0, Standalone(channels=8, steps=40))
    assert result.accuracy > 0.5  # chance is 0.1
    assert len(result.curve) == 4
    assert result.curve[-1] == result.accuracy > result.curve[0]
    assert result.seconds > 0


def test_the_seed_decides_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    first, again = (train(FEW, SPACE, CELL, 3, TINY) for _ in range(2))
    drawn = torch.rand(1)
    assert first.accuracy == again.accuracy
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(train(FEW, SPACE, CELL, 4, TINY)))
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), drawn)


def test_a_loss_that_is_no_number_is_an_error_with_a_remedy():
    with pytest.raises(MetaD2AError, match=r"became nan at step .* use a lower peak_lr than 1e"):
        train(FEW, SPACE, CELL, 0, dataclasses.replace(TINY, peak_lr=1e30))


def test_learning_rate_warms_up_and_falls_along_a_cosine():
    recipe = Standalone(steps=100, peak_lr=0.2)
    rates = [learning_rate(step, recipe) for step in range(100)]
    assert rates[0] == pytest.approx(0.02)
    assert rates[9] == rates[10] == max(rates) == 0.2
    assert rates[55] == pytest.approx(0.1)
    assert 0 < rates[-1] < 1e-3
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_a_training_set_smaller_than_a_batch_trains():
    data = digits(12, 10)
    result = train(data, SPACE, CELL, 0, dataclasses.replace(TINY, batch=500, steps=1))
    assert 0 <= result.accuracy <= 1
    assert len(result.curve) == 1


@each_labeller
def test_labellers_yield_what_they_declare_in_order(labeller, short):
    cells = [CELL, (1,) * 6, (3,) * 6]
    found = list(labeller.measure(images_of(FEW), SPACE, cells, seed=1))
    kinds = {protocol.name: protocol.kind for protocol in labeller.protocols}
    assert len(kinds) == len(labeller.protocols)
    assert {one.protocol for one in found} == set(kinds)
    assert list(dict.fromkeys(one.architecture for one in found)) == cells
    keys = [(one.architecture, one.protocol) for one in found]
    assert len(set(keys)) == len(keys)
    for one in found:
        assert isinstance(one, Measurement)
        assert type(one.value) is float
        assert math.isfinite(one.value)
        assert (one.seed, one.seconds > 0) == (1, True)
        if kinds[one.protocol] == "accuracy":
            assert all(0 <= value <= 1 for value in (one.value, *one.curve))


@each_labeller
def test_labellers_repeat_themselves(labeller, short):
    def values():
        return [
            (one.protocol, one.value)
            for one in labeller.measure(images_of(FEW), SPACE, [CELL], seed=2)
        ]

    assert values() == values()


@each_labeller
def test_labellers_bear_a_dead_cell_and_no_cell(labeller, short):
    assert list(labeller.measure(images_of(FEW), SPACE, [], seed=0)) == []
    found = list(labeller.measure(images_of(FEW), SPACE, [DEAD], seed=0))
    kinds = {protocol.name: protocol.kind for protocol in labeller.protocols}
    assert all(kinds[one.protocol] == "accuracy" for one in found)


def test_protocol_names_belong_to_one_labeller():
    names = [protocol.name for labeller in LABELLERS for protocol in labeller.protocols]
    assert len(set(names)) == len(names)
    assert all(protocol.description for labeller in LABELLERS for protocol in labeller.protocols)
