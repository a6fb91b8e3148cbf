"""What searches that train every architecture alone share: the budget, in equal parts.

Each training has an equal part of the budget, starts from scratch or from the space's pretrained
weights, follows the recipe of the project's stand-alone labels
(:mod:`search.labellers.standalone`) stretched over its part, and ends with the accuracy on the
held-out images.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.protocol import Standalone
from metad2a.spaces import Architecture
from metad2a.training.device import seeded
from search.engine.checkpoint import under
from search.engine.inheritance import begin_alone, finish
from search.engine.judging import share_right
from search.engine.learner import Learner
from search.engine.method import Method, Ranking, Training
from search.engine.run import Run
from search.sampling.candidates import unseen

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

_RECIPE = Standalone()
_JUDGED = 0.1  # of a training's part of the time, at most, for its accuracy
_WARM_UP = 0.1  # fraction of a training in which the learning rate rises, from a tenth


class StandaloneMethod(Method):
    """A search that trains one architecture after another, and keeps the best network.

    Args:
        trainings: among how many the budget is divided.

    Raises:
        InputError: fewer than one training.
    """

    shared_training = False
    population = True
    protocol = "trained alone on its part of the budget, on held-out images"

    def __init__(self, trainings: int) -> None:
        if trainings < 1:
            raise InputError(f"trainings={trainings} must be 1 or more.")
        self.trainings = trainings
        self.training = Training(
            _RECIPE.batch,
            _RECIPE.peak_lr,
            lr_final=0.0,
            cycles=trainings,
            nesterov=True,
            weight_decay=_RECIPE.weight_decay,
            label_smoothing=_RECIPE.label_smoothing,
        )

    @abstractmethod
    def propose(self, run: Run) -> Architecture:
        """Draw a member of ``run.subspace`` to be trained next."""

    def begin(self, run: Run) -> None:
        """Start with nothing trained."""
        self._run = run  # in which networks are built anew when a checkpoint is taken over
        self.results: list[tuple[Architecture, float]] = []  # in the order of training
        self.present: Trial | None = None
        self.best: Trial | None = None
        self.number = -1  # of the present part of the budget

    def step(self, run: Run) -> float:
        """Take one step of the present training; where its part is over, begin the next."""
        number = int(run.fraction * self.trainings)
        if self.present is None or number != self.number:
            self._end()
            self.present, self.number = self._begin(), number
        return self.present.advance(run, run.fraction * self.trainings - number)

    def _begin(self) -> Trial:
        run = self._run
        seen = {run.space.canonical(architecture) for architecture, _ in self.results}
        chosen = unseen(run, seen, lambda: self.propose(run))
        return Trial(run, chosen, int(run.rng.integers(2**31)))

    def _end(self) -> None:
        if self.present is not None:
            part = self._run.budget.limit / self.trainings
            reached = self.present.accuracy(self._run, _JUDGED * part)
            if not self.results or reached > max(value for _, value in self.results):
                self.best = self.present
            self.results.append((self.present.architecture, reached))
            self.present = None

    def derive(self, run: Run) -> Ranking:
        """Judge the last training, finished or not, and rank all by their accuracy."""
        if self.present is None and not self.results:  # cancelled before the first step
            self.present = self._begin()
        self._end()
        return sorted(self._accuracies().items(), key=lambda pair: -pair[1])

    def _accuracies(self) -> dict[Architecture, float]:
        """Return the best accuracy of each architecture that was trained."""
        reached: dict[Architecture, float] = {}
        for architecture, value in self.results:
            reached[architecture] = max(value, reached.get(architecture, value))
        return reached

    def score(self, run: Run, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) accuracies; ``-inf`` for architectures that were not trained."""
        reached = self._accuracies()
        return np.array([reached.get(a, -np.inf) for a in architectures], dtype=np.float64)

    def accuracy(self, run: Run, architecture: Architecture) -> float | None:
        """Return the accuracy (0..1) that the architecture reached, None if it was not trained."""
        return self._accuracies().get(architecture)

    def network(self, run: Run, architecture: Architecture) -> nn.Module | None:
        """Return the best architecture's trained network; None for any other."""
        if self.best is None or architecture != self.best.architecture:
            return None
        return self.best.network

    def tensors(self) -> dict[str, Tensor]:
        """Return the present training and the best one."""
        trials = {"present": self.present, "best": self.best}
        return {
            f"{part}.{name}": value
            for part, trial in trials.items()
            if trial is not None
            for name, value in trial.tensors().items()
        }

    def facts(self) -> dict[str, Any]:
        """Return the accuracies so far, and which architectures the trainings are of."""
        return {
            "number": self.number,
            "results": self.results,
            "present": None if self.present is None else self.present.architecture,
            "best": None if self.best is None else self.best.architecture,
        }

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        self.number = facts["number"]
        self.results = [(tuple(architecture), value) for architecture, value in facts["results"]]
        for part in ("present", "best"):
            if facts[part] is not None:
                trial = Trial(self._run, tuple(facts[part]))
                trial.load(under(part, tensors))
                setattr(self, part, trial)


class Trial(Learner):
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
