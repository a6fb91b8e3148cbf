"""Searches as they are published: size of the supernet, epochs, mirrored images."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest
import torch

import search
from metad2a.errors import InputError
from metad2a.model import landmarks
from metad2a.spaces import SPACES
from metad2a.spaces.darts import Darts
from metad2a.training.augment import random_crop
from search.engine.method import METHODS
from search.methods.dropnas import DropNas
from search.searching import Search

SPACE = SPACES.get("darts")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 2
    images = rng.integers(0, 100, (50, 16, 16, 3), dtype=np.uint8)
    images[labels == 1, :8] += 100
    return images, labels


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """Make published supernets of two channels and three cells, and searches of two epochs."""
    monkeypatch.setattr(Darts, "published_macro", MappingProxyType({"channels": 2, "cells": 3}))
    monkeypatch.setattr(DropNas, "published_sizes", {"darts": {"cells": 4}})
    monkeypatch.setattr(DropNas, "epochs", 2)


def test_the_published_numbers():
    found = {name: METHODS.get(name).epochs for name in ("darts", "darts2", "pdarts", "spos")}
    assert found == {"darts": 50, "darts2": 50, "pdarts": 75, "spos": 100}
    assert METHODS.get("fairnas")().published_images(10, 8) == 8 * 100 * 10
    assert METHODS.get("darts2")().published_images(10, 8) == 5 * 50 * 10 // 2


@pytest.mark.parametrize("loss", [0.0, 1.0])
def test_a_published_search_has_its_own_size_and_epochs(data, monkeypatch, loss):
    described = landmarks.described

    def told(*args):
        marks, report = described(*args)
        return replace(marks, flip_loss=loss, chirality=0.0), report

    monkeypatch.setattr(landmarks, "described", told)
    found = Search(data, space="darts", method="dropnas", device="cpu", published=True).conduct()
    assert found.complete
    assert found.run.macro == {"channels": 2, "cells": 4}
    assert len(found.run.data.train_y) == 40
    assert found.run.images == found.run.budget.images == 2 * 40
    assert found.run.data.flip == (loss == 0)


def test_mirrored_images_are_half_of_them():
    images = torch.rand(64, 3, 16, 16) + 1
    plain = random_crop(images, np.random.default_rng(0))
    seen = random_crop(images, np.random.default_rng(0), flip=True)
    kept = (seen == plain).flatten(1).all(1)
    turned = (seen == plain.flip(3)).flatten(1).all(1)
    assert (kept ^ turned).all()
    assert 16 < int(turned.sum()) < 48


def test_what_is_not_published_is_refused(data):
    with pytest.raises(InputError, match="images=5 is a budget"):
        search.search(data, space="darts", images=5, published=True)
    with pytest.raises(InputError, match="not of pretrained networks as in 'efficientnet_lite'"):
        search.search(data, space="efficientnet_lite", published=True)
