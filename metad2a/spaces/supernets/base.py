"""The supernet interface: what search needs of a weight-sharing network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from metad2a.spaces.base import Architecture
    from metad2a.spaces.supernets.gates import Gates, Route
    from metad2a.spaces.supernets.mixed import MixedOperation


class SuperNet(ABC):
    """What search needs of a weight-sharing network, beside being a ``torch.nn.Module``.

    A ``choice`` says what a pass goes through: an architecture (only its operations run, and none
    behind a cut), :class:`~metad2a.spaces.supernets.gates.Gates`, or a
    :class:`~metad2a.spaces.supernets.gates.Route` of several paths.
    """

    clones: list[tuple[int, int, int]]
    """The (slot, operation, by_slot) of every :meth:`clone` so far, in order."""

    @abstractmethod
    def forward(self, x: torch.Tensor, choice: Architecture | Gates | Route) -> torch.Tensor:
        """Map float images (batch, 3, h, w) to logits (batch, classes).

        Raises:
            InputError: the choice is of another space, or the batch cannot be split by it.
        """

    @abstractmethod
    def features(self, x: torch.Tensor, choice: Architecture | Gates | Route) -> torch.Tensor:
        """Return float (batch, F): the pooled features that the classifier sees."""

    @abstractmethod
    def edges(self, slot: int) -> list[MixedOperation]:
        """Return the mixed operations of a slot, one a cell."""

    @abstractmethod
    def slot_weights(self, slot: int, operation: int) -> list[torch.Tensor]:
        """Return the convolution weights of one operation of one slot, of every cell and copy.

        A pool gives its constant (Hu et al., ABS, ECCV 2020), a parameter-free skip nothing.
        """

    @abstractmethod
    def fixed_weights(self) -> list[torch.Tensor]:
        """Return the convolution and classifier weights that every path shares."""

    @abstractmethod
    def operation_params(self, slot: int, operation: int) -> int:
        """Count the parameters of one copy of an operation, summed over the cells."""

    @abstractmethod
    def clone(self, slot: int, operation: int, by_slot: int) -> int:
        """Give an operation several copies of its weights, which begin equal.

        There are as many as the space has operations; the lead of ``by_slot`` chooses among them
        ("operator cloning", which lowers how many architectures share one weight).

        Returns:
            The number of parameters added.

        Raises:
            InputError: nothing to copy, or copied already.
        """
