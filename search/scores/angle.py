"""Angle between a child's weights at initialisation and now, from a table of scalars.

Source: Hu et al., "Angle-based Search Space Shrinking for Neural Architecture Search" (ABS), ECCV
2020, section "Angle-based Metric". The weight vector of a child is the concatenation of the fixed
parts and, for every input-to-output path of the cell, of the weights along the path: a pool of
kernel k is a constant vector of 1/k^2, a skip is empty, ``none`` removes the path, and an operation
on several paths counts once for each.

The cosine of two such vectors needs three sums only: <w0, w>, |w0|^2 and |w|^2. So they are
tabulated for each operation of each slot (summed over the cells, which share the architecture) and
added up along living paths, for all architectures at once. Of a cloned operation an architecture
has the copy that it runs. In float64, since arccos is ill-conditioned near 1, where early training
is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from torch import Tensor

from metad2a.spaces import Architecture, WeightSharing
from metad2a.spaces.supernets.base import SuperNet
from search.scores.base import EVALUATORS, Context, Evaluator


def _products(before: list[Tensor], after: list[Tensor]) -> np.ndarray:
    """Return float64 (3,): <w0, w>, |w0|^2 and |w|^2 over pairs of equally shaped tensors."""
    total = np.zeros(3)
    for first, second in zip(before, after, strict=True):
        w0 = first.detach().double().cpu().flatten().numpy()
        w = second.detach().double().cpu().flatten().numpy()
        total += (w0 @ w, w0 @ w0, w @ w)
    return total


def _copies(supernet: SuperNet, slot: int, operation: int) -> list[list[Tensor]]:
    """Return the weights of each copy of an operation, of all cells; one empty copy of ``none``."""
    edges = supernet.edges(slot)
    count = max([1, *(len(edge.operation(operation)) for edge in edges)])
    found: list[list[Tensor]] = [[] for _ in range(count)]
    for edge in edges:
        weights = edge.weights(operation)
        size = len(weights) // count
        for number in range(count):
            found[number] += weights[number * size : (number + 1) * size]
    return found


def angle_table(
    space: WeightSharing, initial: SuperNet, current: SuperNet
) -> tuple[np.ndarray, np.ndarray]:
    """Return float64 (3,) of the fixed parts and (slots, operations, operations, 3) of the choices.

    The third axis is the operation that leads to a copy, where an operation was cloned; where not,
    all its entries are equal.
    """
    fixed = _products(initial.fixed_weights(), current.fixed_weights())
    count = len(space.operations)
    table = np.zeros((space.slots, count, count, 3))
    for slot in range(space.slots):
        for op in range(count):
            pairs = zip(_copies(initial, slot, op), _copies(current, slot, op), strict=True)
            table[slot, op] = [_products(before, after) for before, after in pairs]
    return fixed, table


class Angle(Evaluator):
    """The angle in radians; larger is better. Cells without a living path get ``-inf``.

    Args:
        context: has a supernet.
        whole: whether the parts that all architectures share belong to the vector. Where they do
            not, a cell of skips only has the angle zero.
    """

    def __init__(self, context: Context, whole: bool = True) -> None:
        trained = context.trained()
        self.space = space = context.space
        network = cast(SuperNet, trained.network)
        self.fixed, self.table = angle_table(space, cast(SuperNet, trained.initial), network)
        if not whole:
            self.fixed = np.zeros(3)
        self.led_by = np.repeat(np.arange(space.slots)[:, None], len(space.operations), axis=1)
        for slot, operation, by in network.clones:
            self.led_by[slot, operation] = by

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) angles in radians, 0 to pi."""
        chosen = self.space.as_array(architectures)
        paths = self.space.paths()
        passes = np.ones(chosen.shape, dtype=bool)
        if "none" in self.space.operations:
            passes = chosen != self.space.operations.index("none")
        alive = np.stack([passes[:, path].all(1) for path in paths], axis=1)  # (n, paths)
        on_path = np.zeros((len(paths), self.space.slots))
        for row, path in enumerate(paths):
            on_path[row, list(path)] = 1
        times = alive @ on_path  # (n, slots): living paths through each slot
        slots = np.arange(self.space.slots)
        lead = np.take_along_axis(chosen, self.led_by[slots, chosen], axis=1)
        weights = self.table[slots, chosen, lead]  # (n, slots, 3)
        dot, first, second = (self.fixed + (times[:, :, None] * weights).sum(1)).T
        empty = first * second == 0
        cosine = np.where(empty, 1.0, dot / np.sqrt(np.where(empty, 1.0, first * second)))
        angle = np.arccos(np.clip(cosine, -1, 1))
        result: np.ndarray = np.where(alive.any(1), angle, -np.inf)
        return result


EVALUATORS.register("angle")(Angle)
