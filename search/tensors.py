"""Tensors by name, as checkpoints keep them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors under the names ``prefix.name``."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named ``prefix.name``, by name."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def momentum(network: nn.Module, optimiser: torch.optim.SGD) -> dict[str, Tensor]:
    """Return the momentum of each parameter that has any, by the parameter's name."""
    found = {
        name: optimiser.state.get(parameter, {}).get("momentum_buffer")
        for name, parameter in network.named_parameters()
    }
    return {name: value for name, value in found.items() if value is not None}


def load_momentum(
    network: nn.Module, optimiser: torch.optim.SGD, tensors: Mapping[str, Tensor]
) -> None:
    """Take over what :func:`momentum` returned, in the memory order of the parameters.

    Raises:
        KeyError: there is no such parameter.
    """
    parameters = dict(network.named_parameters())
    for name, value in tensors.items():
        buffer = torch.empty_like(parameters[name]).copy_(value).detach()
        optimiser.state[parameters[name]]["momentum_buffer"] = buffer
