"""The search-space interface: what every space answers, whatever its cells look like.

An architecture is a tuple with one operation index per slot (slot = edge of a cell, or layer of a
chain). Everything else (strings, graphs, modules, costs) is derived from it by the space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import BudgetError, InputError
from metad2a.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch_geometric.data import Batch, Data

Architecture = tuple[int, ...]
"""One operation index per slot."""


@dataclass(frozen=True)
class Cost:
    """What a network costs: trainable parameters, and multiply-adds of one forward image."""

    params: int
    macs: int


class SearchSpace(ABC):
    """A finite set of architectures and everything that can be derived from one of them.

    Subclasses give the attributes and the abstract methods; sampling, mutation, crossover, costs
    and limits follow from them.
    """

    name: str
    operations: tuple[str, ...]
    """Operation names, in the order of their indices."""
    slots: int
    """Number of decisions in an architecture."""
    input_size: int
    """Height and width, in pixels, at which the space's networks are trained and counted."""
    node_types: tuple[str, ...]
    """Names of the node types of :meth:`graph`, in the order of their indices."""

    # -- what a space must say ---------------------------------------------------------------

    @abstractmethod
    def parse(self, text: str) -> Architecture:
        """Read the space's string form.

        Raises:
            InputError: the string is not of this space.
        """

    @abstractmethod
    def format(self, architecture: Architecture) -> str:
        """Write the space's string form."""

    @abstractmethod
    def canonical(self, architecture: Architecture) -> Architecture:
        """Return the one representative of all architectures isomorphic to this one."""

    @abstractmethod
    def connected(self, architectures: np.ndarray) -> np.ndarray:
        """Return bool (n,) for int (n, slots): whether the output depends on the input."""

    @abstractmethod
    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill int (n, t) first decisions up to int (n, slots), as cheaply as can be.

        If any completion of a prefix is connected, this one is, and none of those costs less.
        """

    @abstractmethod
    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Return the cost of the fixed parts, and int64 (slots, operations, 2) of the choices.

        The last axis holds parameters and MACs; the cost of a network is the sum.
        """

    @abstractmethod
    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return int (n, slots) architectures as one PyG batch, built without a Python loop.

        ``x``: int64 node types, shape (nodes,); ``edge_index``: int64 (2, edges), along the data
        flow; ``batch``: int64 (nodes,), graph of each node.
        """

    @abstractmethod
    def build(
        self,
        architecture: Architecture,
        classes: int,
        *,
        channels: int | None = None,
        cells: int | None = None,
    ) -> nn.Module:
        """Return a plain network for float images (batch, 3, height, width) in any size.

        Args:
            architecture: one operation index per slot.
            classes: outputs of the network.
            channels: of the first stage; where None, what :meth:`costs` counts.
            cells: repeats of the cell in a stage; where None, what :meth:`costs` counts.

        Raises:
            InputError: a width or a depth below 1.
        """

    @abstractmethod
    def supernet(
        self, classes: int, *, channels: int | None = None, cells: int | None = None
    ) -> nn.Module:
        """Return the weight-sharing network of every architecture (see :class:`SuperNet`).

        The arguments and errors are those of :meth:`build`.
        """

    @abstractmethod
    def paths(self) -> list[tuple[int, ...]]:
        """Return every input-to-output path of the cell as a tuple of slots."""

    @abstractmethod
    def enumerate(self) -> Iterator[Architecture]:
        """Yield every architecture of the space once.

        Raises:
            InputError: the space is too large to be enumerated.
        """

    # -- what follows from it ----------------------------------------------------------------

    def is_connected(self, architecture: Architecture) -> bool:
        """Whether the network's output depends on its input."""
        return bool(self.connected(np.asarray([architecture]))[0])

    def graph(self, architecture: Architecture) -> Data:
        """Return one architecture as a PyG graph (see :meth:`graphs`)."""
        return self.graphs(np.asarray([architecture])).get_example(0)

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw an architecture, each slot uniform and independent."""
        return tuple(int(i) for i in rng.integers(len(self.operations), size=self.slots))

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Change the operation of one slot to another one."""
        slot = int(rng.integers(self.slots))
        shift = 1 + int(rng.integers(len(self.operations) - 1))
        changed = list(architecture)
        changed[slot] = (changed[slot] + shift) % len(self.operations)
        return tuple(changed)

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Take each slot from one of two parents, with equal chances."""
        pick = rng.random(self.slots) < 0.5
        return tuple(a if p else b for a, b, p in zip(first, second, pick, strict=True))

    def cost(
        self, architecture: Architecture, classes: int, resolution: int | None = None
    ) -> Cost:
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

    def check_limits(
        self, classes: int, max_params: int | None, max_macs: int | None
    ) -> None:
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

    def distinct(self) -> np.ndarray:
        """Return int (n, slots): every connected canonical architecture, as first enumerated.

        Raises:
            InputError: the space is too large to be enumerated.
        """
        cells = self.as_array(list(dict.fromkeys(map(self.canonical, self.enumerate()))))
        joined: np.ndarray = cells[self.connected(cells)]
        return joined

    def as_array(self, architectures: Sequence[str | Architecture]) -> np.ndarray:
        """Return strings or tuples as an int64 (n, slots) array."""
        rows = [self.parse(a) if isinstance(a, str) else a for a in architectures]
        return np.asarray(rows, dtype=np.int64).reshape(-1, self.slots)

    def to_json(self, architecture: Architecture) -> dict[str, str]:
        """Return the JSON form, read back by :func:`architecture_from_json`."""
        return {"space": self.name, "architecture": self.format(architecture)}


SPACES: Registry[SearchSpace] = Registry("search space", "metad2a.spaces")


def architecture_from_json(data: Mapping[str, Any]) -> tuple[SearchSpace, Architecture]:
    """Read what :meth:`SearchSpace.to_json` wrote.

    Raises:
        InputError: a key is missing, or the space or the string is unknown.
    """
    missing = {"space", "architecture"} - set(data)
    if missing:
        raise InputError(f"An architecture needs the keys 'space' and 'architecture'; "
                         f"missing: {', '.join(sorted(missing))}.")
    space = SPACES.get(str(data["space"]))
    return space, space.parse(str(data["architecture"]))


class SuperNet(ABC):
    """What search needs of a weight-sharing network, beside being a ``torch.nn.Module``."""

    @abstractmethod
    def forward(self, x: torch.Tensor, choice: Architecture | torch.Tensor) -> torch.Tensor:
        """Return logits (batch, classes) along one path, or through a mixture of all.

        ``choice`` is an architecture (only its operations run, and none behind a cut), or float
        (slots, operations) gates that weight all of them.
        """

    @abstractmethod
    def slot_weights(self, slot: int, operation: int) -> list[torch.Tensor]:
        """Return the convolution weights of one operation of one slot, one entry a cell."""

    @abstractmethod
    def fixed_weights(self) -> list[torch.Tensor]:
        """Return the convolution and classifier weights that every path shares."""
