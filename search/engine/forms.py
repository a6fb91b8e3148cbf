"""How a device executes a supernet's step: by Python branches, or in shapes that never change.

On a CPU an operation that is not chosen is best not computed. On a GPU a step is hundreds of tiny
kernels, so what counts is that captured graphs serve every step: fair paths run *routed* (all
m paths in one pass, each operation once on its own chunk of the batch), mixtures run *masked* (all
operations, the dropped ones times zero). The batch is the method's from the first step on, as another
size would be captured anew. Both give the branches' gradients; weights that no choice uses are then
left without one, so that neither decay nor momentum touches them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.spaces import Architecture
from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.gates import Gates, Route
from metad2a.spaces.supernets.mixed import MixedOperation
from metad2a.training.device import DevicePlan

_GRAPHS = 64  # of cells that differ in shape or in what has a gradient, beyond dynamo's usual 8


def static_on(device: torch.device) -> bool:
    """Whether steps on a device are to have shapes that stay the same."""
    return device.type == "cuda"


class Form:
    """Executes a supernet on a device.

    Args:
        network: the supernet.
        place: its device, and the precision of dense convolutions.
        static: whether shapes stay the same at every step; where None, on CUDA.
        compiled: whether the cells of static passes go through ``torch.compile``; where None, as
            ``static``. Cells of one shape share a graph, so that little is compiled however deep
            the network is.
    """

    def __init__(
        self,
        network: nn.Module,
        place: DevicePlan,
        static: bool | None = None,
        compiled: bool | None = None,
    ) -> None:
        self.network, self.place = network, place
        self.static = static_on(place.device) if static is None else static
        self._compiled: dict[nn.Module, Callable[..., Tensor]] = {}
        if self.static if compiled is None else compiled:
            self._compiled = {
                cell: torch.compile(cell.forward, mode="reduce-overhead", dynamic=False)
                for cell in _cells(network)
            }

    def _run(self, x: Tensor, choice: Gates | Route) -> Tensor:
        """Pass through the network by compiled cells, where there are any."""
        if not self._compiled:
            return cast(Tensor, self.network(x, choice))
        from torch._dynamo import config  # which takes a second to import

        with config.patch(recompile_limit=_GRAPHS), ExitStack() as undo:
            for cell, forward in self._compiled.items():
                # Only now: other passes have other operations each time.
                cell.forward = forward
                undo.callback(delattr, cell, "forward")
            return cast(Tensor, self.network(x, choice))

    def forward(self, x: Tensor, choice: Gates | Architecture) -> Tensor:
        """Return float32 logits (batch, classes) of float (batch, 3, h, w) images."""
        with self.place.autocast():
            if self.static and not self._clones and _is_mixture(choice):
                logits = self._run(x, Gates.mixture(cast(Tensor, cast(Gates, choice).weights)))
            else:
                logits = self.network(x, choice)
        return logits.float()

    def groups(self, x: Tensor, choices: Sequence[Gates]) -> Iterator[list[Tensor]]:
        """Yield logits of the choices in order; those of one list share a graph."""
        paths = _fair(choices) if self.static and not self._clones else None
        if paths is None:
            for choice in choices:
                yield [self.forward(x, choice)]
        else:
            with self.place.autocast():
                logits = self._run(x.repeat(len(paths), 1, 1, 1), Route.of(paths, x.device))
            yield list(logits.float().chunk(len(paths)))

    def release_untouched(self, choices: Sequence[Gates]) -> None:
        """Take the zero gradients of operations that no choice uses away."""
        if not self.static:
            return  # branches never gave them any
        used = np.any([choice.active for choice in choices], axis=0)
        supernet = cast(SuperNet, self.network)
        for slot, operation in np.argwhere(~used):
            for edge in supernet.edges(int(slot)):
                for copied in edge.operation(int(operation)):
                    for parameter in copied.parameters():
                        parameter.grad = None

    @property
    def _clones(self) -> bool:
        return bool(cast(SuperNet, self.network).clones)


def _cells(network: nn.Module) -> list[nn.Module]:
    """Return the modules that hold a list of mixed operations: they repeat, the rest is little."""
    return [
        module
        for module in network.modules()
        for part in module.children()
        if isinstance(part, nn.ModuleList) and any(isinstance(e, MixedOperation) for e in part)
    ]


def _is_mixture(choice: Gates | Architecture) -> bool:
    """Whether a choice is a plain weighted mixture, which may run masked."""
    return isinstance(choice, Gates) and choice.weights is not None and choice.frozen is None


def _fair(choices: Sequence[Gates]) -> list[Architecture] | None:
    """Return the paths of choices that use each operation of each slot once, else None."""
    if any(c.weights is not None or c.frozen is not None for c in choices):
        return None
    active = np.array([c.active for c in choices])  # (paths, slots, operations)
    single = (active.sum(2) == 1).all() and (active.sum(0) == 1).all()
    if not single or len(choices) < 2:
        return None
    return [tuple(int(op) for op in row) for row in active.argmax(2)]
