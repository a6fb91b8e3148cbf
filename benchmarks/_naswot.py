"""The NASWOT evaluator against the published column of scores for CIFAR-10.

The published scores come from networks of the benchmark's size with other initial weights and
another mini-batch, and count every ReLU that runs. The paper's code and the evaluator count only
those that the backward pass reaches. So the comparison is on cells whose operations all lie between
input and output, where the two are one.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _nasbench import SPACE, load, spearman
from labels import cifar10_task

from search.scores.base import Context
from search.scores.zero_cost import Naswot


def whole(cells: np.ndarray) -> np.ndarray:
    """Return bool (n,): whether each operation but ``none`` of int (n, slots) cells is used."""
    live = cells != SPACE.operations.index("none")
    used = np.zeros_like(live)
    for path in map(list, SPACE.paths()):
        used[:, path] |= live[:, path].all(1, keepdims=True)
    joined: np.ndarray = (used == live).all(1) & live.any(1)
    return joined


def compare(shared: Path, cells: int = 300, only_whole: bool = True) -> float:
    """Return Spearman's rank correlation with ``c10_naswot`` over random cells.

    Args:
        shared: where CIFAR-10 and the table are.
        cells: how many are drawn; each costs a forward pass of 128 images through the networks
            that a search on a CPU has.
        only_whole: draw among the cells whose operations are all used; else among all.
    """
    bench = load(shared)
    among = np.flatnonzero(whole(bench.cells) | (not only_whole))
    rows = np.random.default_rng(0).choice(among, cells, replace=False)
    judge = Naswot(Context(SPACE, cifar10_task(shared)))
    own = judge.score([tuple(cell) for cell in bench.cells[rows].tolist()])
    return spearman(own, bench.columns["c10_naswot"][rows])
