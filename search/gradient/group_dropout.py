"""Grouped operation dropout: which operations of each edge take part in a step.

Source: Hong et al., "DropNAS: Grouped Operation Dropout for Differentiable Architecture Search",
IJCAI 2020. The operations of an edge form two groups, those with parameters and those without.
Each operation is dropped with a probability p such that a whole group of n would vanish with the
*drop path rate* r = p^n; a group that did vanish is drawn again, so that every edge always learns
something about either kind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def groups(operations: Sequence[str]) -> np.ndarray:
    """Return bool (2, operations): which operations have parameters, and which have none.

    Those with "conv" in their name have. Counted parameters would not do: the paper keeps the skip
    connection of a reduction cell, which has a strided convolution, among those without.
    """
    parametrised = np.array(["conv" in name for name in operations])
    return np.stack([parametrised, ~parametrised])


def draw_kept(
    mask: np.ndarray, groups: np.ndarray, rate: float, rng: np.random.Generator, size: int = 0
) -> np.ndarray:
    """Draw which operations are kept in a step, bool (slots, operations).

    Args:
        mask: bool (slots, operations), what is allowed.
        groups: bool (groups, operations), a partition of the operations.
        rate: r, from 0 to below 1.
        rng: the source of the draw.
        size: n, the same for all; where 0, how many of a group the mask allows on the edge.
    """
    kept = np.zeros_like(mask)
    for group in groups:
        allowed = mask & group
        present = allowed.sum(1, keepdims=True)
        probability = rate ** (1 / (size or np.maximum(present, 1)))
        missing = allowed.any(1)
        while missing.any():
            drawn = allowed & (rng.random(mask.shape) >= probability)
            kept[missing] |= drawn[missing]
            missing &= ~drawn.any(1)
    return kept
