"""The closed-form classifier: ridge regression on one-hot targets, judged by leaving one out.

Fitted by one eigendecomposition for a whole grid of penalties, in the smaller of the two forms
(features or images). What it says of an image when it has not seen it follows in closed form from
the hat matrix (Allen's PRESS; Cawley and Talbot, "Fast exact leave-one-out cross-validation of
sparse least-squares support vector machines", 2004). The intercept is not penalised and takes its
share of the leverage, weight over the sum of weights (1/n), *on the diagonal*: without it small
penalties look perfect once features outnumber images.

Leaving an image out also makes its own class rarer among the rest, so that where features say
nothing every image would be taken for another class: random labels would come out *below* chance.
The class shares of all images are therefore put back into what is said of an image left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

PENALTIES = tuple(10.0 ** (0.5 * step) for step in range(-6, 5))
"""Penalties, as multiples of the mean squared length of a centred image's features: 1e-3..100."""
SCALES = tuple(2.0**step for step in range(7))
"""Factors from regression on 0/1 targets to logits: 1..64."""
_DOUBLE = 700
"""Largest eigenproblem solved in double precision; larger ones would take seconds."""
_ROWS = 8192
"""Images whose features are held in the working precision at once."""


@dataclass(frozen=True)
class RidgeHead:
    """A linear classifier in closed form, and what it says of images that it has not seen."""

    weight: Tensor
    """float32 (classes, features): logits are ``features @ weight.T + bias``."""
    bias: Tensor
    """float32 (classes,)."""
    penalty: float
    """The one of :data:`PENALTIES` (or of those given) that was chosen."""
    scale: float
    """The one of :data:`SCALES` that was chosen; it is part of ``weight`` and ``bias``."""
    left_out: Tensor
    """float32 (n, classes): logits of each image by the head fitted without it, class shares
    put back."""
    cross_entropy: float
    """Of ``left_out``, weighted mean in nats."""
    accuracy: float
    """Share of images, 0..1, that ``left_out`` gets right; 1/classes or so where labels are
    random."""


def fit_ridge(
    features: Tensor,
    labels: Tensor,
    classes: int,
    weights: Tensor | None = None,
    penalties: Sequence[float] = PENALTIES,
    scales: Sequence[float] = SCALES,
) -> RidgeHead:
    """Fit the head; penalty and scale are those of the least leave-one-out cross-entropy.

    Args:
        features: float (n, f), n >= 2, on any device.
        labels: int64 (n,), 0 .. classes - 1, on the same device.
        classes: outputs of the head.
        weights: float (n,), positive; of an image in the fit, in the choice and in the class
            shares (``1 / images of its class`` makes classes count alike). None: all alike.
        penalties: positive, relative as in :data:`PENALTIES`.
        scales: positive.

    Raises:
        ValueError: fewer than two images.
    """
    n, f = features.shape
    if n < 2:
        raise ValueError(f"{n} images cannot be left out one at a time; give 2 or more")
    size = min(n, f)
    work = torch.float64 if size <= _DOUBLE and features.device.type != "mps" else torch.float32
    share = torch.ones(n, device=features.device, dtype=work) if weights is None else weights
    share = share.to(work) / share.to(work).sum()
    mean = torch.zeros(f, device=features.device, dtype=work)
    for rows in _rows(n):
        mean += share[rows] @ features[rows].to(work)
    prior = torch.zeros(classes, device=features.device, dtype=work).index_add_(0, labels, share)

    # Rows weighted by the root of n times their share, so that without weights they stay as they
    # are; z has the images' coordinates in the eigenbasis, targets are centred and weighted too.
    root = (share * n).sqrt()[:, None]
    values, z, back = _decompose(features, mean, root, size)
    # Where every image is alike but for rounding, any penalty gives the class shares.
    unit = max(float(values.sum()) / n, 1e-12 * float(mean @ mean), 1e-30)
    targets = torch.nn.functional.one_hot(labels, classes).to(work) - prior
    moment = z.T @ (root * targets)
    # What leaving an image out takes from the share of its own class, see the head of this file.
    missing = share / (1 - share)

    best: tuple[float, float, float] | None = None
    logits = features.new_zeros(0)
    for penalty in penalties:
        shrunk = 1 / (values + penalty * unit)
        fitted = (z @ (shrunk[:, None] * moment)) / root
        leverage = share + (z**2) @ shrunk
        rest = (1 - leverage).clamp_min(1e-9)[:, None]
        out = targets - (targets - fitted) / rest + missing[:, None] * targets + prior
        for scale in scales:
            loss = float(
                share
                @ torch.nn.functional.cross_entropy(scale * out, labels, reduction="none").to(work)
            )
            if best is None or loss < best[0]:
                best, logits = (loss, penalty, scale), scale * out
    if best is None:
        raise ValueError("penalties and scales must not be empty")
    loss, penalty, scale = best
    solved = moment / (values + penalty * unit)[:, None]
    weight = scale * _weight(back, solved, features, mean, root)
    bias = scale * prior - weight @ mean
    right = logits.argmax(1) == labels
    return RidgeHead(
        weight.float(),
        bias.float(),
        penalty,
        scale,
        logits.float(),
        loss,
        float(right.double().mean()),
    )


def _rows(n: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]


def _decompose(
    features: Tensor, mean: Tensor, root: Tensor, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return eigenvalues (size,), images (n, size) in the eigenbasis, and the way back.

    The way back is the basis itself, (f, size), where there are no more features than images;
    else (n, size), which takes the images' features to it.
    """
    n, f = features.shape
    work = mean.dtype
    if n < f:
        centred = root * (features.to(work) - mean)
        values, basis = _eigh(centred @ centred.T)
        lengths = values.clamp_min(0).sqrt()
        # Directions that no image has are left out of the way back.
        inverse = torch.where(lengths > 1e-6 * lengths.amax(), 1 / lengths, 0)
        return values.clamp_min(0), basis * lengths, basis * inverse
    gram = torch.zeros(size, size, device=features.device, dtype=work)
    for rows in _rows(n):
        part = root[rows] * (features[rows].to(work) - mean)
        gram += part.T @ part
    values, basis = _eigh(gram)
    z = torch.cat([root[r] * ((features[r].to(work) - mean) @ basis) for r in _rows(n)])
    return values.clamp_min(0), z, basis


def _eigh(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Decompose a symmetric matrix, in double precision where single does not converge."""
    try:
        values, basis = torch.linalg.eigh(gram)
    except RuntimeError:  # What torch raises is one, of a name that it does not export.
        values, basis = (part.to(gram.dtype) for part in torch.linalg.eigh(gram.double()))
    return values, basis


def _weight(back: Tensor, solved: Tensor, features: Tensor, mean: Tensor, root: Tensor) -> Tensor:
    """Return the weights (classes, f) from what was solved in the eigenbasis, (size, classes)."""
    mixed = back @ solved
    if len(back) == features.shape[1]:
        return mixed.T
    return mixed.T @ (root * (features.to(mean.dtype) - mean))
