"""ProxylessNAS: weights descend along sampled paths, alphas by pairs of them; a cost weighs in.

Source: Cai, Zhu, Han, "ProxylessNAS: Direct Neural Architecture Search on Target Task and
Hardware", ICLR 2019: one-hot gates drawn from softmax(alpha), the gradient through them estimated
on two sampled paths whose common probability is then restored (section 3.2), and the expected cost
as a differentiable term of the loss (section 3.3). Alphas take one step for five of the weights,
after a warm-up of 40 of 120 epochs. The released ImageNet settings have 256 images a step; here 64,
as on small datasets a budget would else be few steps. The authors report 2.08 % test error on
CIFAR-10, in a space of chains.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from metad2a.spaces.supernets.gates import Gates
from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.gradient.alphas import ArchitectureParameters, masked_softmax, preserve_mass
from search.gradient.differentiable import DifferentiableMethod
from search.gradient.two_path import draw_pairs, draw_path, two_path_gates

_WARM_UP = 40 / 120  # fraction of the phase in which only weights learn
_EVERY = 5  # steps of the weights for one of the alphas


@METHODS.register("proxylessnas")
class ProxylessNas(DifferentiableMethod):
    """Binary gates with two-path gradients (Cai et al., ICLR 2019).

    Args:
        alpha_lr: learning rate of Adam on alphas.
        cost_weight: of the expected MACs in the alphas' loss, as a share of those of the costliest
            architecture that limits allow. Where limits forbid none, it is left out.
        faithful: as the released code, alphas of a slot whose active operation is ``none`` stay.
            The estimate is as good there as anywhere, so by default they learn.
    """

    bilevel = True
    epochs = 120
    training = Training(
        batch=64, lr=0.025, lr_final=0.0, nesterov=True, weight_decay=4e-5, label_smoothing=0.1
    )

    def __init__(
        self, alpha_lr: float = 1e-3, cost_weight: float = 0.1, faithful: bool = False
    ) -> None:
        self.alpha_lr, self.cost_weight, self.faithful = alpha_lr, cost_weight, faithful

    def begin(self, run: Run) -> None:
        """Split the images and start from nearly equal alphas."""
        run.split_sides()
        self.alphas = ArchitectureParameters(
            run.subspace.mask,
            run.rng,
            lr=self.alpha_lr,
            betas=(0.0, 0.999),
            weight_decay=0.0,
            device=run.place.device,
        )
        self.prices = cost_shares(run).to(run.place.device)

    def step(self, run: Run) -> float:
        """Descend the training loss along one path; when due, the validation loss by alpha."""
        path = Gates(draw_path(self._probabilities(run), run.rng))
        loss = run.train_weights(run.batch("weights"), [path])
        if run.fraction >= _WARM_UP and run.steps % _EVERY == 0:
            self._step_alphas(run)
        return loss

    def _step_alphas(self, run: Run) -> None:
        active, idle = draw_pairs(self._probabilities(run), run.rng)
        gates = two_path_gates(self.alphas.alpha, active, idle)
        gradient, loss = self.gate_gradient(run, run.batch("architecture"), gates)
        if not run.finite(loss):
            return
        pair, before = active | idle, self.alphas.alpha.detach().clone()
        p = masked_softmax(before, pair)
        gradient = gradient + self.cost_weight * cost_gradient(p, self.prices)
        if self.faithful and "none" in run.space.operations:
            pair[active[:, run.space.operations.index("none")]] = False
        self.alphas.update(gradient, pair)
        preserve_mass(self.alphas.alpha, pair, before)

    def _probabilities(self, run: Run) -> np.ndarray:
        mask = run.subspace.mask
        found: np.ndarray = self.alphas.probabilities(mask).detach().double().cpu().numpy()
        return found

    def tensors(self) -> dict[str, Tensor]:
        """Return alpha, the moments of its optimiser, and the prices of operations."""
        return {**super().tensors(), "prices": self.prices}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        super().restore(tensors, facts)
        self.prices = tensors["prices"].to(self.prices)


def cost_shares(run: Run) -> Tensor:
    """Return float32 (slots, operations): MACs, in units of the costliest allowed architecture's.

    All are zero where limits forbid none.
    """
    _, table = run.space.cost_table(run.data.classes, run.space.input_size)
    macs = table[..., 1].astype(np.float64)
    costliest = run.space.discretise(np.where(run.subspace.mask, macs, -np.inf))
    if run.subspace.contains(costliest):
        return torch.zeros(macs.shape)
    allowed, _ = run.subspace.best(macs)
    return torch.from_numpy(macs / run.space.cost(allowed, run.data.classes).macs).float()


def cost_gradient(probabilities: Tensor, prices: Tensor) -> Tensor:
    """Return float (slots, operations): the gradient of the expected price by alpha.

    Args:
        probabilities: float (slots, operations), the softmax of alpha.
        prices: float (slots, operations), of each operation.
    """
    expected = (probabilities * prices).sum(-1, keepdim=True)
    return probabilities * (prices - expected)
