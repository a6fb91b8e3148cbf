"""What a forward pass of a supernet takes along: gates for a path or a mixture, routes for many.

A path is a mixture with one active operation a slot. A route sends several fair paths (Chu et al.,
FairNAS, ICCV 2021) through the network at once, each with its own chunk of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from metad2a.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from metad2a.spaces.base import Architecture


@dataclass(frozen=True, eq=False)
class Gates:
    """How a forward pass of a supernet uses the operations of every slot.

    Raises:
        InputError: the three parts are not of one shape (slots, operations).
    """

    active: np.ndarray
    """Bool (slots, operations): which operations are computed at all. The others cost nothing and
    their gradients stay None, so that neither weight decay nor momentum moves them."""
    weights: Tensor | None = None
    """Float (slots, operations): what each output is multiplied by; None means by one. A weight
    of an active operation gets a gradient where the tensor requires one."""
    frozen: np.ndarray | None = None
    """Bool (slots, operations): active operations through which no gradient passes, neither to
    their own weights nor to their input, so that only their gate learns from them (Cai et al.,
    ProxylessNAS, ICLR 2019, section 3.2)."""
    plan: tuple[tuple[tuple[int, bool], ...], ...] = field(init=False, repr=False)
    """The (operation, frozen) pairs to compute in each slot, which follow from the above."""

    def __post_init__(self) -> None:
        shapes = [
            tuple(part.shape)
            for part in (self.active, self.weights, self.frozen)
            if part is not None
        ]
        if len(shapes[0]) != 2 or len(set(shapes)) > 1:
            raise InputError(
                f"Gates of the shapes {shapes} do not fit together; give each the "
                "shape (slots, operations)."
            )
        # Plain tuples, so that torch.compile sees constants.
        frozen = np.zeros_like(self.active) if self.frozen is None else self.frozen
        plan = tuple(
            tuple((int(op), bool(still[op])) for op in np.flatnonzero(row))
            for row, still in zip(self.active, frozen, strict=True)
        )
        object.__setattr__(self, "plan", plan)

    @staticmethod
    def path(architecture: Architecture, operations: int) -> Gates:
        """Return the gates of one path: the architecture's operation in each slot.

        Args:
            architecture: one operation index per slot.
            operations: how many operations a slot of the space has.

        Raises:
            InputError: an index is not below ``operations``.
        """
        if not all(0 <= op < operations for op in architecture):
            raise InputError(
                f"The architecture {architecture} names an operation beyond the "
                f"{operations} of its space; use 0 to {operations - 1}."
            )
        return Gates(np.eye(operations, dtype=bool)[list(architecture)])

    @staticmethod
    def mixture(weights: Tensor, active: np.ndarray | None = None) -> Gates:
        """Return the gates of a weighted sum of the active operations, of all where None."""
        if active is None:
            active = np.ones(tuple(weights.shape), dtype=bool)
        return Gates(active, weights)

    @cached_property
    def _leads(self) -> list[int]:
        strength = self.active.astype(float)
        if self.weights is not None:
            weights = self.weights.detach().double().cpu().numpy()
            strength = np.where(self.active, weights, -np.inf)
        found: list[int] = strength.argmax(1).tolist()
        return found

    def lead(self, slot: int) -> int:
        """Return the operation that stands for a slot: the active one of the greatest weight."""
        return self._leads[slot]


@dataclass(frozen=True, eq=False)
class Route:
    """Several fair paths in one pass: each operation of a slot serves another chunk of the batch.

    All shapes are static and ``order`` is data, so that one captured or compiled graph serves
    every step. With as many paths as operations, each operation works on one path in each slot.
    """

    order: Tensor
    """Int64 (slots, operations): the chunk of the batch that goes to each operation of a slot.
    Every row is a permutation. The batch is viewed as (operations, images of one path)."""

    @property
    def paths(self) -> int:
        """How many paths, and so chunks of the batch, there are."""
        return self.order.shape[1]

    @staticmethod
    def of(paths: Sequence[Architecture], device: torch.device | str = "cpu") -> Route:
        """Return the route of m paths; path k takes chunk k of the batch.

        Args:
            paths: as many as a slot has operations.
            device: where the supernet is.

        Raises:
            InputError: some slot's operations are not each on exactly one path.
        """
        import torch

        chosen = np.asarray(paths, dtype=np.int64)  # (paths, slots)
        if chosen.ndim != 2 or (np.sort(chosen, 0) != np.arange(len(chosen))[:, None]).any():
            raise InputError(
                f"{len(paths)} paths cannot be routed together: in every slot each of "
                f"the operations 0 to {len(paths) - 1} must be on exactly one path. "
                "Send them one by one."
            )
        return Route(torch.from_numpy(chosen.argsort(0).T.copy()).to(device))


Choice = Gates | Route
"""What a supernet's cells are told."""
