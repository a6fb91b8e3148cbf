"""The labeller of stand-alone trainings: the protocol under which users see their accuracy.

One architecture is trained by the recipe of ``standalone-v1``, or one like it. The recipe
(:class:`metad2a.protocol.Standalone`) follows NAS-Bench-201's (SGD with Nesterov momentum 0.9,
weight decay 5e-4, learning rate 0.1 to 0 by a cosine; Dong and Yang, ICLR 2020), shortened to a fixed
number of steps with a warm-up, so that a training costs the same whatever the size of the dataset.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.errors import MetaD2AError
from metad2a.protocol import STANDALONE, Standalone
from metad2a.spaces import Architecture, SearchSpace, WeightSharing
from metad2a.training.augment import random_crop
from metad2a.training.device import DevicePlan, plan, seeded
from search.data import TaskData, TaskImages
from search.labellers.base import LABELLERS, Labeller, Measurement
from search.subspace.weight_sharing import sharing

_CURVE = 4
_EVAL_BATCH = 500
RECIPE = STANDALONE.recipe


@dataclass(frozen=True)
class TrainResult:
    """What a training gave: test accuracy (0..1), its curve by quarters, seconds, the network."""

    accuracy: float
    curve: tuple[float, ...]
    seconds: float
    network: nn.Module


def _batches(count: int, recipe: Standalone, rng: np.random.Generator) -> Iterator[Tensor]:
    """Yield an index tensor a step: epoch after epoch, each shuffled, remainders dropped."""
    size, left = min(recipe.batch, count), np.empty(0, dtype=np.int64)
    for _ in range(recipe.steps):
        if len(left) < size:
            left = rng.permutation(count)
        yield torch.from_numpy(left[:size])
        left = left[size:]


def learning_rate(step: int, recipe: Standalone) -> float:
    """Return the learning rate of a step: linear warm-up, then half a cosine."""
    warm = max(1, int(recipe.warm_up * recipe.steps))
    if step < warm:
        return recipe.peak_lr * (step + 1) / warm
    return recipe.peak_lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (recipe.steps - warm)))


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor, place: DevicePlan) -> float:
    """Return the share of float images (n, 3, h, w) whose largest logit is their int64 label."""
    network.eval()
    hits = 0
    for images, labels in zip(x.split(_EVAL_BATCH), y.split(_EVAL_BATCH), strict=True):
        with place.autocast():
            hits += int((network(images).argmax(1) == labels).sum())
    return hits / len(y)


def train(
    data: TaskData,
    space: WeightSharing,
    architecture: Architecture,
    seed: int,
    recipe: Standalone | None = None,
    device: str = "cpu",
    on_step: Callable[[int], None] | None = None,
) -> TrainResult:
    """Train a network from scratch and return its accuracy on the task's test images.

    Args:
        data: the task.
        space: where the architecture comes from.
        architecture: one operation index per slot.
        seed: of initial weights, batch order and crops; the same seed gives the same result on CPU.
        recipe: hyper-parameters; the default ones if None.
        device: see :func:`metad2a.training.device.plan`.
        on_step: told the number of steps after each; what it raises ends the training.

    Raises:
        MetaD2AError: the loss is no longer a number.
    """
    recipe = recipe or Standalone()
    start = time.perf_counter()
    place, rng = plan(device), np.random.default_rng(seed)
    with seeded(seed):
        network = place.place(
            space.build(architecture, data.classes, channels=recipe.channels, cells=recipe.cells)
        )
    train_x, train_y = data.normalised("train", place.device)
    test_x, test_y = data.normalised("test", place.device)
    optimiser = torch.optim.SGD(
        network.parameters(),
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        nesterov=True,
        weight_decay=recipe.weight_decay,
    )
    loss_of = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)
    curve: list[float] = []
    for step, index in enumerate(_batches(len(train_y), recipe, rng)):
        network.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, recipe)
        with place.autocast():
            logits = network(random_crop(train_x[index], rng))
        loss = loss_of(logits.float(), train_y[index])
        if not math.isfinite(loss.item()):
            raise MetaD2AError(
                f"The loss of {space.format(architecture)} became {loss.item()} at step {step} of "
                f"{recipe.steps}; use a lower peak_lr than {recipe.peak_lr}."
            )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if (step + 1) * _CURVE // recipe.steps > step * _CURVE // recipe.steps:
            curve.append(accuracy(network, test_x, test_y, place))
        if on_step is not None:
            on_step(step + 1)
    return TrainResult(curve[-1], tuple(curve), time.perf_counter() - start, network)


class StandaloneLabeller(Labeller):
    """Trains every architecture from scratch by the frozen recipe of ``standalone-v1``."""

    protocols = (STANDALONE,)

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield the test accuracy (0..1) of each architecture, with its learning curve."""
        for architecture in architectures:
            result = train(images.data, sharing(space), architecture, seed, RECIPE, device)
            yield Measurement(
                STANDALONE.name, architecture, seed, result.accuracy, result.seconds, result.curve
            )


LABELLERS.register("standalone")(StandaloneLabeller())
