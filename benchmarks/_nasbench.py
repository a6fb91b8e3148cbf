"""The published accuracies of all 15,625 cells on CIFAR-10, and how scores are held against them.

NAS-Bench-201: Dong and Yang, ICLR 2020. ``c10_test200`` is the test accuracy after 200 epochs.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from _report import need
from scipy.stats import kendalltau, spearmanr

from metad2a.spaces import SPACES, Architecture

SPACE = SPACES.get("nasbench201")
TRUTH = "c10_test200"
PICKS = (1, 5, 30)
"""Of how many first suggestions the best one is reported."""
FEWEST = 10
"""Cells below which a rank correlation is not reported."""
_TIES = 200


@dataclass(frozen=True)
class NasBench:
    """The table: official strings, and its columns as float64 (15625,), in the file's order."""

    strings: list[str]
    columns: dict[str, np.ndarray]

    @property
    def truth(self) -> np.ndarray:
        """float64 (15625,), test accuracy in percent."""
        return self.columns[TRUTH]

    @cached_property
    def cells(self) -> np.ndarray:
        """int64 (15625, slots)."""
        return SPACE.as_array(self.strings)

    @cached_property
    def place(self) -> dict[Architecture, int]:
        """Row of every cell."""
        return {tuple(cell): i for i, cell in enumerate(self.cells.tolist())}

    @cached_property
    def canonical(self) -> np.ndarray:
        """int64 (15625,): the row of the representative of each row's isomorphism class."""
        return np.array([self.place[SPACE.canonical(tuple(c))] for c in self.cells.tolist()])

    @cached_property
    def representatives(self) -> np.ndarray:
        """int64 (6466,): rows, one of each isomorphism class."""
        return np.unique(self.canonical)

    def truth_of(self, cells: np.ndarray) -> np.ndarray:
        """Return float64 (n,) test accuracies of int (n, slots) cells."""
        return self.truth[[self.place[tuple(cell)] for cell in cells.tolist()]]


def load(shared: Path) -> NasBench:
    """Read the table under ``shared``, or end with a message."""
    path = need(shared, "bench/nasbench201_cifar10.csv.gz")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    numeric = [name for name in rows[0] if name != "arch"]
    columns = {name: np.array([float(row[name]) for row in rows]) for name in numeric}
    return NasBench([row["arch"] for row in rows], columns)


def spearman(score: np.ndarray, truth: np.ndarray, above: float = -np.inf) -> float:
    """Return the rank correlation among cells whose truth exceeds ``above``, or NaN for too few."""
    kept = truth > above
    return float(spearmanr(score[kept], truth[kept]).statistic) if _ranked(score[kept]) else np.nan


def kendall(score: np.ndarray, truth: np.ndarray, above: float = -np.inf) -> float:
    """Return Kendall's tau-b, as :func:`spearman`."""
    kept = truth > above
    return float(kendalltau(score[kept], truth[kept]).statistic) if _ranked(score[kept]) else np.nan


def picks(score: np.ndarray, truth: np.ndarray, sizes: tuple[int, ...] = PICKS) -> list[float]:
    """Return the truth of the best of the first k, for each k of ``sizes``.

    Equal scores are put in a random order, and the mean over 200 such orders is returned; so a
    constant score is a random choice.
    """
    rng = np.random.default_rng(0)
    # Beyond the first k only what ties with the k-th can ever be picked.
    largest = min(max(sizes), len(score))
    able = np.flatnonzero(score >= np.sort(score)[-largest])
    score, truth = score[able], truth[able]
    ties = 1 if len(np.unique(score)) == len(score) else _TIES
    orders = [np.lexsort((rng.random(len(score)), -score)) for _ in range(ties)]
    return [float(np.mean([truth[order[:k]].max() for order in orders])) for k in sizes]


def _ranked(score: np.ndarray) -> bool:
    """Whether there are enough scores, and not all are equal; minus infinity is the lowest rank."""
    return len(score) >= FEWEST and len(np.unique(score)) > 1
