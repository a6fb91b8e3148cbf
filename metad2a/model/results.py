"""What results on a dataset say of its other networks, in a space of cells.

The logit accuracy of a network is what the model predicts for it and what the model is off by: a
level and a slope, which all networks of the dataset share, a smooth function of what the predictor
sees in a network, and noise. So results are taken in by Gaussian-process regression whose mean is
the prediction (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, algorithm
2.1 and section 2.7). The level is left open: results may come from longer trainings than those that
the model learnt from. How much the rest varies was learnt where results are known and stand aside:
``benchmarks/given.py`` does it, task by task, and judges it.
"""

from __future__ import annotations

import math

import numpy as np

LEVEL = 3.0
"""Deviation of the level, in logits."""
SLOPE = 0.5
"""Deviation of the slope: 0.5 lets what is predicted to differ by a logit differ by 0.5 to 1.5."""
SMOOTH = 0.3
"""Deviation of the smooth function, in logits."""
LENGTH = 0.5
"""Root mean square difference of two networks' traits over which it changes (Matern 5/2)."""
NOISE = 0.2
"""Deviation of a result, in logits, beside that of a finite test side."""
HALF_WIDTH = 1.6449
"""Half the width of a 90 % interval, in deviations of a normal distribution."""


def conditioned(
    mean: np.ndarray,
    traits: np.ndarray,
    known_mean: np.ndarray,
    known_traits: np.ndarray,
    reached: np.ndarray,
    judged: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what is expected of networks once results of others are known.

    Args:
        mean: float64 (n,), predicted accuracies in percent.
        traits: float64 (n, d), what the predictor sees in the networks.
        known_mean: float64 (m,), predictions of the networks whose results are known, m > 0.
        known_traits: float64 (m, d).
        reached: float64 (m,), their results in percent.
        judged: int (m,), images on which each was measured.

    Returns:
        Accuracy, and lower and upper bound of its 90 % interval, in percent, float64 (n,) each.
    """
    x, known = _logit(mean / 100), _logit(known_mean / 100)
    part = 0.5 / judged
    share = (reached / 100 + part) / (1 + 2 * part)
    noise = NOISE**2 + 1 / (judged * share * (1 - share))
    inner = _covariance(known, known, known_traits, known_traits) + np.diag(noise)
    across = _covariance(known, x, known_traits, traits)
    weights = np.linalg.solve(inner, across)
    middle = x + weights.T @ (_logit(share) - known)
    own = LEVEL**2 + SLOPE**2 * x**2 + SMOOTH**2 + NOISE**2
    half = HALF_WIDTH * np.sqrt(np.maximum(own - (weights * across).sum(0), NOISE**2))
    return _percent(middle), _percent(middle - half), _percent(middle + half)


def _covariance(
    a: np.ndarray, b: np.ndarray, traits_a: np.ndarray, traits_b: np.ndarray
) -> np.ndarray:
    """Return float64 (n, m): how what the model is off by varies together."""
    squares = (traits_a**2).mean(1)[:, None] + (traits_b**2).mean(1)
    squares = squares - 2 * traits_a @ traits_b.T / traits_a.shape[1]
    apart = math.sqrt(5) / LENGTH * np.sqrt(np.maximum(squares, 0))
    smooth = (1 + apart + apart**2 / 3) * np.exp(-apart)
    found: np.ndarray = LEVEL**2 + SLOPE**2 * np.outer(a, b) + SMOOTH**2 * smooth
    return found


def _logit(share: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.log(share) - np.log1p(-share)
    return found


def _percent(logits: np.ndarray) -> np.ndarray:
    found: np.ndarray = 100 / (1 + np.exp(-logits))
    return found
