"""DARTS, first order: alphas and weights descend in turn, each on its own half of the images.

Source: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019: the continuous
relaxation (equation 2), the bi-level problem (equations 3 and 4), and algorithm 1 with xi = 0.
Settings are those of section 3.1 and appendix A.1. The authors report 3.00 % test error on CIFAR-10
with this order, and the collapse to skip connections on NAS-Bench-201 is expected behaviour.
"""

from __future__ import annotations

from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.gradient.alphas import ArchitectureParameters
from search.gradient.differentiable import DifferentiableMethod


@METHODS.register("darts")
class Darts(DifferentiableMethod):
    """DARTS with the first-order approximation (Liu et al., ICLR 2019)."""

    bilevel = True
    epochs = 50
    training = Training(batch=64, lr=0.025, lr_final=0.001, weight_decay=3e-4, clip=5.0)

    def __init__(self, alpha_lr: float = 3e-4, alpha_decay: float = 1e-3) -> None:
        self.alpha_lr, self.alpha_decay = alpha_lr, alpha_decay

    def begin(self, run: Run) -> None:
        """Split the images and start from nearly equal alphas."""
        run.split_sides()
        self.alphas = ArchitectureParameters(
            run.subspace.mask,
            run.rng,
            lr=self.alpha_lr,
            weight_decay=self.alpha_decay,
            device=run.place.device,
        )

    def step(self, run: Run) -> float:
        """Descend the validation loss by alpha, then the training loss by the weights."""
        gradient, loss = self.gate_gradient(run, run.batch("architecture"), self.mixture(run))
        if run.finite(loss):
            self.alphas.update(gradient, run.subspace.mask)
        return run.train_weights(run.batch("weights"), [self.mixture(run)])
