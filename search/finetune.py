"""Training the weights that a supernet leaves to one architecture, with labels.

Source: the finetuning of SSWP-NAS (2022): SGD at 0.2, after a rise over 20 of 600 epochs, along a
cosine; here 600 epochs are whatever the budget leaves.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import nn

from metad2a.spaces import Architecture
from metad2a.training.device import DevicePlan
from search.inherit import inherit, recalibrate
from search.method import Training
from search.pretrained import finish
from search.run import Run
from search.trainee import Trainee

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

_TRAINING = Training(lr=0.2, lr_final=0.0, weight_decay=3e-4, clip=5.0)
_RISE = 20 / 600
_BATCHES, _BATCH = 4, 128  # of the images that give kept weights their statistics


def exact(place: DevicePlan) -> DevicePlan:
    """Return the plan in float32: a network that is handed out is used and judged in it."""
    return replace(place, dtype=torch.float32)


def inherited(run: Run, architecture: Architecture) -> nn.Module:
    """Return a plain network with the supernet's weights, and statistics of its own."""
    network = run.place.place(
        inherit(run.space, run.supernet, architecture, run.data.classes, run.macro)
    )
    if run.space.pretrained:
        finish(run, cast("InvertedResidualNetwork", network))
        return network
    size = min(_BATCH, len(run.train_x))
    order = np.random.default_rng(run.seed).permutation(len(run.train_x))
    chosen = torch.from_numpy(order[: min(_BATCHES, len(order) // size) * size])
    recalibrate(network, run.train_x[chosen.to(run.place.device)].split(size), exact(run.place))
    return network


def rate(done: float) -> float:
    """Return the learning rate when a fraction (0..1) of the finetune is done."""
    cosine = (1 + math.cos(math.pi * done)) / 2
    return _TRAINING.lr * cosine * min(1.0, 0.1 + done / _RISE)


class Finetune(Trainee):
    """The network of an architecture; from now on all training images train weights."""

    def __init__(self, run: Run, architecture: Architecture) -> None:
        super().__init__(inherited(run, architecture), _TRAINING)
        if run.sides["weights"] is not run.sides["architecture"]:
            every = np.concatenate([run.sides["weights"], run.sides["architecture"]])
            run.sides = dict.fromkeys(run.sides, every)

    def train(self, run: Run, done: float) -> float:
        """Take one step and return its loss; ``done`` is the fraction of the finetune."""
        return self.learn(run, run.rate_scale * rate(done))
