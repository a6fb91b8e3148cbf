"""What results on a dataset say of its other networks, in a space of cells.

The logit accuracy of a network is what the model predicts for it and what the model is off by: a
level and a slope, which all networks of the dataset share, a smooth function of what the predictor
sees in a network, and noise. So results are taken in by Gaussian-process regression whose mean is
the prediction (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm
2.1 and section 2.7).

How much the rest varies makes the results of 40 connected cells on each of six tasks of
TransNAS-Bench-101 most likely (mean over which of the seven is left out: steeper 0.21, slope 0.16,
smooth 0.59, length 0.49, noise 0.19), rounded. The smooth part alone is half of that: most of it
are cells that fail, and those are not suggested. ``benchmarks/given.py`` learns and judges it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metad2a.model.performance import HALF_WIDTH, percent

LEVEL = 3.0
"""Deviation of the level, in logits: it is left open, since results may come from longer trainings
than those that the model learnt from."""
STEEPER = 0.2
"""Logits by which networks differ more than predicted, for each unit of the prior's quality: a
training to the end tells them further apart than the short one that the model predicts."""
SLOPE = 0.15
"""Deviation of that."""
SMOOTH = 0.3
"""Deviation of the smooth function, in logits."""
LENGTH = 0.5
"""Root mean square difference of two networks' traits over which it changes (Matern 5/2)."""
NOISE = 0.2
"""Deviation of a result, in logits, beside that of a finite test side."""


@dataclass(frozen=True)
class Seen:
    """n networks as a model sees them on a dataset."""

    accuracy: np.ndarray
    """float64 (n,), predicted, in percent."""
    quality: np.ndarray
    """float64 (n,), the prior's."""
    traits: np.ndarray
    """float64 (n, d), what the predictor makes of the graphs."""

    def __getitem__(self, rows: np.ndarray) -> Seen:
        return Seen(self.accuracy[rows], self.quality[rows], self.traits[rows])

    @property
    def mean(self) -> np.ndarray:
        """What is expected before any result, but for the level: float64 (n,), logits."""
        found: np.ndarray = _logit(self.accuracy / 100) + STEEPER * self.quality
        return found


def conditioned(
    asked: Seen, known: Seen, reached: np.ndarray, judged: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is expected of networks once results of others are known.

    Args:
        asked: n networks.
        known: the m > 0 networks whose results are known.
        reached: float64 (m,), their results in percent.
        judged: int (m,), images on which each was measured.

    Returns:
        Accuracy, and lower and upper bound of its 90 % interval, in percent, float64 (n,) each.
    """
    values, noise = results_as_logits(reached, judged)
    across = covariance(known, asked)
    weights = np.linalg.solve(covariance(known, known) + np.diag(noise), across)
    middle = asked.mean + weights.T @ (values - known.mean)
    own = LEVEL**2 + SLOPE**2 * asked.quality**2 + SMOOTH**2 + NOISE**2
    half = HALF_WIDTH * np.sqrt(np.maximum(own - (weights * across).sum(0), NOISE**2))
    return percent(middle), percent(middle - half), percent(middle + half)


def results_as_logits(reached: np.ndarray, judged: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logits of accuracies in percent, and the variance of their noise, float64 (m,) each.

    Half an image is added to right and to wrong ones, so that 0 and 100 % stay finite.
    """
    part = 0.5 / judged
    share = (reached / 100 + part) / (1 + 2 * part)
    return _logit(share), NOISE**2 + 1 / (judged * share * (1 - share))


def covariance(a: Seen, b: Seen) -> np.ndarray:
    """Return float64 (n, m): how what the model is off by varies together."""
    squares = (a.traits**2).mean(1)[:, None] + (b.traits**2).mean(1)
    squares = squares - 2 * a.traits @ b.traits.T / a.traits.shape[1]
    apart = math.sqrt(5) / LENGTH * np.sqrt(np.maximum(squares, 0))
    smooth = (1 + apart + apart**2 / 3) * np.exp(-apart)
    linear = SLOPE**2 * np.outer(a.quality, b.quality)
    found: np.ndarray = LEVEL**2 + linear + SMOOTH**2 * smooth
    return found


def _logit(share: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(share) - np.log1p(-share)
    return found
