"""DARTS, second order: alphas descend the validation loss after a step that the weights would take.

Source: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019, section 2.3:
equation 7 with xi, the learning rate of the weights, above zero, with momentum and decay in the step,
and the finite differences of equation 8; algorithm 1 otherwise. The authors report 2.76 +- 0.09 %
test error on CIFAR-10, against 3.00 % of the first order. A step passes the network five times where
the first order passes it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metad2a.spaces import SearchSpace
from search.engine.method import METHODS
from search.engine.run import Batch, Run
from search.methods.darts import Darts

_REACH = 0.01  # how far, in all, the finite differences move the weights


def unrolled_gradient(
    alpha: Tensor,
    weights: Sequence[Tensor],
    velocity: Sequence[Tensor | None],
    train: Callable[[], Tensor],
    valid: Callable[[], Tensor],
    rate: float,
    momentum: float,
    decay: float,
) -> tuple[Tensor, float]:
    """Return the gradient by alpha of the validation loss after a step of the weights.

    With w' = w - rate * (momentum * velocity + dL_train/dw + decay * w) and v = dL_valid(w')/dw'
    it is dL_valid(w')/dalpha - rate * d2L_train/(dalpha dw) v, whose last product is
    (dL_train(w+)/dalpha - dL_train(w-)/dalpha) / (2 eps) at w+- = w +- eps v, eps = 0.01 / |v|.

    Args:
        alpha: requires a gradient; any shape.
        weights: require gradients; they are moved and, whatever happens, put back to the last bit.
        velocity: their momentum, None where there is none yet.
        train: returns the training loss at the present alpha and weights.
        valid: returns the validation loss.
        rate: learning rate of the weights.
        momentum: factor of their velocity.
        decay: L2 penalty on them.

    Returns:
        The gradient, of alpha's shape, and the validation loss at w'.
    """
    start = [weight.detach().clone() for weight in weights]
    try:
        slopes = torch.autograd.grad(train(), weights, allow_unused=True)
        with torch.no_grad():
            for weight, speed, slope in zip(weights, velocity, slopes, strict=True):
                if slope is not None:  # what has no gradient does not step
                    carried = 0.0 if speed is None else momentum * speed
                    weight.sub_(rate * (carried + slope + decay * weight))
        loss = valid()
        direct, *found = torch.autograd.grad(loss, [alpha, *weights], allow_unused=True)
        v = [torch.zeros_like(w) if s is None else s for w, s in zip(weights, found, strict=True)]
        norm = float(torch.linalg.vector_norm(torch.stack([s.float().norm() for s in v])))
        eps = _REACH / max(norm, torch.finfo(torch.float32).tiny)
        # New tensors: a captured graph reuses the memory of its gradients in its next pass.
        steps = [eps * slope for slope in v]
        sides = []
        for sign in (1, -1):
            with torch.no_grad():
                for weight, origin, step in zip(weights, start, steps, strict=True):
                    weight.copy_(origin + sign * step)
            sides.append(torch.autograd.grad(train(), alpha)[0])
    finally:
        with torch.no_grad():
            for weight, origin in zip(weights, start, strict=True):
                weight.copy_(origin)
    return direct - rate * (sides[0] - sides[1]) / (2 * eps), float(loss.detach())


@METHODS.register("darts2")
class Darts2(Darts):
    """DARTS with the unrolled step of the weights (Liu et al., ICLR 2019)."""

    def published_images(self, images: int, operations: int) -> int:
        """Return the images of all epochs: of each five in the place of two pass in a step."""
        return 5 * super().published_images(images, operations) // 2

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "its second order unrolls a step of SGD, and pretrained weights learn by another "
                "optimiser; use 'darts'."
            )
            if space.pretrained
            else None
        )

    def step(self, run: Run) -> float:
        """Descend by alpha through the unrolled step, then the training loss by the weights."""
        train, valid = run.batch("weights"), run.batch("architecture")
        gradient, loss = self._gradient(run, train, valid)
        if run.finite(loss):
            self.alphas.update(gradient, run.subspace.mask)
        return run.train_weights(train, [self.mixture(run)])

    def _gradient(self, run: Run, train: Batch, valid: Batch) -> tuple[Tensor, float]:
        """Return the second-order gradient, float (slots, operations), and the loss."""

        def loss(batch: Batch, side: str) -> Tensor:
            return run.loss(run.forward(batch.x, self.mixture(run)), batch, side)

        weights = list(run.network.parameters())
        state = run.optimiser.state
        found = unrolled_gradient(
            self.alphas.alpha,
            weights,
            [state.get(w, {}).get("momentum_buffer") for w in weights],
            lambda: loss(train, "weights"),
            lambda: loss(valid, "architecture"),
            run.rate,
            run.training.momentum,
            run.training.weight_decay,
        )
        run.images += 3 * len(train.y) + len(valid.y)
        return found
