"""DropNAS: operations are dropped in groups; weights and alphas learn from one backward pass.

Source: Hong et al., "DropNAS: Grouped Operation Dropout for Differentiable Architecture Search",
IJCAI 2020, and its published code. Trained all together, the operations that learn fast, those
without parameters first, take the gradient from the others (the "Matthew effect"). Hence grouped
operation dropout (``search.gradient.group_dropout``), one level instead of two, a decay that spares
what was dropped (*partial decay*), and a shift of the kept alphas after each step that leaves the
probabilities of the dropped ones as they were (*alpha adjustment*). The raw alphas, not their
softmax, name the winner.

The authors report 97.42 +- 0.14 % mean test accuracy on CIFAR-10 and 97.74 % in the best of their
runs; 83.05 +- 0.41 % and 83.61 % on CIFAR-100.

With ``faithful`` a step is the published code's, which differs from the paper's intent: two steps
of both optimisers, the second along the gradient of lambda |w|^2, twice the usual decay; a weight
tensor counts as kept if the first entry of its gradient is not zero; momentum moves the weights,
and Adam the alphas, of dropped operations; and p = r^(1/4) whatever a group's size.
"""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from metad2a.errors import InputError
from metad2a.spaces.supernets.gates import Gates
from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.gradient.alphas import ArchitectureParameters, preserve_mass
from search.gradient.differentiable import DifferentiableMethod
from search.gradient.group_dropout import draw_kept, groups

_DECAY = 3e-4  # of the weights
_MOST = 0.9  # of the drop path rate: a group is then drawn ten times on average
_PUBLISHED_SIZE = 4  # of both groups, in the published code
_PUBLISHED_ZERO = 1e-7  # alphas of a smaller gradient do not decay, in the published code


@METHODS.register("dropnas")
class DropNas(DifferentiableMethod):
    """Grouped operation dropout, one-level (Hong et al., IJCAI 2020).

    Args:
        rate: the drop path rate r of both groups, 0 to 0.9; 0 is one-level DARTS.
        alpha_lr: learning rate of the alphas' Adam.
        alpha_decay: weight decay of the alphas.
        faithful: take the published code's steps.

    Raises:
        InputError: the rate is out of range.
    """

    epochs = 76
    published_sizes = MappingProxyType({"darts": {"cells": 14}})
    training = Training(batch=96, lr=0.0375, lr_final=0.0015, weight_decay=_DECAY, clip=3.0)

    def __init__(
        self,
        rate: float = 3e-5,
        alpha_lr: float = 3e-4,
        alpha_decay: float = 1e-3,
        faithful: bool = False,
    ) -> None:
        if not 0 <= rate <= _MOST:
            raise InputError(
                f"rate={rate} is the chance that all operations of a group are "
                f"dropped at once, before they are drawn again; use 0 to {_MOST}."
            )
        self.rate, self.alpha_lr, self.alpha_decay = rate, alpha_lr, alpha_decay
        self.faithful = faithful
        if faithful:  # decay is a step of its own
            self.training = replace(self.training, weight_decay=0.0)

    def begin(self, run: Run) -> None:
        """Start from nearly equal alphas; all training images train both levels."""
        self.alphas = ArchitectureParameters(
            run.subspace.mask,
            run.rng,
            lr=self.alpha_lr,
            device=run.place.device,
            weight_decay=0.0 if self.faithful else self.alpha_decay,
        )

    def slot_scores(self, run: Run) -> np.ndarray:
        """Return the raw alphas."""
        return self.alphas.scores()

    def step(self, run: Run) -> float:
        """Drop operations, descend by weights and alphas on one batch, adjust the alphas."""
        mask = run.subspace.mask
        kept = draw_kept(
            mask,
            groups(run.space.operations),
            self.rate,
            run.rng,
            size=_PUBLISHED_SIZE if self.faithful else 0,
        )
        alpha = self.alphas.alpha
        alpha.grad = None
        loss = run.backward(run.batch(), [Gates.mixture(self.alphas.probabilities(kept), kept)])
        gradient = alpha.grad
        assert gradient is not None  # the backward pass has just put it there
        before = alpha.detach().clone()
        adjusted = kept & (kept != mask).any(1, keepdims=True)
        if not self.faithful:
            if run.descend(loss):
                self.alphas.update(gradient, kept)
                preserve_mass(alpha, adjusted, before)
        elif self._published_step(run, loss, gradient):
            preserve_mass(alpha, adjusted, before, dropped=mask & ~kept)
        return loss

    def _published_step(self, run: Run, loss: float, gradient: Tensor) -> bool:
        """Take the published code's two steps; False, and none, if the loss is no number."""
        weights = list(run.network.parameters())
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
        if not run.descend(loss):
            return False
        self.alphas.update(gradient, run.subspace.mask)
        for weight in weights:
            assert weight.grad is not None  # filled in above
            first = weight.grad[(0,) * weight.dim()]
            weight.grad = torch.where(first != 0, 2 * _DECAY * weight.detach(), 0.0)
        run.descend(loss)
        decay = 2 * self.alpha_decay * self.alphas.alpha.detach()
        touched = gradient.abs() > _PUBLISHED_ZERO
        self.alphas.update(torch.where(touched, decay, 0.0), run.subspace.mask)
        return True
