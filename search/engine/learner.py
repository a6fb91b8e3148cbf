"""How weights learn: the optimiser of a search, and a network that learns beside the supernet.

The optimiser is SGD, as papers have it, or what pretrained weights need.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from metad2a.training.loop import move, unit_groups
from search.engine.checkpoint import load_momentum, momentum, under, with_prefix
from search.engine.method import Training

if TYPE_CHECKING:
    from search.engine.run import Run


def optimiser_of(network: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the optimiser of a course of training; rates are given at each step."""
    if training.recipe is None:
        return torch.optim.SGD(
            network.parameters(),
            training.lr,
            training.momentum,
            weight_decay=training.weight_decay,
            nesterov=training.nesterov,
        )
    groups = unit_groups(list(network.parameters()), training.recipe)
    return torch.optim.AdamW(groups, training.lr, training.recipe.momenta, fused=True)


def descend(
    network: nn.Module, optimiser: torch.optim.Optimizer, training: Training, rate: float
) -> None:
    """Step along the gradients that are there, at a learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("share", 1.0)
    if training.recipe is None:
        optimiser.step()
    else:
        move(optimiser, [p for p in network.parameters() if p.grad is not None], training.recipe)


class Learner:
    """A network that learns from a run's labelled images.

    Args:
        network: on the run's device.
        training: momentum, weight decay and clipping; rates are given at each step.
    """

    def __init__(self, network: nn.Module, training: Training) -> None:
        self.network, self.training = network, training
        self.optimiser = optimiser_of(network, training)

    def step(self, rate: float) -> None:
        """Step along the gradients that are there, at a learning rate."""
        descend(self.network, self.optimiser, self.training, rate)

    def learn(self, run: Run, rate: float) -> float:
        """Take one step on the next batch at a learning rate and return its loss."""
        batch = run.batch()
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        with run.place.autocast():
            logits = self.network(batch.x)
        loss = run.loss(logits.float(), batch, "weights")
        loss.backward()
        run.images += len(batch.y)
        value = float(loss.detach())
        if run.finite(value):
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip or math.inf)
            self.step(rate)
        return value

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, statistics and momentum, by name."""
        return {
            **with_prefix("network", self.network.state_dict()),
            **with_prefix("momentum", momentum(self.network, self.optimiser)),
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        self.network.load_state_dict(under("network", tensors))
        load_momentum(self.network, self.optimiser, under("momentum", tensors))
