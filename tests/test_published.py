"""Recipes of the literature: as the plain loop does it, stopped and gone on with, saved whole."""

from __future__ import annotations

import dataclasses
import json
from types import MappingProxyType

import numpy as np
import pytest
import torch
from test_training import batches, digits, looked  # noqa: F401  (fixtures)
from torch.nn import functional as F

from metad2a.cli import main
from metad2a.errors import InputError
from metad2a.model import landmarks
from metad2a.protocol import DARTS_600, RECIPES
from metad2a.spaces import SPACES
from metad2a.spaces.darts import Darts
from metad2a.training.device import plan
from metad2a.training.loop import Normalisation
from metad2a.training.published import PublishedTraining, cropped
from metad2a.training.train import train

SPACE = SPACES.get("darts")
CELL = "[('sep_conv_3x3', 0), ('skip_connect', 1), " + ", ".join(
    f"('max_pool_3x3', {source}), ('skip_connect', 1)" for source in (0, 0, 2)
)
NETWORK = SPACE.format(
    SPACE.canonical(
        SPACE.parse(
            f"Genotype(normal={CELL}], normal_concat=range(2, 6), reduce={CELL}], "
            "reduce_concat=range(2, 6))"
        )
    )
)
TOY = dataclasses.replace(DARTS_600.recipe, epochs=2.0, batch=60)


@pytest.fixture(scope="module", autouse=True)
def toy(looked):  # noqa: F811
    """Make networks of two channels and three cells, and trainings of two epochs."""
    sizes = MappingProxyType({"channels": 2, "cells": 3})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Darts, "counted_macro", sizes)
        patch.setitem(RECIPES, "darts600", dataclasses.replace(DARTS_600, recipe=TOY))
        patch.setattr(landmarks, "described", lambda *_, **__: looked)
        yield


HOW = {"network": NETWORK, "recipe": "darts600", "device": "cpu"}


@pytest.fixture(scope="module")
def whole(digits, toy):  # noqa: F811
    """A training that nothing happened to, and what it told."""
    told = []
    return train(digits, **HOW, progress=told.append), told


def started(batches, steps, **more):  # noqa: F811
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SPACE.build(SPACE.parse(NETWORK), 10, auxiliary=True)
    return PublishedTraining(network, batches, TOY, steps, plan("cpu"), Normalisation(), **more)


def test_the_recipe_is_the_published_one():
    recipe = DARTS_600.recipe
    assert (recipe.epochs, recipe.batch, recipe.rate, recipe.weight_decay) == (600, 96, 0.025, 3e-4)
    assert (recipe.clip, recipe.cutout, recipe.drop_path, recipe.auxiliary) == (5, 16, 0.2, 0.4)
    assert (recipe.label_smoothing, recipe.warm_up, recipe.optimiser) == (0, 0, "sgd")


def test_it_does_what_the_plain_loop_does(batches):  # noqa: F811
    made, steps = started(batches, 5, seed=3, flip=True), 5
    # The plain loop knows no bfloat16, which some processors train in.
    made.place = dataclasses.replace(made.place, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = SPACE.build(SPACE.parse(NETWORK), 10, auxiliary=True)
    optimiser = torch.optim.SGD(network.parameters(), 0.025, momentum=0.9, weight_decay=3e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    network.train()
    every, losses = len(batches) // 60, []
    with torch.random.fork_rng(devices=[]):
        for step in range(steps):
            epoch, place = divmod(step, every)
            order = np.random.default_rng([3, 2, epoch]).permutation(len(batches))
            chosen = torch.from_numpy(order[place * 60 : (place + 1) * 60])
            images, labels = batches.take(chosen), batches.labels[chosen]
            x = cropped(
                images.float() / 127.5 - 1, np.random.default_rng([3, 3, step]), 4, 16, True
            )
            network.drop_path = 0.2 * epoch / 2
            torch.manual_seed(3 * 1_000_003 + step)
            main_, second = network(x)
            loss = F.cross_entropy(main_, labels) + 0.4 * F.cross_entropy(second, labels)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
    assert [made.step() for _ in range(steps)] == pytest.approx(losses, rel=1e-4)
    for name, tensor in network.state_dict().items():
        assert torch.allclose(made.averaged.state_dict()[name], tensor, atol=1e-4), name
    assert len(set(np.round(losses, 6))) == steps


def test_images_are_cropped_mirrored_and_blanked():
    images = torch.rand(64, 3, 32, 32) + 1
    seen = cropped(images, np.random.default_rng(0), 4, 16, True)
    assert seen.shape == images.shape
    assert torch.equal(seen, cropped(images, np.random.default_rng(0), 4, 16, True))
    blank = (seen == 0).all(1).float().mean((1, 2))
    assert blank.min() > 8 * 8 / 32**2
    assert blank.max() < 0.55
    plain = cropped(images, np.random.default_rng(0), 0, 0, False)
    assert torch.equal(plain, images)
    mirrored = cropped(images, np.random.default_rng(0), 0, 0, True)
    kept = (mirrored == images).flatten(1).all(1)
    turned = (mirrored == images.flip(3)).flatten(1).all(1)
    assert (kept ^ turned).all()
    assert 16 < int(turned.sum()) < 48


def test_a_stopped_training_goes_on_bit_by_bit(digits, whole, tmp_path):  # noqa: F811
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    state = tmp_path / "state"
    part = train(digits, **HOW, should_stop=stop, checkpoint=state)
    assert part.partial
    assert part.epochs < whole[0].epochs == 2
    rest = train(digits, resume=True, checkpoint=state, device="cpu")
    assert not rest.partial
    assert not state.exists()
    for name, tensor in whole[0].module.state_dict().items():
        assert torch.equal(rest.module.state_dict()[name], tensor), name


def test_what_is_trained_is_the_network_without_the_second_classifier(whole):
    found, told = whole
    assert found.network.space == "darts"
    assert found.network.architecture == NETWORK
    plain = SPACE.build(SPACE.parse(NETWORK), 10)
    assert list(found.module.state_dict()) == list(plain.state_dict())
    assert found.images + found.evaluation.images == 300
    assert found.epochs == 2
    assert found.predicted is None
    paces = [one.images_per_second for one in told if one.images_per_second is not None]
    assert paces
    assert min(paces) > 0
    assert "darts600" in found.reason


def test_the_command_line_takes_a_recipe(tmp_path, capsys):
    asked = ["train", "sklearn:digits", "--out", str(tmp_path / "out"), "--no-onnx", "--json"]
    with pytest.MonkeyPatch.context() as patch:
        short = dataclasses.replace(TOY, epochs=0.2)
        patch.setitem(RECIPES, "darts600", dataclasses.replace(DARTS_600, recipe=short))
        assert main([*asked, "--network", NETWORK, "--recipe", "darts600"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["network"]["architecture"] == NETWORK
    assert told["plan"]["reason"] == "trained from random weights by darts600"
    assert "model.py" in told["files"]


def test_recipes_that_do_not_fit_are_refused(digits):  # noqa: F811
    with pytest.raises(InputError, match=r"Unknown recipe 'darts60'. Did you mean 'darts600'"):
        train(digits, network=NETWORK, recipe="darts60")
    with pytest.raises(InputError, match="is for networks of darts, not of 'efficientnet_lite'"):
        train(digits, network="r96-s5-d2233-e6666666666-k55555", recipe="darts600")
    with pytest.raises(InputError, match="trains a network that is given"):
        train(digits, space="darts", recipe="darts600")
