"""What a method is: phases that train, and a way to name the winner. One file each.

A run is a sequence of phases. A method is the last one; a wrapper may put phases before it, weigh
its samples or narrow its space, and so composes with any method that it does not refuse. To add
one, put a file into ``search/methods`` or ``search/wrappers``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import Tensor, nn

from metad2a.protocol import FINE_TUNE, FineTune
from metad2a.registry import Registry
from metad2a.spaces import Architecture, SearchSpace
from search.engine.inheritance import inherited

if TYPE_CHECKING:
    from search.engine.run import Run

_JUDGING = 5.0  # seconds, for one architecture
PRETRAINED = replace(FINE_TUNE, rate=2e-3, batch_norm="moving")
"""How pretrained weights learn in a search: what ``metad2a.train`` has found, but that batch norms
follow the batches, since each slice of a network has statistics of its own."""

Ranking = list[tuple[Architecture, float]]
"""Architectures with their scores, best first."""


@dataclass(frozen=True)
class Training:
    """How a paper trains its shared weights, by SGD; or how pretrained weights are."""

    batch: int = 64
    """Images a step; all of a side where it has fewer."""
    lr: float = 0.025
    """Learning rate at the start of the phase."""
    lr_final: float = 0.001
    """Learning rate at its end, along half a cosine."""
    cycles: int = 1
    """Equal parts of the phase, each with a learning rate that falls anew."""
    span: float = 1.0
    """Fraction (0..1) of the phase in which the learning rate falls; later it stays at its end."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    clip: float | None = None
    """Largest norm of the gradient of all weights."""
    label_smoothing: float = 0.0
    """Share (0..1) of the target spread over all classes."""
    warm_up: float = 0.0
    """Share (0..1) of a cycle in which the learning rate rises first."""
    recipe: FineTune | None = None
    """How pretrained weights learn, in the place of SGD; see :meth:`of_pretrained`."""

    def of_pretrained(self) -> Training:
        """Return the same course of a phase by :data:`PRETRAINED`, for pretrained weights.

        What papers found for random weights would undo them within a few steps.
        """
        return replace(
            self,
            batch=PRETRAINED.batch,
            lr=PRETRAINED.rate,
            lr_final=0.0,
            weight_decay=PRETRAINED.weight_decay,
            clip=PRETRAINED.clip,
            label_smoothing=PRETRAINED.label_smoothing,
            warm_up=PRETRAINED.warm_up,
            recipe=PRETRAINED,
        )


class Stateful:
    """Something that a checkpoint must hold beside the run's own state."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the state, by name."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Return the JSON values of the state, by name."""
        return {}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take over what :meth:`tensors` and :meth:`facts` returned."""


class Phase(Stateful, ABC):
    """A stretch of training; ``run.fraction`` tells how much of it is done, 0 to 1."""

    training: Training = Training()

    @abstractmethod
    def begin(self, run: Run) -> None:
        """Set up at the phase's first step; on resuming, before :meth:`restore`."""

    @abstractmethod
    def step(self, run: Run) -> float:
        """Take one training step and return its loss."""

    def finish(self, run: Run) -> None:
        """Do what comes last, before the next phase begins; not where the run is cancelled."""

    def subnets(self, run: Run, count: int) -> list[Architecture]:
        """Return up to ``count`` distinct subnets that stand for what the phase believes in.

        The default draws them at random (a search by random paths believes in nothing yet).
        """
        return list(dict.fromkeys(run.subspace.sample(run.rng) for _ in range(count)))


class Method(Phase):
    """A search method, created anew for each run.

    The keyword arguments of its ``__init__`` are its options; their defaults are the paper's, or
    say why not. One called ``faithful`` restores quirks of the published code where they differ
    from the paper's intent.
    """

    epochs: ClassVar[int] = 100
    """Passes over the training images that its authors search for; where they say none for small
    images, those of the weight-sharing baselines of NATS-Bench (Dong et al., TPAMI 2021)."""
    published_sizes: ClassVar[Mapping[str, Mapping[str, int]]] = MappingProxyType({})
    """Sizes of its authors' supernets other than the space's usual ones, by the space's name."""
    bilevel: ClassVar[bool] = False
    """Whether half of the training images is kept for the architecture's own steps."""
    shared_training: ClassVar[bool] = True
    """Whether it trains a supernet on labels, by :meth:`Run.loss`: what most wrappers act on."""
    protocol: ClassVar[str] = "shared weights, batch norm re-calibrated, on held-out images"
    """What :meth:`accuracy` means."""
    population: ClassVar[bool] = False
    """Whether suggested architectures are looked at as they are; if not, the search starts in the
    space of the operations that they use."""

    def unfit(self, space: SearchSpace) -> str | None:
        """Return why it makes no sense in a space; None where it does."""
        return None

    def published_images(self, images: int, operations: int) -> int:
        """Return the budget of the published search: images that pass in all its epochs.

        Args:
            images: of the training side.
            operations: of the space.
        """
        return self.epochs * images

    def judging(self, seconds: float) -> float:
        """Return how many of a search's seconds judging architectures needs after the training."""
        return min(0.1 * seconds, _JUDGING)

    @abstractmethod
    def score(self, run: Run, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,): what the search now thinks of architectures; higher is better."""

    @abstractmethod
    def derive(self, run: Run) -> Ranking:
        """Name the winner, and what came close, best first; all members of ``run.subspace``.

        Where ``run.stopped()`` turns true it returns what it has, at least one.
        """

    def network(self, run: Run, architecture: Architecture) -> nn.Module | None:
        """Return the winner's trained plain network, where the method keeps one.

        The default is the slice of a network that began pretrained; of cells none.
        """
        return inherited(run, architecture) if run.space.pretrained and run.has_supernet else None

    def accuracy(self, run: Run, architecture: Architecture) -> float | None:
        """Return the winner's accuracy (0..1) on held-out images, None where none was measured.

        The default is that of the shared weights after re-calibration of the batch norms.
        """
        return run.judge.shared(architecture) if run.has_supernet else None


class SampleWeighter(Stateful):
    """Weights of training samples by their number; the default is one for each."""

    def weights(self, index: Tensor) -> Tensor | None:
        """Return float (batch,) weights of the samples ``index`` (int64), or None for all one."""
        return None

    def observe(self, index: Tensor, losses: Tensor) -> None:
        """Learn of float (batch,) losses of the samples ``index`` on one path of a step."""


class Wrapper(Stateful, ABC):
    """What composes with a method, ``method+wrapper``; options are as those of a method."""

    share: float = 0.0
    """Fraction (0..1) of the training budget that :attr:`phase` takes."""
    phase: Phase | None = None
    """What comes before the method, if anything."""

    def refuse(self, method: Method) -> str | None:
        """Return why it makes no sense around ``method``; None where it does."""
        return None

    def unfit(self, space: SearchSpace) -> str | None:
        """Return why it makes no sense in a space; None where it does."""
        return None

    @abstractmethod
    def begin(self, run: Run) -> None:
        """Take a place in the run: a weighter, a narrower space; before the first phase."""

    def after_step(self, run: Run) -> None:
        """Do what is due after each step of any phase."""


METHODS: Registry[type[Method]] = Registry("search method", "search.methods")
WRAPPERS: Registry[type[Wrapper]] = Registry("search wrapper", "search.wrappers")
