"""Operator cloning: the parameters that dropping freed go to what most architectures share.

Source: Hu, Wang, Gu, "PWSNAS: Powering Weight Sharing NAS With General Search Space Shrinking
Framework", TNNLS 2022, whose abstract names the aim: a lower degree of weight sharing through more
parameters in the supernet. How is our interpretation. The degree of sharing of an operation is how
many combinations of the other slots' operations use its weights. A clone has one copy of them for
each operation of the preceding slot, which divides its degree by their number; the copies begin as
what they are copied from. The supernet uses no more parameters than before any was dropped.
"""

from __future__ import annotations

import math

import numpy as np

from search.engine.run import Run


def sharing(mask: np.ndarray) -> list[int]:
    """Return the degree of sharing of each slot's operations under a bool (slots, operations)."""
    counts = [int(count) for count in mask.sum(1)]
    return [math.prod(counts) // count for count in counts]


def parameters_in_use(run: Run) -> int:
    """Count the parameters, of all copies, that allowed operations run."""
    copies = {(slot, op): by for slot, op, by in run.supernet.clones}
    mask, total = run.subspace.mask, 0
    for slot, op in np.argwhere(mask).tolist():
        by = copies.get((slot, op))
        times = 1 if by is None else int(mask[by].sum())
        total += times * run.supernet.operation_params(slot, op)
    return total


def clone_most_shared(run: Run, budget: int) -> list[tuple[int, int, int]]:
    """Clone operations in the order of their degree of sharing for as long as parameters are left.

    Of equally shared ones the smaller come first, so that more can be cloned.

    Args:
        run: momentum of what is cloned is copied too.
        budget: most parameters that allowed operations may run.

    Returns:
        The (slot, operation, preceding slot) of every clone.
    """
    mask, left = run.subspace.mask, budget - parameters_in_use(run)
    degree = sharing(mask)
    cloned = {(slot, op) for slot, op, _ in run.supernet.clones}
    candidates = []
    for slot, op in np.argwhere(mask).tolist():
        by, size = run.space.preceding(slot), run.supernet.operation_params(slot, op)
        # One copy would lower no degree.
        if by is not None and size and mask[by].sum() > 1 and (slot, op) not in cloned:
            cost = (int(mask[by].sum()) - 1) * size
            candidates.append((-degree[slot], cost, slot, op, by))
    done = []
    for _, cost, slot, op, by in sorted(candidates):
        if cost <= left:
            run.clone(slot, op, by)
            left -= cost
            done.append((slot, op, by))
    return done
