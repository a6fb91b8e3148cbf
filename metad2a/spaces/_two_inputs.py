"""Spaces in which each node uses exactly two of the edges that may lead into it."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces.base import Architecture, WeightSharing

NONE = 0
"""The operation of the edges that are not used."""


class TwoInputs(WeightSharing):
    """Membership, completion, derivation and variation of two operations a node.

    ``none`` is not chosen but left over, so what is said of it in scores or in what is allowed has
    no effect.
    """

    nodes: tuple[tuple[int, ...], ...]
    """The slots that lead into each node."""
    left_over = NONE
    free_operation: int
    """An operation without parameters and MACs on every edge."""

    def connected(self, architectures: np.ndarray) -> np.ndarray:
        """Whether every node has two operations: then all of them hang on the inputs."""
        used = np.asarray(architectures) != NONE
        joined: np.ndarray = np.all([used[:, node].sum(1) == 2 for node in self.nodes], axis=0)
        return joined

    def complete(self, prefixes: np.ndarray) -> np.ndarray:
        """Fill each node up to two operations with one that costs nothing."""
        given = prefixes.shape[1]
        whole = np.full((len(prefixes), self.slots), NONE, dtype=np.int64)
        whole[:, :given] = prefixes
        for node in self.nodes:
            for slot in node:
                if slot >= given:
                    whole[(whole[:, node] != NONE).sum(1) < 2, slot] = self.free_operation
        return whole

    def discretise(self, scores: np.ndarray) -> Architecture:
        """Keep the best operation but ``none`` of each edge, and a node's two best edges.

        Liu, Simonyan, Yang, "DARTS", ICLR 2019, section 2.4; of equals, the first.
        """
        found = self.checked_scores(scores)
        found[:, NONE] = -np.inf
        best, choice = found.max(1), found.argmax(1)
        architecture = [NONE] * self.slots
        for node in self.nodes:
            slots = sorted(node, key=lambda slot: -best[slot])[:2]
            if best[slots].min() == -np.inf:
                raise InputError(
                    f"The scores forbid all edges but one into a node of {self.name!r}"
                    ", which needs two; give two edges or more a finite score."
                )
            for slot in slots:
                architecture[slot] = int(choice[slot])
        return tuple(architecture)

    def options(self, allowed: np.ndarray) -> list[list[tuple[tuple[int, int], ...]]]:
        """Return for each node all pairs of edges with all pairs of their operations."""
        usable = self._usable(allowed)
        edges = [
            [(slot, op) for op in np.flatnonzero(row).tolist()] for slot, row in enumerate(usable)
        ]
        return [
            [
                pair
                for first, second in combinations(node, 2)
                for pair in product(edges[first], edges[second])
            ]
            for node in self.nodes
        ]

    def _usable(self, allowed: np.ndarray | None) -> np.ndarray:
        shape = (self.slots, len(self.operations))
        usable = np.ones(shape, dtype=bool) if allowed is None else allowed.copy()
        usable[:, NONE] = False
        if allowed is not None and any(usable[list(node)].any(1).sum() < 2 for node in self.nodes):
            raise InputError(
                f"Fewer than two edges into a node of {self.name!r} may have an "
                "operation other than 'none'; allow one on two edges or more."
            )
        return usable

    def sample(self, rng: np.random.Generator, allowed: np.ndarray | None = None) -> Architecture:
        """Draw two inputs for each node, and an operation for each of them, all uniform.

        Args:
            rng: source of the draw.
            allowed: bool (slots, operations); None: all.

        Raises:
            InputError: fewer than two edges can be used into some node.
        """
        usable = self._usable(allowed)
        architecture = [NONE] * self.slots
        for node in self.nodes:
            open_slots = [slot for slot in node if usable[slot].any()]
            for place in rng.choice(len(open_slots), 2, replace=False):
                slot = open_slots[place]
                architecture[slot] = int(rng.choice(np.flatnonzero(usable[slot])))
        return tuple(architecture)

    def mutate(
        self,
        architecture: Architecture,
        rng: np.random.Generator,
        allowed: np.ndarray | None = None,
    ) -> Architecture:
        """Give one used edge another operation, or move it to another source of its node.

        Both as in Real et al., "Regularized Evolution for Image Classifier Architecture Search",
        AAAI 2019. The same is returned where nothing else is allowed. The arguments and errors are
        those of :meth:`sample`.
        """
        usable = self._usable(allowed)
        changes = []
        for node in self.nodes:
            unused = [slot for slot in node if architecture[slot] == NONE]
            for slot in (slot for slot in node if slot not in unused):
                op = architecture[slot]
                options = [
                    (slot, int(other)) for other in np.flatnonzero(usable[slot]) if other != op
                ]
                options += [(other, op) for other in unused if usable[other, op]]
                changes += [(slot, options)] if options else []
        changed = list(architecture)
        if changes:
            slot, options = changes[rng.integers(len(changes))]
            changed[slot] = NONE
            target, op = options[rng.integers(len(options))]
            changed[target] = op
        return tuple(changed)

    def cross(
        self, first: Architecture, second: Architecture, rng: np.random.Generator
    ) -> Architecture:
        """Keep the edges that both parents use and draw the rest from either's, node by node."""
        child = [NONE] * self.slots
        for node in self.nodes:
            both = [slot for slot in node if first[slot] != NONE and second[slot] != NONE]
            either = [slot for slot in node if (first[slot] != NONE) != (second[slot] != NONE)]
            drawn = rng.permutation(len(either))[: 2 - len(both)]
            for slot in both + [either[place] for place in drawn]:
                found = [op for op in (first[slot], second[slot]) if op != NONE]
                child[slot] = found[rng.integers(len(found))]
        return tuple(child)
