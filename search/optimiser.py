"""The optimiser of a search's weights: SGD, as papers have it, or what pretrained weights need."""

from __future__ import annotations

import torch
from torch import nn

from metad2a.training.loop import move, unit_groups
from search.method import Training


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
