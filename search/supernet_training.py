"""Training of a weight-sharing network on sampled paths, cancellable and resumable.

Each step takes one mini-batch through the sampler's paths, sums the gradients and steps once (one
path: Guo et al., SPOS, ECCV 2020, "Single Path Supernet and Uniform Sampling"; several: Chu et al.,
FairNAS, ICCV 2021, "Strict Fairness"). Gradients start as None, so a weight that no path touches
gets neither weight decay nor momentum in that step. Optimiser and schedule defaults are the
weight-sharing settings of NAS-Bench-201 (Dong and Yang, ICLR 2020).

All randomness of a step is drawn from a generator seeded by (run seed, step). So a checkpoint is
complete with the step's number, and a resumed run goes on exactly as an uninterrupted one.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a.errors import ArtifactError, InputError
from metad2a.spaces import SearchSpace
from search.checkpoint import read_checkpoint, write_checkpoint
from search.data import TaskData
from search.device import DevicePlan, plan, seeded
from search.samplers import SAMPLERS

MOMENTUM = 0.9
_SAVE_SECONDS = 60.0
_ORDER, _STEP = 0, 1  # purposes of the random streams


@dataclass(frozen=True)
class SupernetConfig:
    """Every setting of a supernet training."""

    steps: int
    """Optimiser steps; a fair step goes through one path an operation."""
    sampler: str = "fair"
    """Name in ``search.samplers.SAMPLERS``."""
    batch: int = 64
    """Images a step; all training images where there are fewer."""
    lr: float = 0.025
    """Learning rate of the first step; falls along a half cosine."""
    lr_final: float = 0.001
    """Learning rate that the schedule ends at."""
    weight_decay: float = 5e-4
    channels: int = 16
    """Channels of the first stage."""
    cells: int = 1
    """Cells a stage."""
    flip: bool = False
    """Random horizontal mirroring; wrong for digits and letters."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "channels", "cells"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be 1 or more.")
        for name in ("lr", "lr_final", "weight_decay", "seed"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name}={getattr(self, name)} must be a finite number from 0 up.")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        return self.lr_final + (self.lr - self.lr_final) * (
            1 + math.cos(math.pi * step / self.steps)
        ) / 2


@dataclass(frozen=True)
class Progress:
    """Where a training is: steps done, steps in all, mean loss of the last step's paths."""

    step: int
    steps: int
    loss: float


@dataclass(frozen=True)
class TrainedSupernet:
    """A supernet after ``step`` steps, and the same at its initialisation (the angle's W0)."""

    space: SearchSpace
    config: SupernetConfig
    plan: DevicePlan
    network: nn.Module
    initial: nn.Module
    step: int

    @property
    def complete(self) -> bool:
        """Whether the training reached its last step (False: it was stopped)."""
        return self.step == self.config.steps


def augment(images: Tensor, rng: np.random.Generator, flip: bool = False) -> Tensor:
    """Crop each image at random out of itself padded by an eighth of its side with zeros.

    Args:
        images: float (n, 3, side, side), standardised, so that zero is the mean colour.
        rng: source of offsets and mirrorings.
        flip: mirror half of the images horizontally.

    Returns:
        The same shape and dtype, in channels_last memory order.
    """
    count, _, _, side = images.shape
    pad = side // 8
    rows, columns = (
        torch.from_numpy(rng.integers(0, 2 * pad + 1, (2, count, 1))) + torch.arange(side)
    ).to(images.device)
    if flip:
        mirrored = torch.from_numpy(rng.random((count, 1)) < 0.5).to(images.device)
        columns = torch.where(mirrored, columns.flip(1), columns)
    every = torch.arange(count, device=images.device)[:, None, None]
    padded = F.pad(images, (pad, pad, pad, pad))
    # Indices around a slice put the channels last: (n, side, side, 3).
    return padded[every, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


class _Run:
    """The state that a checkpoint holds, and the step that changes it."""

    def __init__(
        self, space: SearchSpace, data: TaskData, config: SupernetConfig, place: DevicePlan
    ) -> None:
        self.space, self.config, self.place = space, config, place
        self.sampler = SAMPLERS.get(config.sampler)
        self.x, self.y = data.normalised("train", place.device)
        with seeded(config.seed):
            network = space.supernet(data.classes, channels=config.channels, cells=config.cells)
        self.network = place.place(network)
        self.initial = copy.deepcopy(self.network).requires_grad_(False)
        self.optimiser = torch.optim.SGD(
            self.network.parameters(), config.lr, MOMENTUM, weight_decay=config.weight_decay,
            nesterov=True,
        )
        self.step = 0
        content = hashlib.sha256()
        for tensor in (data.train_x, data.train_y):
            content.update(str(tuple(tensor.shape)).encode())
            content.update(tensor.contiguous().numpy().tobytes())
        self.identity = {
            "kind": "supernet", "space": space.name, "classes": data.classes,
            "data": content.hexdigest(), **asdict(config),
        }

    def save(self, path: Path) -> None:
        momentum = {
            f"momentum.{name}": self.optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in self.network.named_parameters()
            if "momentum_buffer" in self.optimiser.state[parameter]
        }
        tensors = {
            **{f"network.{name}": value for name, value in self.network.state_dict().items()},
            **{f"initial.{name}": value for name, value in self.initial.state_dict().items()},
            **momentum,
        }
        write_checkpoint(path, tensors, self.identity, {"step": self.step})

    def restore(self, path: Path) -> None:
        tensors, facts = read_checkpoint(path, self.identity)
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "initial": {}, "momentum": {}}
        try:
            for key, value in tensors.items():
                part, name = key.split(".", 1)
                parts[part][name] = value
            self.network.load_state_dict(parts["network"])
            self.initial.load_state_dict(parts["initial"])
            parameters = dict(self.network.named_parameters())
            for name, value in parts["momentum"].items():
                parameter = parameters[name]
                buffer = torch.empty_like(parameter).copy_(value)
                self.optimiser.state[parameter]["momentum_buffer"] = buffer.detach()
            self.step = int(facts["step"])
        except (KeyError, ValueError, RuntimeError, TypeError) as error:
            raise ArtifactError(f"Checkpoint {path} does not fit the network of "
                                f"{self.space.name!r}: {error}. Delete it to start afresh."
                                ) from error

    def advance(self) -> float:
        """Take one step and return the mean loss of its paths."""
        config = self.config
        size = min(config.batch, len(self.x))
        epoch, position = divmod(self.step, len(self.x) // size)
        order = np.random.default_rng((config.seed, _ORDER, epoch)).permutation(len(self.x))
        chosen = torch.from_numpy(order[position * size : (position + 1) * size]).to(self.x.device)
        rng = np.random.default_rng((config.seed, _STEP, self.step))
        paths = self.sampler.paths(self.space, rng)
        images, labels = augment(self.x[chosen], rng, config.flip), self.y[chosen]
        self.optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.x.device)
        for path in paths:
            with self.place.autocast():
                logits = self.network(images, path)
            loss = F.cross_entropy(logits.float(), labels)
            loss.backward()
            total += loss.detach()
        mean = total.item() / len(paths)
        if not math.isfinite(mean):
            raise InputError(f"The supernet's loss became {mean} at step {self.step + 1} of "
                             f"{config.steps} with lr={config.lr}. Use a lower lr, for example "
                             f"{config.lr / 4:g}.")
        for group in self.optimiser.param_groups:
            group["lr"] = config.rate(self.step)
        self.optimiser.step()
        self.step += 1
        return mean


def train_supernet(
    space: SearchSpace,
    data: TaskData,
    config: SupernetConfig,
    device: str = "cpu",
    *,
    checkpoint: Path | None = None,
    should_stop: Callable[[], bool] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TrainedSupernet:
    """Train ``space.supernet`` on the training images of a task.

    Args:
        space: what is searched.
        data: at least two training images.
        config: all settings; the same ones and the same data give the same weights.
        device: see ``search.device.plan``.
        checkpoint: a file to go on from where it exists, written every minute, when stopped and
            at the end. On the CPU a resumed run is bit-equal to an uninterrupted one.
        should_stop: asked before each step; True ends the training after saving.
        progress: told after each step.

    Raises:
        InputError: too few images, an unknown sampler or device, a loss that is not finite, or a
            checkpoint of other settings or data.
        ArtifactError: a checkpoint that is damaged or of another format.
    """
    if len(data.train_x) < 2:
        raise InputError(f"A supernet needs 2 training images or more to normalise batches; the "
                         f"task has {len(data.train_x)}.")
    run = _Run(space, data, config, plan(device))
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    run.network.train()
    saved_step, saved_at = run.step, time.monotonic()
    while run.step < config.steps and not (should_stop is not None and should_stop()):
        loss = run.advance()
        if progress is not None:
            progress(Progress(run.step, config.steps, loss))
        if checkpoint is not None and time.monotonic() - saved_at > _SAVE_SECONDS:
            run.save(checkpoint)
            saved_step, saved_at = run.step, time.monotonic()
    if checkpoint is not None and (run.step != saved_step or not checkpoint.exists()):
        run.save(checkpoint)
    return TrainedSupernet(space, config, run.place, run.network, run.initial, run.step)
