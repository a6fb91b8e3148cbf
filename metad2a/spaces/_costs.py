"""What the networks of a space cost, and which of them obey limits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metad2a.errors import BudgetError, InputError

if TYPE_CHECKING:
    from metad2a.spaces.base import Architecture


@dataclass(frozen=True)
class Cost:
    """What a network costs: trainable parameters, and multiply-adds of one forward image."""

    params: int
    macs: int


class Costed(ABC):
    """Exact costs, as sums of a fixed part and one part a decision."""

    name: str
    slots: int
    """Number of decisions in an architecture."""
    input_size: int
    """Height and width, in pixels, at which the space's networks are trained and counted."""
    counted_macro: Mapping[str, int]
    """The ``channels`` and ``cells`` of the networks that :meth:`costs` counts."""

    @abstractmethod
    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Return the cost of the fixed parts, and int64 (slots, operations, 2) of the choices.

        The last axis holds parameters and MACs; the cost of a network is the sum.
        """

    def macro(self, channels: int | None, cells: int | None) -> tuple[int, int]:
        """Return the width and depth of a network to build, the counted ones where None.

        Raises:
            InputError: a width or a depth below 1.
        """
        asked = {"channels": channels, "cells": cells}
        found = {
            name: self.counted_macro[name] if value is None else value
            for name, value in asked.items()
        }
        for name, value in found.items():
            if value < 1:
                raise InputError(f"{name}={value} cannot be built; use 1 or more.")
        return found["channels"], found["cells"]

    def cost(self, architecture: Architecture, classes: int, resolution: int | None = None) -> Cost:
        """Return exact parameters and MACs of the network that :meth:`build` returns.

        Operations behind a cut count too, as in the published tables, though nothing reaches them.
        """
        params, macs = self.costs(np.asarray([architecture]), classes, resolution)[0]
        return Cost(int(params), int(macs))

    def costs(
        self, architectures: np.ndarray, classes: int, resolution: int | None = None
    ) -> np.ndarray:
        """Return int64 (n, 2) parameters and MACs of int (n, slots) architectures."""
        fixed, table = self.cost_table(classes, resolution or self.input_size)
        chosen = table[np.arange(self.slots), architectures]
        total: np.ndarray = chosen.sum(1) + np.array([fixed.params, fixed.macs])
        return total

    def feasible(
        self,
        architectures: np.ndarray,
        classes: int,
        max_params: int | None = None,
        max_macs: int | None = None,
        resolution: int | None = None,
    ) -> np.ndarray:
        """Return bool (n,): which of int (n, slots) architectures obey both limits."""
        params, macs = self.costs(architectures, classes, resolution).T
        obeyed: np.ndarray = (params <= (np.inf if max_params is None else max_params)) & (
            macs <= (np.inf if max_macs is None else max_macs)
        )
        return obeyed

    def check_limits(self, classes: int, max_params: int | None, max_macs: int | None) -> None:
        """Refuse limits below the smallest connected network of the space.

        Raises:
            BudgetError: names the limit and the smallest feasible value.
        """
        smallest = self.smallest(classes)
        limits = (("max_params", max_params), ("max_macs", max_macs))
        for (name, limit), least in zip(limits, (smallest.params, smallest.macs), strict=True):
            if limit is not None and limit < least:
                raise BudgetError(
                    f"{name}={limit:,} cannot be met: the smallest network of the space "
                    f"{self.name!r} for {classes} classes needs {least:,}. "
                    f"Use {name}={least} or more."
                )

    @abstractmethod
    def smallest(self, classes: int) -> Cost:
        """Return the least parameters and the least MACs of any connected network."""
