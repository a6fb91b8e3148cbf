"""The NASWOT evaluator against the column that NASLib published for CIFAR-10.

The published scores (Krishnakumar et al., "NAS-Bench-Suite-Zero", NeurIPS 2022) come from networks
of the benchmark's size with other initial weights and another mini-batch.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _nasbench import SPACE, load, spearman
from labels import cifar10_task

from search.evaluators import Context
from search.evaluators.naswot import Naswot


def compare(shared: Path, cells: int = 300) -> float:
    """Return Spearman's rank correlation with ``c10_naswot`` over random cells.

    Args:
        shared: where CIFAR-10 and the table are.
        cells: how many are drawn; each costs a forward pass of 128 images.
    """
    bench = load(shared)
    rows = np.random.default_rng(0).choice(len(bench.strings), cells, replace=False)
    judge = Naswot(Context(SPACE, cifar10_task(shared)), SPACE.published_macro)
    own = judge.score([tuple(cell) for cell in bench.cells[rows].tolist()])
    return spearman(own, bench.columns["c10_naswot"][rows])
