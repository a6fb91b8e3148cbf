"""The search-space interface: what every space answers, whatever its cells look like.

An architecture is a tuple with one operation index per slot (slot = edge of a cell, or layer of a
chain). Everything else (strings, graphs, modules, costs) is derived from it by the space.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import InputError
from metad2a.registry import Registry
from metad2a.spaces._costs import Cost, Costed
from metad2a.spaces._supernet import SuperNet

if TYPE_CHECKING:
    from torch import nn
    from torch_geometric.data import Batch, Data

    from metad2a.spaces._mixed import MixedNetwork

__all__ = [
    "SPACES",
    "Architecture",
    "Cost",
    "SearchSpace",
    "SuperNet",
    "architecture_from_json",
]

Architecture = tuple[int, ...]
"""One operation index per slot."""


class SearchSpace(Costed):
    """A finite set of architectures and everything that can be derived from one of them.

    Subclasses give the attributes and the abstract methods; sampling, mutation, crossover, costs
    and limits follow from them.
    """

    operations: tuple[str, ...]
    """Operation names, in the order of their indices."""
    node_types: tuple[str, ...]
    """Names of the node types of :meth:`graph`, in the order of their indices. An operation's is
    its name, after a prefix that ends in "/" where a space has several kinds of cell."""
    cell_types: Mapping[str, range]
    """The slots of each type of cell, the normal (or only) one first."""
    left_over: int | None = None
    """The operation of slots that an architecture does not use, where it may leave some unused: it
    is never chosen, and its scores mean nothing."""
    search_macro: Mapping[str, int]
    """The ``channels`` and ``cells`` of the supernets that are searched on a CPU by default."""
    published_macro: Mapping[str, int]
    """The ``channels`` and ``cells`` of the supernets in the literature."""

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
        """Return bool (n,) for int (n, slots): whether the output depends on the input.

        False, too, for what is no member of the space.
        """

    @abstractmethod
    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill int (n, t) first decisions up to int (n, slots), as cheaply as can be.

        If any completion of a prefix is connected, this one is, and none of those costs less.
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
            channels: of the first cells; where None, what :meth:`costs` counts.
            cells: in a stage or in all, as the space has it; where None, what :meth:`costs` counts.

        Raises:
            InputError: a width or a depth below 1.
        """

    @abstractmethod
    def supernet(
        self, classes: int, *, channels: int | None = None, cells: int | None = None
    ) -> MixedNetwork:
        """Return the weight-sharing network of every architecture (see :class:`SuperNet`).

        The arguments and errors are those of :meth:`build`.
        """

    @abstractmethod
    def paths(self) -> list[tuple[int, ...]]:
        """Return every input-to-output path of the cell as a tuple of slots."""

    @abstractmethod
    def preceding(self, slot: int) -> int | None:
        """Return the slot that feeds this slot's source most directly; None: an input does."""

    @abstractmethod
    def discretise(self, scores: np.ndarray) -> Architecture:
        """Name the winner: the space's rule from one score per operation of each slot.

        Args:
            scores: float (slots, operations), larger is better; ``-inf`` forbids an operation.

        Raises:
            InputError: the scores have another shape or are not numbers, or what they allow holds
                no connected architecture.
        """

    @abstractmethod
    def width_depth(self, architecture: Architecture) -> tuple[float, int]:
        """Return the width, in units of the cell's channels, and the depth, in connections.

        Source: Shu, Wang, Cai, "Understanding Architectures Learnt by Cell-based Neural
        Architecture Search", ICLR 2020, section 3: how wide and shallow the cell is.
        """

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

    def sample(self, rng: np.random.Generator, allowed: np.ndarray | None = None) -> Architecture:
        """Draw an architecture, each slot uniform and independent.

        Args:
            rng: source of the draw.
            allowed: bool (slots, operations), at least one operation in each slot; None: all.
        """
        if allowed is None:
            return tuple(int(i) for i in rng.integers(len(self.operations), size=self.slots))
        return tuple(int(rng.choice(np.flatnonzero(row))) for row in allowed)

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
        allowed: np.ndarray | None = None,
    ) -> Architecture:
        """Change the operation of one slot to another one; the same where none is allowed.

        The arguments are those of :meth:`sample`.
        """
        if allowed is None:
            allowed = np.ones((self.slots, len(self.operations)), dtype=bool)
        others = allowed.copy()
        others[np.arange(self.slots), architecture] = False
        changed = list(architecture)
        if others.any():
            slot = int(rng.choice(np.flatnonzero(others.any(1))))
            changed[slot] = int(rng.choice(np.flatnonzero(others[slot])))
        return tuple(changed)

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Take each slot from one of two parents, with equal chances."""
        pick = rng.random(self.slots) < 0.5
        return tuple(a if p else b for a, b, p in zip(first, second, pick, strict=True))

    def checked_scores(self, scores: np.ndarray) -> np.ndarray:
        """Return a float64 copy of the scores of :meth:`discretise`, or refuse them."""
        found = np.array(scores, dtype=np.float64)
        shape = (self.slots, len(self.operations))
        if found.shape != shape or not (found < np.inf).all():
            wrong = int((~(found < np.inf)).sum())
            raise InputError(
                f"Scores of shape {found.shape}, {wrong} of them not a number or "
                f"infinite, name no architecture of {self.name!r}; give {shape} "
                "finite numbers, -inf for what is forbidden."
            )
        return found

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
        raise InputError(
            f"An architecture needs the keys 'space' and 'architecture'; "
            f"missing: {', '.join(sorted(missing))}."
        )
    space = SPACES.get(str(data["space"]))
    return space, space.parse(str(data["architecture"]))
