"""One architecture in training, alone: from scratch, or from the space's pretrained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from torch import Tensor

from metad2a.spaces import Architecture
from metad2a.training.device import seeded
from search.judging import share_right
from search.pretrained import begin_alone, finish
from search.run import Run
from search.trainee import Trainee

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

_WARM_UP = 0.1  # fraction of a training in which the learning rate rises, from a tenth


class Trial(Trainee):
    """A plain network of the run's macro.

    Args:
        run: the search; ``run.training`` says how to train.
        architecture: one operation index per slot.
        seed: of the initial weights.
    """

    def __init__(self, run: Run, architecture: Architecture, seed: int = 0) -> None:
        self.architecture = architecture
        with seeded(seed):
            network = run.space.build(
                architecture, run.data.classes, pretrained=run.space.pretrained, **run.macro
            )
        super().__init__(run.place.place(network), run.training)
        if run.space.pretrained:
            begin_alone(run, cast("InvertedResidualNetwork", self.network))

    def advance(self, run: Run, done: float) -> float:
        """Take one SGD step and return its loss; ``done`` is the fraction of the training."""
        return self.learn(run, run.rate * min(1.0, 0.1 + done / _WARM_UP))

    def accuracy(self, run: Run, seconds: float) -> float:
        """Return the share (0..1) of right answers on the images that choose.

        Where they are many and the network is large, of those that were seen in the seconds given.
        """

        if run.space.pretrained:
            finish(run, cast("InvertedResidualNetwork", self.network))

        def answer(index: Tensor) -> Tensor:
            with run.place.autocast():
                logits: Tensor = self.network(run.valid_x[index])
            return logits

        self.network.eval()
        return share_right(answer, run.valid_y, run.seed, seconds)[0]
