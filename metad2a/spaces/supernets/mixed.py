"""Mixed operations: all operations of one slot of one cell, and the networks made of them."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.spaces.base import Architecture
from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.gates import Choice, Gates, Route


def _place(x: Tensor, places: Tensor) -> Tensor:
    """Copy chunk k of float (chunks * n, c, h, w) to chunk ``places[k]``, in channels_last order.

    The gradient is a gather, without the additions that the gradient of a gather needs.
    """
    batch, channels, height, width = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(len(places), -1)
    placed = torch.empty_like(rows).index_copy_(0, places, rows)
    return placed.view(batch, height, width, channels).permute(0, 3, 1, 2)


def apart(module: Callable[[Tensor], Tensor], x: Tensor, choice: Choice | None) -> Tensor:
    """Run what all paths share, with batch statistics of each path of its own."""
    if isinstance(choice, Route):
        return torch.cat([module(part) for part in x.chunk(choice.paths)])
    return module(x)


class MixedOperation(nn.Module):
    """All operations of one slot in one cell.

    An operation may have several copies of its weights ("operator cloning"); which of them runs is
    chosen by the lead of another slot, so that fewer architectures share one copy.

    Args:
        operations: a module an operation, None for ``none``, in the order of the space.
        channels: of the slot's output.
    """

    def __init__(self, operations: Sequence[nn.Module | None], channels: int) -> None:
        super().__init__()
        self.copies = nn.ModuleList(
            nn.ModuleList([] if operation is None else [operation]) for operation in operations
        )
        self.channels = channels
        self._by_slot: dict[int, int] = {}

    def operation(self, index: int) -> list[nn.Module]:
        """Return the copies of an operation: none of ``none``, one where it was not cloned."""
        return list(cast(nn.ModuleList, self.copies[index]))

    def forward(self, x: Tensor, choice: Choice, slot: int) -> Tensor | None:
        """Return the slot's output for float (batch, c, h, w), or None where it has none.

        Raises:
            InputError: a route through operations with several copies of their weights.
        """
        if isinstance(choice, Route):
            return self._routed(x, choice.order[slot])
        value: Tensor | None = None
        for index, frozen in choice.plan[slot]:
            copies = self.operation(index)
            if not copies:
                continue
            chosen = copies[choice.lead(self._by_slot[index]) if len(copies) > 1 else 0]
            with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
                term: Tensor = chosen(x)
            if choice.weights is not None:
                term = choice.weights[slot, index] * term
            value = term if value is None else value + term
        return value

    def _routed(self, x: Tensor, order: Tensor) -> Tensor:
        if self._by_slot:
            raise InputError(
                "Paths cannot be routed together through cloned operations: which "
                "copy runs depends on the path. Send them one by one."
            )
        outputs: list[Tensor | None] = []
        for index, part in enumerate(_place(x, order.argsort()).chunk(len(order))):
            copies = self.operation(index)
            outputs.append(copies[0](part) if copies else None)
        like = next(output for output in outputs if output is not None)
        filled = [torch.zeros_like(like) if output is None else output for output in outputs]
        return _place(torch.cat(filled), order)

    def weights(self, index: int) -> list[Tensor]:
        """Return the convolution weights of an operation, of all copies; of a pool, its constant.

        A pool of kernel k counts as a constant (channels, k, k) of 1/k^2 (Hu et al., ABS, ECCV
        2020).
        """
        found: list[Tensor] = []
        for one in self.operation(index):
            for module in one.modules():
                if isinstance(module, nn.Conv2d):
                    found.append(module.weight)
                elif isinstance(module, nn.AvgPool2d | nn.MaxPool2d):
                    kernel = cast(int, module.kernel_size)
                    found.append(torch.full((self.channels, kernel, kernel), kernel**-2.0))
        return found

    def params(self, index: int) -> int:
        """Count the parameters of one copy of an operation."""
        return sum(p.numel() for one in self.operation(index)[:1] for p in one.parameters())

    def clone(self, index: int, by_slot: int) -> None:
        """Give an operation a copy of its weights for each operation that may lead ``by_slot``."""
        copies = cast(nn.ModuleList, self.copies[index])
        copies.extend(copy.deepcopy(copies[0]) for _ in range(len(self.copies) - 1))
        self._by_slot[index] = by_slot


class MixedNetwork(nn.Module, SuperNet):
    """What the supernets of all spaces have in common; a space adds cells and fixed parts."""

    slots: int
    operations: int
    classifier: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self.clones = []

    @abstractmethod
    def pooled(self, x: Tensor, choice: Choice) -> Tensor:
        """Return float (batch, F) features for float images (batch, 3, h, w)."""

    def features(self, x: Tensor, choice: Architecture | Choice) -> Tensor:
        """Return float (batch, F): the pooled features that the classifier sees."""
        return self.pooled(x, self._checked(x, choice))

    def forward(self, x: Tensor, choice: Architecture | Choice) -> Tensor:
        """Map float images (batch, 3, h, w) to logits (batch, classes); see ``SuperNet``."""
        logits: Tensor = self.classifier(self.features(x, choice))
        return logits

    def _checked(self, x: Tensor, choice: Architecture | Choice) -> Choice:
        if isinstance(choice, tuple):
            choice = Gates.path(choice, self.operations)
        shape = tuple((choice.order if isinstance(choice, Route) else choice.active).shape)
        if shape != (self.slots, self.operations):
            raise InputError(
                f"A choice of {shape[0]} slots and {shape[1]} operations does not fit "
                f"a supernet of {self.slots} slots and {self.operations} operations."
            )
        if isinstance(choice, Route) and len(x) % choice.paths:
            raise InputError(
                f"A batch of {len(x)} images cannot be split among {choice.paths} "
                f"paths; use a multiple of {choice.paths}."
            )
        return choice

    def slot_weights(self, slot: int, operation: int) -> list[Tensor]:
        """Return the weights of an operation (see :meth:`MixedOperation.weights`), all cells'."""
        return [weight for edge in self.edges(slot) for weight in edge.weights(operation)]

    def operation_params(self, slot: int, operation: int) -> int:
        """Count the parameters of one copy of an operation, summed over the cells."""
        return sum(edge.params(operation) for edge in self.edges(slot))

    def clone(self, slot: int, operation: int, by_slot: int) -> int:
        """Split an operation's weights into copies; see ``SuperNet``."""
        size = self.operation_params(slot, operation)
        refusals = {
            "it has no parameters": size == 0,
            "it has been cloned already": (slot, operation) in [done[:2] for done in self.clones],
            "a slot cannot choose among its own copies": slot == by_slot,
        }
        for why, holds in refusals.items():
            if holds:
                raise InputError(
                    f"Operation {operation} of slot {slot} cannot be cloned by slot "
                    f"{by_slot}: {why}. Clone one with weights, once, by another "
                    "slot."
                )
        for edge in self.edges(slot):
            edge.clone(operation, by_slot)
        self.clones.append((slot, operation, by_slot))
        return (self.operations - 1) * size
