"""A search while it runs: data, shared weights, budget; what phases draw on, and checkpoints hold.

All randomness of a step is drawn from a generator seeded by (seed, purpose, step), so a checkpoint
needs no generator's state, and a resumed run goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.spaces import Architecture, WeightSharing
from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.gates import Gates
from metad2a.training.augment import augment, random_crop
from metad2a.training.device import DevicePlan, seeded
from search.data import Standardised, TaskData
from search.engine.budget import Budget
from search.engine.forms import Form, static_on
from search.engine.inheritance import begin_pretrained
from search.engine.judging import Judge
from search.engine.learner import descend, optimiser_of
from search.engine.method import Method, Phase, SampleWeighter, Training
from search.scores.base import Context, Evaluator, SharedWeights, evaluator
from search.subspace.subspace import Subspace

_ORDER, _AUGMENT, _STEP, _SPLIT, _BEGIN, _JUDGE, _END = range(7)  # purposes of the random streams
_BAD_STEPS = 5  # losses in a row that may be no numbers, each halving the learning rate
_FIRST_BATCH, SMALLEST_BATCH = 8, 4  # images a step where time is the budget
_QUICK_BATCHES = 4  # that pass forward while about one goes forward and backward
_STEP_SHARE = 0.04  # of the time, that a step may take
_COMPILED_SECONDS = 1800.0  # of a search, below which compiling would take too much of it
_POINTS = 50  # of the loss curve in the history
_LEAST_RATE = 0.02  # of the learning rate, with which its rise begins
_DELIVERY = 0.1  # of the time, in which kept pretrained weights are made a network of their own


@dataclass(frozen=True)
class Batch:
    """A mini-batch: float (n, 3, h, w) images, int64 (n,) labels, and numbers of the images."""

    x: Tensor
    y: Tensor
    index: Tensor


@dataclass
class Run:
    """The state of one search.

    Args:
        space: what is searched.
        data: training images, and validation images in the place of test images.
        subspace: what may still be used of the space.
        budget: of time or images.
        place: device, precision and memory order.
        macro: ``channels`` and ``cells`` of the supernet.
        seed: 0 or greater.
        stop: asked between steps; True ends the search with what it has.
    """

    space: WeightSharing
    data: TaskData
    subspace: Subspace
    budget: Budget
    place: DevicePlan
    macro: dict[str, Any]
    seed: int
    stop: Callable[[], bool]
    warm: tuple[Architecture, ...] = ()
    """Architectures to start from, best first, where some were suggested."""

    method: Method | None = None
    """The method of the search; wrappers find here what they go around."""
    current: Phase | None = None
    """The present phase."""
    resumed: bool = False
    """Whether a checkpoint will be taken over."""
    phase: int = 0
    fraction: float = 0.0
    """How much of the present phase is done, 0 to 1."""
    steps: int = 0
    images: int = 0
    """Images that went forward and backward, counted once for each path."""
    rate_scale: float = 1.0
    """Factor on learning rates; halved when a loss is no number."""
    history: list[dict[str, Any]] = field(default_factory=list)
    """The loss curve, and notes on whatever else happened."""

    def __post_init__(self) -> None:
        data, device = self.data, self.place.device
        self.train_x, self.train_y = Standardised(data, data.train_x, device), data.train_y
        self.valid_x, self.valid_y = Standardised(data, data.test_x, device), data.test_y
        self.train_y, self.valid_y = self.train_y.to(device), self.valid_y.to(device)
        every = np.random.default_rng((self.seed, _SPLIT)).permutation(len(self.train_y))
        self.sides = {"weights": every, "architecture": every}
        self.cursors = {"weights": 0, "architecture": 0}
        self.weighters = {"weights": SampleWeighter(), "architecture": SampleWeighter()}
        self.training = Training()
        self.batch_limit = 2**31  # by memory
        # By time. Where shapes are captured there is one from the first step on.
        self.fitted = self.budget.seconds is not None and not static_on(self.place.device)
        self.batch_fit = _FIRST_BATCH if self.fitted else 2**31
        self.bad_steps = 0
        self._bad_step = False  # whether some loss of the present step was no number
        self.rng = np.random.default_rng((self.seed, _STEP, 0))
        self._network: nn.Module | None = None

    # -- shared weights ------------------------------------------------------------------------

    def renew(self, **macro: int) -> None:
        """Start from a new supernet, of another ``channels`` or ``cells`` where given."""
        self.macro = {**self.macro, **macro}
        with seeded(self.seed + self.phase):
            network = self.space.supernet(self.data.classes, **self.macro)
        self._network = self.place.place(network)
        if self.space.pretrained:
            begin_pretrained(self)
        self.network.train()
        worth = self.budget.limit >= _COMPILED_SECONDS
        # Slices are branches: which of them runs decides on shapes.
        static = False if self.space.pretrained else None
        self.form = Form(self.network, self.place, static, None if worth else False)
        self.take_base()
        self._new_optimiser()

    @property
    def network(self) -> nn.Module:
        """The supernet, made at its first use."""
        if self._network is None:
            self.renew()
        return cast(nn.Module, self._network)

    @property
    def supernet(self) -> SuperNet:
        """The same, by its interface."""
        return cast(SuperNet, self.network)

    @property
    def has_supernet(self) -> bool:
        """Whether a supernet was made."""
        return self._network is not None

    def take_base(self) -> None:
        """Make the present weights the base W0 from which angles are taken."""
        self.initial = copy.deepcopy(self.network).requires_grad_(False)

    def split_sides(self) -> None:
        """Keep half of the training images for the architecture's own steps, if none are yet.

        Raises:
            InputError: there are fewer than four images.
        """
        order = self.sides["weights"]
        if order is not self.sides["architecture"]:
            return
        half = len(order) // 2
        if half < 2:
            raise InputError(
                f"A bi-level search halves its training images and needs 4 or more; "
                f"there are {len(order)}. Add images, or use a one-level method such "
                "as 'dropnas'."
            )
        self.sides = {"weights": order[:half], "architecture": order[half:]}

    def begin_phase(self, training: Training) -> None:
        """Set the optimiser's course for a new phase; momentum starts anew."""
        self.training = training.of_pretrained() if self.space.pretrained else training
        self.rng = np.random.default_rng((self.seed, _BEGIN, self.phase))
        if self.has_supernet:
            self._new_optimiser()

    def end_phase(self) -> None:
        """Set the course for what a phase does last."""
        self.rng = np.random.default_rng((self.seed, _END, self.phase))

    @cached_property
    def judge(self) -> Judge:
        """What measures networks at the end."""
        return Judge(self)

    def begin_judging(self) -> None:
        """Set the course for naming the winner."""
        self.fraction = 1.0
        self.rng = np.random.default_rng((self.seed, _JUDGE))

    def shared(self) -> SharedWeights:
        """Return the supernet for evaluators."""
        return SharedWeights(self.network, self.initial, self.place)

    def evaluator(self, names: str, images: int | None = None) -> Evaluator:
        """Return an evaluator of children with the present weights, on the validation images.

        Args:
            names: as :func:`search.scores.base.evaluator` takes them.
            images: most images of either side that may pass for a child.
        """
        shared, device = self.shared() if self.has_supernet else None, str(self.place.device)
        return evaluator(names, Context(self.space, self.data, shared, device, self.seed, images))

    def few_images(self) -> int | None:
        """Return how many images may pass between two steps, where time is the budget.

        They take no more than a step does, and a step what :meth:`fit_batch` lets it take.
        """
        return None if self.budget.seconds is None else _QUICK_BATCHES * self.batch_size()

    def _new_optimiser(self) -> None:
        self.optimiser = optimiser_of(self.network, self.training)

    def clone(self, slot: int, operation: int, by: int) -> int:
        """Give an operation one copy of its weights for each operation of the slot ``by``.

        Momentum is copied too. Returns the number of parameters added.
        """
        edges = self.supernet.edges(slot)
        before = [list(edge.operation(operation)[0].parameters()) for edge in edges]
        state = dict(self.optimiser.state)
        added = self.supernet.clone(slot, operation, by)
        cast(SuperNet, self.initial).clone(slot, operation, by)
        self.initial.requires_grad_(False)
        self._new_optimiser()
        kept = set(self.network.parameters())
        self.optimiser.state.update({p: s for p, s in state.items() if p in kept})
        for edge, parents in zip(edges, before, strict=True):
            for one in edge.operation(operation):
                for parameter, parent in zip(one.parameters(), parents, strict=True):
                    if parent in state and parameter is not parent:
                        self.optimiser.state[parameter] = copy.deepcopy(state[parent])
        return added

    # -- data ----------------------------------------------------------------------------------

    def batch_size(self, side: str = "weights") -> int:
        """Return the images of a mini-batch of a side."""
        return min(self.training.batch, self.batch_limit, self.batch_fit, len(self.sides[side]))

    def batch(self, side: str = "weights", *, augmented: bool = True) -> Batch:
        """Return the next mini-batch of a side, ``"weights"`` or ``"architecture"``."""
        order, position = self.sides[side], self.cursors[side]
        number = list(self.sides).index(side)
        size = self.batch_size(side)
        epoch, place = divmod(position, len(order) // size)
        shuffled = np.random.default_rng((self.seed, _ORDER, number, epoch)).permutation(order)
        index = torch.from_numpy(shuffled[place * size : (place + 1) * size])
        index = index.to(self.place.device)
        self.cursors[side] += 1
        x = self.train_x[index]
        if augmented:
            rng = np.random.default_rng((self.seed, _AUGMENT, number, position))
            x = self.augmented(x, rng)
        return Batch(x, self.train_y[index], index)

    def augmented(self, x: Tensor, rng: np.random.Generator) -> Tensor:
        """Return float images (n, 3, side, side) as training sees them."""
        recipe = self.training.recipe
        if recipe is None:
            return random_crop(x, rng, flip=self.data.flip)
        return augment(x, rng, flip=self.data.flip, zoom=recipe.zoom)

    # -- losses and steps ----------------------------------------------------------------------

    @property
    def rate(self) -> float:
        """Learning rate of the weights at this step: half a cosine over each cycle of the phase.

        Where a cycle begins with a rise, the cosine has what is left of it.
        """
        t = self.training
        done = min(self.fraction / t.span, 1.0) * t.cycles
        part = done - min(int(done), t.cycles - 1)
        if part < t.warm_up:
            return self.rate_scale * t.lr * max(part / t.warm_up, _LEAST_RATE)
        cosine = (1 + math.cos(math.pi * (part - t.warm_up) / (1 - t.warm_up))) / 2
        return self.rate_scale * (t.lr_final + (t.lr - t.lr_final) * cosine)

    def forward(self, x: Tensor, gates: Gates | Architecture) -> Tensor:
        """Return float32 logits (batch, classes)."""
        if not self.has_supernet:
            self.renew()
        return self.form.forward(x, gates)

    def loss(self, logits: Tensor, batch: Batch, side: str) -> Tensor:
        """Return the weighted mean cross-entropy; the side's weighter learns the losses.

        Labels are smoothed where weights learn, as in ProxylessNAS's code; alphas see them as they are.
        """
        weighter = self.weighters[side]
        smoothing = self.training.label_smoothing if side == "weights" else 0.0
        each = F.cross_entropy(logits, batch.y, reduction="none", label_smoothing=smoothing)
        weighter.observe(batch.index, each.detach())
        weights = weighter.weights(batch.index)
        return each.mean() if weights is None else (weights * each).mean()

    def backward(self, batch: Batch, choices: Sequence[Gates]) -> float:
        """Add up the gradients of the batch's loss through each choice; return the mean loss."""
        self.network.zero_grad(set_to_none=True)
        total = 0.0
        for group in self.form.groups(batch.x, choices):
            # What shares a graph goes backward at once.
            loss = torch.stack([self.loss(logits, batch, "weights") for logits in group]).sum()
            loss.backward()
            total += float(loss.detach())
            self.images += len(group) * len(batch.y)
        self.form.release_untouched(choices)
        return total / len(choices)

    def train_weights(self, batch: Batch, choices: Sequence[Gates]) -> float:
        """Take one SGD step on the weights that ``choices`` use; return the mean loss.

        Gradients start as None, so weights that no choice touches have neither decay nor momentum.
        """
        loss = self.backward(batch, choices)
        self.descend(loss)
        return loss

    def descend(self, loss: float) -> bool:
        """Step along the gradients that are there; False, and no step, if the loss is no number."""
        if not self.finite(loss):
            return False
        if self.training.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.training.clip)
        descend(self.network, self.optimiser, self.training, self.rate)
        return True

    def finite(self, loss: float) -> bool:
        """Whether a loss is a number.

        At the first of a step that is none, learning rates are halved and the history says so.
        """
        if math.isfinite(loss):
            return True
        if not self._bad_step:
            self._bad_step = True
            self.rate_scale /= 2
            self.note(
                f"the loss became {loss}: the step was left out and learning rates were halved, "
                f"to {self.rate:g} for the weights"
            )
        return False

    def _count_bad_steps(self) -> None:
        self.bad_steps = self.bad_steps + 1 if self._bad_step else 0
        if self.bad_steps >= _BAD_STEPS:
            raise InputError(
                f"The loss has been no number in {_BAD_STEPS} steps in a row though learning rates "
                "were halved each time. Check the images and labels, or use another method."
            )

    # -- what happened -------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """Put a remark into the history."""
        self.history.append({"step": self.steps, "images": self.images, "note": text})

    def record(self, loss: float) -> None:
        """Put a point of the loss curve into the history, about fifty a phase."""
        due = int(self.fraction * _POINTS)
        last = next((h for h in reversed(self.history) if "loss" in h), None)
        if last is None or last["phase"] != self.phase or int(last["fraction"] * _POINTS) < due:
            self.history.append(
                {
                    "step": self.steps,
                    "images": self.images,
                    "phase": self.phase,
                    "fraction": self.fraction,
                    "seconds": round(self.budget.elapsed, 3),
                    "loss": loss,
                }
            )

    def stopped(self, ahead: float = 0.0) -> bool:
        """Whether the search should end now: cancelled, or out of time in some seconds."""
        return self.stop() or self.budget.over(ahead + self.delivery)

    @property
    def delivery(self) -> float:
        """Seconds of the budget that are kept for what comes after naming the winner."""
        seconds = self.budget.seconds
        return _DELIVERY * seconds if self.space.pretrained and seconds is not None else 0.0

    def training_over(self) -> bool:
        """Whether what takes long between two steps should leave off: to judge, or as cancelled."""
        judging = 0.0 if self.method is None else self.method.judging(self.budget.limit)
        return self.stopped(ahead=judging)

    def fit_batch(self, seconds: float) -> None:
        """Let batches grow to the method's size, or shrink, as the last step's seconds allow.

        A search of seconds must not spend them on a few steps, nor overrun by one. A budget of
        images changes nothing, nor does a device on which another size is another graph.
        """
        if not self.fitted:
            return
        size = self.batch_size()
        if seconds > _STEP_SHARE * self.budget.limit and size > SMALLEST_BATCH:
            self.batch_fit = max(SMALLEST_BATCH, size // 2)
        elif seconds < _STEP_SHARE / 3 * self.budget.limit and size == self.batch_fit:
            self.batch_fit *= 2

    def advance(self, phase: Phase) -> float:
        """Take one step of a phase. Where memory runs out, the batch is halved instead.

        Raises:
            InputError: one image is too much for the device, or losses have been no numbers for
                several steps.
        """
        self.rng, self._bad_step = np.random.default_rng((self.seed, _STEP, self.steps)), False
        try:
            loss = phase.step(self)
            self._count_bad_steps()
        except torch.OutOfMemoryError as error:
            if self.has_supernet:
                self.network.zero_grad(set_to_none=True)
            size = self.batch_size()
            if size < 4:
                raise InputError(
                    f"{self.place.device} ran out of memory with {size} images a step. Use a "
                    "smaller supernet (channels, cells) or another device."
                ) from error
            self.batch_limit = size // 2
            torch.cuda.empty_cache()
            self.note(f"out of memory: the batch was halved to {self.batch_limit} images")
            loss = math.nan
        self.steps += 1
        return loss
