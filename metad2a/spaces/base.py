"""The search-space interface: what can be suggested, whatever its networks look like.

An architecture is a tuple with one choice index per decision. Everything else (strings, graphs,
modules, costs) is derived from it by the space. :class:`SearchSpace` is what every space answers;
:class:`WeightSharing` is what a space answers beside, whose networks can be trained as one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a.errors import BudgetError, InputError
from metad2a.registry import Registry
from metad2a.spaces._pool import spread_pool
from metad2a.spaces.sketch import Block, Cell

if TYPE_CHECKING:
    from torch import nn
    from torch_geometric.data import Batch, Data

    from metad2a.spaces.supernets.mixed import MixedNetwork

__all__ = [
    "SPACES",
    "Architecture",
    "Cost",
    "Decision",
    "SearchSpace",
    "WeightSharing",
    "architecture_from_json",
]

ABSENT = 0
"""In a chain of blocks the operation of one that is not there."""
Architecture = tuple[int, ...]
"""One choice index per decision; 0 for decisions that are not active, in the canonical form."""


@dataclass(frozen=True)
class Decision:
    """One thing that is decided about a network, and what can be chosen."""

    name: str
    values: tuple[int | str, ...]
    """The choices, in the order of their indices: ``"resolution"`` has ``(32, 48, ...)``."""


@dataclass(frozen=True)
class Cost:
    """What a network costs: trainable parameters, and multiply-adds of one forward image."""

    params: int
    macs: int


class SearchSpace(ABC):
    """A set of architectures and everything that can be derived from one of them.

    The number of choices may differ from decision to decision, a decision may have no meaning for
    what earlier ones chose (see :meth:`active`), and the space may be too large to list. Subclasses
    give the attributes and the abstract methods; sampling, mutation, crossover, pools and limits
    follow from them, and a space that knows better overrides them.
    """

    name: str
    decisions: tuple[Decision, ...]
    node_features: tuple[str, ...]
    """Names of the numbers that each node of :meth:`graph` carries."""
    default_protocol: str = "standalone-v1"
    """The protocol by which networks of this space are trained unless another is asked for."""
    pretrained: bool = False
    """Whether ``build(pretrained=True)`` has weights."""
    recipes: tuple[str, ...] = ()
    """Names of recipes of the literature (:data:`metad2a.protocol.RECIPES`) for its networks."""
    searchable: bool = False
    """Whether searches work in it: its networks, or those of one resolution, share weights."""
    weights_name: str = ""
    """What the pretrained weights are called."""
    weights_licence: str = ""
    """Their licence's SPDX identifier."""
    counted_macro: Mapping[str, int] = MappingProxyType({})
    """The sizes that :meth:`build` takes beside the architecture, with the values that
    :meth:`cost` counts and that are built where none are given."""

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
        """Return the one representative of all architectures that mean the same network.

        Decisions that are not active are 0 in it.
        """

    @abstractmethod
    def resolution(self, architecture: Architecture) -> int:
        """Return the side, in pixels, of the images at which this network runs."""

    @abstractmethod
    def cost(self, architecture: Architecture, classes: int, resolution: int | None = None) -> Cost:
        """Return exact parameters and MACs of the network that :meth:`build` returns.

        Args:
            architecture: one choice index per decision.
            classes: outputs of the network.
            resolution: side of the images in pixels; None for the network's own.
        """

    @abstractmethod
    def smallest(self, classes: int) -> Cost:
        """Return the least parameters and the least MACs of any member, each on its own."""

    @abstractmethod
    def graph(self, architecture: Architecture) -> Data:
        """Return one architecture as a PyG graph: a node a block or operation.

        ``x``: float32 (nodes, len(node_features)); ``edge_index``: int64 (2, edges), along the
        data flow. The output is the last node.
        """

    @abstractmethod
    def build(
        self,
        architecture: Architecture,
        classes: int,
        *,
        pretrained: bool = False,
        **macro: Any,
    ) -> nn.Module:
        """Return a plain network for float images (batch, 3, height, width) in any size.

        Its class lies in ``metad2a/spaces/networks``, which needs torch alone. It has ``config``
        (JSON values, from which ``type(network)(**network.config)`` is made anew),
        ``classifier`` and ``features(x)``, what the classifier sees.

        Args:
            architecture: one choice index per decision.
            classes: outputs of the network.
            pretrained: begin with the space's weights; the classifier is new in any case.
            macro: sizes of :attr:`counted_macro`; where missing or None, what :meth:`cost` counts.

        Raises:
            InputError: a size that the space does not have, or one below 1; pretrained weights
                of a space that has none.
        """

    # -- what follows from it ----------------------------------------------------------------

    @property
    def slots(self) -> int:
        """Number of decisions in an architecture."""
        return len(self.decisions)

    def active(self, architecture: Architecture) -> tuple[bool, ...]:
        """Return which decisions mean something, given those before them; here all of them."""
        return (True,) * self.slots

    def depth_in_stages(self, architecture: Architecture) -> int:
        """Return how many stages there are, of which the first may stay frozen; here 0."""
        return 0

    def shorter(self, architecture: Architecture) -> list[Architecture]:
        """Return members that are the first stages of another one, the longest first; here none.

        One pass of that one has their features on its way.
        """
        return []

    def anchors(self, cut: bool = False) -> list[Architecture]:
        """Return members that keep the pretrained weights whole, at every resolution.

        They are where a choice under a limit of time begins; none where a space has no weights.

        Args:
            cut: with the shallowest form of each beside it, for limits on size.
        """
        return []

    def valid(self, architectures: np.ndarray) -> np.ndarray:
        """Return bool (n,) for int (n, slots): which are members; here all."""
        return np.ones(len(architectures), dtype=bool)

    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill int (n, t) first decisions up to int (n, slots), as cheaply as can be.

        If any completion of a prefix is a member, this one is, and none of those costs less. Here
        that is the first choice of each decision, as spaces begin with the cheapest.
        """
        rest = np.zeros((len(prefixes), self.slots - prefixes.shape[1]), dtype=np.int64)
        return np.concatenate([prefixes, rest], axis=1)

    def listed(self) -> np.ndarray | None:
        """Return int (n, slots), every canonical member, or None where there are too many."""
        return None

    def sample(self, rng: np.random.Generator) -> Architecture:
        """Draw a canonical member, each decision uniform and independent."""
        return self.canonical(tuple(self._drawn(slot, rng) for slot in range(self.slots)))

    def mutate(self, architecture: Architecture, rng: np.random.Generator) -> Architecture:
        """Give one active decision another choice; what becomes active by it is drawn.

        The same is returned where no active decision has two choices.
        """
        on = self.active(architecture)
        open_slots = [
            slot
            for slot, decision in enumerate(self.decisions)
            if on[slot] and len(decision.values) > 1
        ]
        if not open_slots:
            return self.canonical(architecture)
        slot = open_slots[rng.integers(len(open_slots))]
        other = int(rng.integers(len(self.decisions[slot].values) - 1))
        changed = list(architecture)
        changed[slot] = other + (other >= architecture[slot])
        return self._completed(changed, on, rng)

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Take each decision from one of two parents, with equal chances.

        What is active in one parent only is that one's; what is active in the child only is drawn.
        """
        both = self.active(first), self.active(second)
        pick = rng.random(self.slots) < 0.5
        child = [
            a if (p or not on_b) and on_a else b
            for a, b, on_a, on_b, p in zip(first, second, *both, pick, strict=True)
        ]
        known = tuple(a or b for a, b in zip(*both, strict=True))
        return self._completed(child, known, rng)

    def _drawn(self, slot: int, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self.decisions[slot].values)))

    def _completed(
        self, choices: list[int], known: tuple[bool, ...], rng: np.random.Generator
    ) -> Architecture:
        """Draw the active decisions that are not known, and those that become active by it."""
        decided = list(known)
        while True:
            on = self.active(tuple(choices))
            fresh = [slot for slot in range(self.slots) if on[slot] and not decided[slot]]
            if not fresh:
                return self.canonical(tuple(choices))
            for slot in fresh:
                choices[slot] = self._drawn(slot, rng)
                decided[slot] = True

    def pool(
        self,
        n: int,
        rng: np.random.Generator,
        classes: int = 10,
        max_params: int | None = None,
        max_macs: int | None = None,
    ) -> list[Architecture]:
        """Return ``n`` distinct canonical members, spread evenly over the logarithm of MACs.

        Args:
            n: how many. Fewer come back where the space, or what of it obeys the limits, is
                smaller; then it is all of them, if the space can be listed.
            rng: source of the draws.
            classes: for which the limits are counted.
            max_params: most trainable parameters.
            max_macs: most multiply-adds of one image at the network's own resolution.

        Raises:
            BudgetError: a limit is below the smallest network of the space.
        """
        self.check_limits(classes, max_params, max_macs)
        return spread_pool(self, n, rng, classes, max_params, max_macs)

    def costs(
        self, architectures: np.ndarray, classes: int, resolution: int | None = None
    ) -> np.ndarray:
        """Return int64 (n, 2) parameters and MACs of int (n, slots) architectures."""
        found = [self.cost(one, classes, resolution) for one in _tuples(architectures)]
        return np.array([(c.params, c.macs) for c in found], dtype=np.int64).reshape(-1, 2)

    def feasible(
        self,
        architectures: np.ndarray,
        classes: int,
        max_params: int | None = None,
        max_macs: int | None = None,
        resolution: int | None = None,
    ) -> np.ndarray:
        """Return bool (n,): which of int (n, slots) architectures obey both limits."""
        if max_params is None and max_macs is None:
            return np.ones(len(architectures), dtype=bool)
        params, macs = self.costs(architectures, classes, resolution).T
        obeyed: np.ndarray = (params <= (np.inf if max_params is None else max_params)) & (
            macs <= (np.inf if max_macs is None else max_macs)
        )
        return obeyed

    def check_limits(self, classes: int, max_params: int | None, max_macs: int | None) -> None:
        """Refuse limits below the smallest network of the space.

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

    def sizes(self, macro: Mapping[str, int | None]) -> dict[str, int]:
        """Return all sizes of a network to build, the counted ones where missing or None.

        Raises:
            InputError: a size that the space does not have, or one below 1.
        """
        found = dict(self.counted_macro)
        for name, value in macro.items():
            if name not in found:
                known = f"it has {' and '.join(found)}" if found else "it has none"
                raise InputError(f"The space {self.name!r} has no size {name!r}: {known}.")
            if value is None:
                continue
            if value < 1:
                raise InputError(f"{name}={value} cannot be built; use 1 or more.")
            found[name] = value
        return found

    def refuse_pretrained(self, pretrained: bool) -> None:
        """Refuse pretrained weights, in the ``build`` of a space that has none.

        Raises:
            InputError: ``pretrained`` is true.
        """
        if pretrained:
            raise InputError(
                f"The space {self.name!r} has no pretrained weights: its networks are trained "
                "from scratch. Build with pretrained=False, or choose a space of which "
                "`metad2a spaces` says that it is pretrained."
            )

    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return int (n, slots) architectures as one PyG batch of :meth:`graph`."""
        from torch_geometric.data import Batch

        return Batch.from_data_list([self.graph(one) for one in _tuples(architectures)])

    def graph_nodes(self, architectures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what the nodes of :meth:`graphs` carry, and how many nodes each graph has.

        float32 (nodes, len(node_features)), one graph's after another's, and int64 (n,).
        """
        batch = self.graphs(architectures)
        return batch.x.numpy(), np.diff(batch.ptr.numpy())

    def sketch(self, architecture: Architecture) -> Sequence[Cell] | Sequence[Block]:
        """Return what a drawing shows: here one row an active decision, for want of better."""
        return [
            Block("", decision.name, str(decision.values[choice]), choice / len(decision.values), 0)
            for decision, choice, on in zip(
                self.decisions, architecture, self.active(architecture), strict=True
            )
            if on
        ]

    def as_array(self, architectures: Sequence[str | Architecture]) -> np.ndarray:
        """Return strings or tuples as an int64 (n, slots) array."""
        rows = [self.parse(a) if isinstance(a, str) else a for a in architectures]
        return np.asarray(rows, dtype=np.int64).reshape(-1, self.slots)

    def to_json(self, architecture: Architecture) -> dict[str, str]:
        """Return the JSON form, read back by :func:`architecture_from_json`."""
        return {"space": self.name, "architecture": self.format(architecture)}


class WeightSharing(SearchSpace):
    """A space whose slots all choose among the same operations, trained as one network.

    Spaces of cells are; a space of inverted residual networks has one for each resolution
    (:class:`metad2a.spaces._chain.Chain`).

    Every network's cost is a sum of a fixed part and one part a slot, and one supernet holds the
    weights of all of them: what the methods of ``search`` work on.
    """

    searchable = True

    operations: tuple[str, ...]
    """Names of the choices of every slot, in the order of their indices."""
    input_size: int
    """Height and width, in pixels, at which the space's networks are trained and counted."""
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
    def cost_table(self, classes: int, resolution: int) -> tuple[Cost, np.ndarray]:
        """Return the cost of the fixed parts, and int64 (slots, operations, 2) of the choices.

        The last axis holds parameters and MACs; the cost of a network is the sum.
        """

    @abstractmethod
    def connected(self, architectures: np.ndarray) -> np.ndarray:
        """Return bool (n,) for int (n, slots): whether the output depends on the input.

        False, too, for what is no member of the space.
        """

    @abstractmethod
    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill int (n, t) first decisions up to int (n, slots), as cheaply as can be."""

    @abstractmethod
    def graphs(self, architectures: np.ndarray) -> Batch:
        """Return int (n, slots) architectures as one PyG batch, built without a Python loop."""

    @abstractmethod
    def supernet(
        self, classes: int, *, channels: int | None = None, cells: int | None = None
    ) -> MixedNetwork:
        """Return the weight-sharing network of every architecture.

        Args:
            classes: outputs of the network.
            channels: of the first cells; where None, what :meth:`costs` counts.
            cells: in a stage or in all, as the space has it; where None, what :meth:`costs` counts.

        Raises:
            InputError: a width or a depth below 1.
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

    def options(self, allowed: np.ndarray) -> list[list[tuple[tuple[int, int], ...]]]:
        """Return the parts of an architecture that are chosen apart, each with what can be chosen.

        An option is some (slot, operation) pairs. One of each part makes an architecture, connected
        or not, in which slots that no option names are left over; each is made in one way only.
        Here every slot is a part.

        Args:
            allowed: bool (slots, operations).

        Raises:
            InputError: nothing can be made of what is allowed.
        """
        return [
            [((slot, op),) for op in np.flatnonzero(row).tolist()]
            for slot, row in enumerate(allowed)
        ]

    @abstractmethod
    def width_depth(self, architecture: Architecture) -> tuple[float, int]:
        """Return the width, in units of the cell's channels, and the depth, in connections.

        Source: Shu, Wang, Cai, "Understanding Architectures Learnt by Cell-based Neural
        Architecture Search", ICLR 2020, section 3: how wide and shallow the cell is.
        """

    @abstractmethod
    def enumerate(self) -> Iterator[Architecture]:
        """Yield every architecture of the space once, canonical or not.

        Raises:
            InputError: the space is too large to be enumerated.
        """

    # -- what follows from it ----------------------------------------------------------------

    def allowed(self) -> np.ndarray:
        """Return bool (slots, operations): which operations a slot may have; here all."""
        return np.ones((self.slots, len(self.operations)), dtype=bool)

    def repaired(self, architecture: Architecture) -> Architecture:
        """Return the member that is meant where one slot was changed; here it is what it is."""
        return architecture

    def resolution(self, architecture: Architecture) -> int:
        """Return :attr:`input_size`, which no architecture changes."""
        return self.input_size

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

    def smallest(self, classes: int) -> Cost:
        """Return the cost of the fixed parts: some operation of every slot adds nothing to them."""
        return self.cost_table(classes, self.input_size)[0]

    def valid(self, architectures: np.ndarray) -> np.ndarray:
        """Return bool (n,) for int (n, slots): which are members whose output is not constant."""
        return self.connected(architectures)

    def is_connected(self, architecture: Architecture) -> bool:
        """Whether the network's output depends on its input."""
        return bool(self.connected(np.asarray([architecture]))[0])

    def graph(self, architecture: Architecture) -> Data:
        """Return one architecture as a PyG graph (see :meth:`graphs`)."""
        return self.graphs(np.asarray([architecture])).get_example(0)

    def sample(self, rng: np.random.Generator, allowed: np.ndarray | None = None) -> Architecture:
        """Draw an architecture, each slot uniform and independent; not brought to canonical form.

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


def _tuples(architectures: np.ndarray) -> Iterator[Architecture]:
    return map(tuple, np.asarray(architectures).tolist())


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
