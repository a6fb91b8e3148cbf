"""DARTS, second order: alphas descend the validation loss after a step that the weights would take.

Source: Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019: equation 7 with
xi, the learning rate of the weights, above zero, and its finite differences (equation 8), as in
``search.unrolled``; algorithm 1 otherwise. The authors report 2.76 +- 0.09 % test error on
CIFAR-10, against 3.00 % of the first order. A step passes the network five times where the first
order passes it twice.
"""

from __future__ import annotations

from torch import Tensor

from metad2a.spaces import SearchSpace
from search.method import METHODS
from search.methods.darts import Darts
from search.run import Batch, Run
from search.unrolled import unrolled_gradient


@METHODS.register("darts2")
class Darts2(Darts):
    """DARTS with the unrolled step of the weights (Liu et al., ICLR 2019)."""

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
