"""Binary gates over two operations a slot: one runs and learns, the other only teaches its gate.

Source: Cai, Zhu, Han, "ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware", ICLR 2019, section 3.2: one-hot gates drawn from the softmax of alpha (equation 3), the
gradient of alpha through them (equation 4), and its estimate on two sampled paths (section 3.2.1).
The released code draws the pair by the softmax of alpha without replacement, and the active one by
the softmax over the pair.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from metad2a.spaces.supernets.gates import Gates
from search.gradient.alphas import masked_softmax


def draw_path(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one operation a slot; returns bool (slots, operations).

    Args:
        probabilities: float (slots, operations); an operation of probability 0 is never drawn.
        rng: source of the draw.
    """
    return _marked(_noisy(probabilities, rng).argmax(1), probabilities)


def draw_pairs(
    probabilities: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw two operations a slot without replacement, and which of them is active.

    Args:
        probabilities: float (slots, operations); an operation of probability 0 is never drawn.
        rng: source of the draw.

    Returns:
        bool (slots, operations) active, one a slot, and idle: one, or none where a slot has no
        second operation.
    """
    slots = np.arange(len(probabilities))
    # The two largest values of log p with Gumbel noise are a draw of two without replacement.
    first, second = _noisy(probabilities, rng).argsort(1)[:, :-3:-1].T
    p_first, p_second = probabilities[slots, first], probabilities[slots, second]
    exchanged = rng.random(len(slots)) * (p_first + p_second) < p_second
    active = _marked(np.where(exchanged, second, first), probabilities)
    idle = _marked(np.where(exchanged, first, second), probabilities)
    return active, idle & (p_second > 0)[:, None]


def two_path_gates(alpha: Tensor, active: np.ndarray, idle: np.ndarray) -> Gates:
    """Return binary gates whose gradient leads back to alpha, by equation 4 on the pair.

    With p the softmax over the pair, dL/dalpha_i = sum_j dL/dg_j p_j (delta_ij - p_i), where
    dL/dg_j is the inner product of an operation's output and the gradient by its slot's output. The
    idle operation has the gate 0 and is frozen: it is computed for that product only.

    Args:
        alpha: float (slots, operations) logits.
        active: bool (slots, operations), one a slot.
        idle: bool (slots, operations), at most one a slot, and another one.
    """
    p = masked_softmax(alpha, active | idle)
    one_hot = torch.as_tensor(active, device=alpha.device, dtype=p.dtype)
    return Gates(active | idle, one_hot + (p - p.detach()), frozen=idle)


def _noisy(probabilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    with np.errstate(divide="ignore"):  # -inf is what an impossible operation needs
        noisy: np.ndarray = np.log(probabilities) + rng.gumbel(size=probabilities.shape)
    return noisy


def _marked(chosen: np.ndarray, like: np.ndarray) -> np.ndarray:
    marked: np.ndarray = np.eye(like.shape[1], dtype=bool)[chosen]
    return marked
