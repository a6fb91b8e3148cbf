"""A network beside the supernet that trains by SGD, and what a checkpoint must hold of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search.method import Training


class Trainee:
    """A network and its SGD.

    Args:
        network: on its device.
        training: momentum and weight decay; rates are given at each step.
    """

    def __init__(self, network: nn.Module, training: Training) -> None:
        self.network = network
        self.optimiser = torch.optim.SGD(
            network.parameters(), training.lr, training.momentum,
            weight_decay=training.weight_decay, nesterov=training.nesterov,
        )

    def step(self, rate: float) -> None:
        """Step along the gradients that are there, at a learning rate."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, statistics and momentum, by name."""
        momentum = {
            name: self.optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in self.network.named_parameters()
            if parameter in self.optimiser.state
        }
        return {**with_prefix("network", self.network.state_dict()),
                **with_prefix("momentum", momentum)}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        self.network.load_state_dict(without_prefix("network", tensors))
        parameters = dict(self.network.named_parameters())
        for name, value in without_prefix("momentum", tensors).items():
            # In the memory order of the parameter.
            buffer = torch.empty_like(parameters[name]).copy_(value).detach()
            self.optimiser.state[parameters[name]]["momentum_buffer"] = buffer


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names ``prefix.name``."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def without_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names have the prefix, by their names without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items()
            if name.startswith(start)}
