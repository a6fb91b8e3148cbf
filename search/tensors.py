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


def momentum(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what an optimiser keeps of each parameter, as ``parameter.what``."""
    return {
        f"{name}.{what}": value
        for name, parameter in network.named_parameters()
        for what, value in optimiser.state.get(parameter, {}).items()
        if value is not None
    }


def load_momentum(
    network: nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]
) -> None:
    """Take over what :func:`momentum` returned, in the memory order of the parameters.

    Raises:
        KeyError: there is no such parameter.
    """
    parameters = dict(network.named_parameters())
    for name, value in tensors.items():
        owner, _, what = name.rpartition(".")
        parameter = parameters[owner]
        # A number of steps lies where fused optimisers want it.
        kept = torch.empty_like(parameter) if value.dim() else torch.empty_like(value)
        optimiser.state[parameter][what] = kept.copy_(value).detach().to(parameter.device)
