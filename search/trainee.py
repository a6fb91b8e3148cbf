"""A network beside the supernet in training, and what a checkpoint must hold of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from search.method import Training
from search.optimiser import descend, optimiser_of
from search.run import Run
from search.tensors import load_momentum, momentum, under, with_prefix


class Trainee:
    """A network that learns from a run's labelled images.

    Args:
        network: on the run's device.
        training: momentum, weight decay and clipping; rates are given at each step.
    """

    def __init__(self, network: nn.Module, training: Training) -> None:
        self.network, self.training = network, training
        self.optimiser = optimiser_of(network, training)

    def step(self, rate: float) -> None:
        """Step along the gradients that are there, at a learning rate."""
        descend(self.network, self.optimiser, self.training, rate)

    def learn(self, run: Run, rate: float) -> float:
        """Take one step on the next batch at a learning rate and return its loss."""
        batch = run.batch()
        self.network.train()
        self.network.zero_grad(set_to_none=True)
        with run.place.autocast():
            logits = self.network(batch.x)
        loss = run.loss(logits.float(), batch, "weights")
        loss.backward()
        run.images += len(batch.y)
        value = float(loss.detach())
        if run.finite(value):
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip or math.inf)
            self.step(rate)
        return value

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, statistics and momentum, by name."""
        return {
            **with_prefix("network", self.network.state_dict()),
            **with_prefix("momentum", momentum(self.network, self.optimiser)),
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        self.network.load_state_dict(under("network", tensors))
        load_momentum(self.network, self.optimiser, under("momentum", tensors))
