"""One architecture in training, alone and from scratch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from metad2a.spaces import Architecture
from search.device import seeded
from search.run import Run
from search.trainer import accuracy

_WARM_UP = 0.1  # fraction of a training in which the learning rate rises, from a tenth


class Trial:
    """A plain network of the run's macro, and its optimiser.

    Args:
        run: the search; ``run.training`` says how to train.
        architecture: one operation index per slot.
        seed: of the initial weights.
    """

    def __init__(self, run: Run, architecture: Architecture, seed: int = 0) -> None:
        self.architecture = architecture
        with seeded(seed):
            network = run.space.build(architecture, run.data.classes, **run.macro)
        self.network = run.place.place(network)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), run.training.lr, run.training.momentum,
            weight_decay=run.training.weight_decay, nesterov=run.training.nesterov,
        )

    def step(self, run: Run, done: float) -> float:
        """Take one SGD step and return its loss; ``done`` is the fraction of the training."""
        batch = run.batch()
        self.network.train()
        self.optimiser.zero_grad(set_to_none=True)
        with run.place.autocast():
            logits = self.network(batch.x)
        loss = run.loss(logits.float(), batch, "weights")
        loss.backward()
        run.images += len(batch.y)
        value = float(loss.detach())
        if run.finite(value):
            for group in self.optimiser.param_groups:
                group["lr"] = run.rate * min(1.0, 0.1 + done / _WARM_UP)
            self.optimiser.step()
        return value

    def accuracy(self, run: Run) -> float:
        """Return the share (0..1) of right answers on the held-out images."""
        return accuracy(self.network, run.valid_x, run.valid_y, run.place)

    def tensors(self) -> dict[str, Tensor]:
        """Return weights, statistics and momentum, by name."""
        found = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for name, parameter in self.network.named_parameters():
            if parameter in self.optimiser.state:
                found[f"momentum.{name}"] = self.optimiser.state[parameter]["momentum_buffer"]
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`tensors` returned."""
        self.network.load_state_dict(under("network", tensors))
        parameters = dict(self.network.named_parameters())
        for name, value in under("momentum", tensors).items():
            # In the memory order of the parameter.
            buffer = torch.empty_like(parameters[name]).copy_(value).detach()
            self.optimiser.state[parameters[name]]["momentum_buffer"] = buffer


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors named ``prefix.NAME``, by NAME."""
    return {name.removeprefix(f"{prefix}."): value for name, value in tensors.items()
            if name.startswith(f"{prefix}.")}
