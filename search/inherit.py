"""Plain networks that keep the weights of a supernet.

Batch norms of a supernet have no affine part and their convolutions may have a bias. A plain
network has it the other way round, so that the bias is folded into the mean that is subtracted:
what it computes is the same. Only the batch norm that follows a pool in the DARTS supernet has no
counterpart. Networks with pools therefore start from other statistics, and need training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from metad2a.spaces import Architecture, WeightSharing
from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.mobile import MobileSuperNet
from metad2a.training.device import DevicePlan


@torch.no_grad()
def inherit(
    space: WeightSharing,
    supernet: SuperNet,
    architecture: Architecture,
    classes: int,
    macro: Mapping[str, Any],
) -> nn.Module:
    """Return the plain network of an architecture with a supernet's weights and statistics.

    The statistics belong to whatever went through the supernet last; see :func:`recalibrate`.

    Args:
        space: of both.
        supernet: where the weights come from; it is left as it is.
        architecture: one operation index per slot.
        classes: outputs of both.
        macro: ``channels`` and ``cells`` of both.
    """
    if isinstance(supernet, MobileSuperNet):
        return supernet.plain(architecture)
    network = space.build(architecture, classes, **macro)
    bias: Tensor | None = None
    for heir, parent in _pairs(network, cast(nn.Module, supernet), _chosen(supernet, architecture)):
        if isinstance(heir, nn.BatchNorm2d):
            # A new one scales by 1 and adds 0, as a parent without affine part does.
            state = {**heir.state_dict(), **parent.state_dict()}
            if bias is not None:
                state["running_mean"] = state["running_mean"] - bias
            heir.load_state_dict(state)
            bias = None
        elif isinstance(heir, nn.Conv2d):
            state = parent.state_dict()
            bias = state.pop("bias", None)
            heir.load_state_dict(state)
        elif isinstance(heir, nn.Linear):
            heir.load_state_dict(parent.state_dict())
    return network


@torch.no_grad()
def recalibrate(
    network: nn.Module,
    batches: Iterable[Tensor],
    place: DevicePlan,
    run: Callable[[Tensor], object] | None = None,
) -> None:
    """Give the batch norms of a network the exact average statistics of batches of equal size.

    Args:
        network: left in evaluation mode.
        batches: float (n, 3, h, w) images each, on its device.
        place: the precision in which it computes.
        run: sends a batch through it; None: it takes nothing else.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    network.train()
    for images in batches:
        with place.autocast():
            (run or network)(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def _chosen(supernet: SuperNet, architecture: Architecture) -> dict[nn.Module, nn.Module | None]:
    """Return the operation that an architecture uses at each edge of each cell, None for none."""
    leads = {(slot, operation): by for slot, operation, by in supernet.clones}
    found: dict[nn.Module, nn.Module | None] = {}
    for slot, operation in enumerate(architecture):
        copy = architecture[leads[slot, operation]] if (slot, operation) in leads else 0
        for edge in supernet.edges(slot):
            copies = edge.operation(operation)
            found[edge] = copies[copy] if copies else None
    return found


def _pairs(
    heir: nn.Module, parent: nn.Module, chosen: dict[nn.Module, nn.Module | None]
) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield the innermost modules of a plain network with what they correspond to.

    A plain cell holds a module for each edge that it uses, where the supernet's holds every edge.
    """
    if isinstance(heir, nn.ModuleDict):
        used = [one for edge in parent.children() if (one := chosen[edge]) is not None]
        for child, counterpart in zip(heir.values(), used, strict=True):
            yield from _pairs(child, counterpart, chosen)
    elif not list(heir.children()):
        yield heir, parent
    else:
        for name, child in heir.named_children():
            yield from _pairs(child, parent.get_submodule(name), chosen)
