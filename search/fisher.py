"""How far one task is from another, by the Fisher information of networks trained on them.

Source: Le, Soltani, Dong, Tarokh, "Fisher Task Distance and its Application in Neural Architecture
Search", IEEE Access 2022, definition of the distance and algorithm 1. Networks of one architecture
are trained on either task, and what the target's data makes of their weights is compared: d = 0
where the source's network is as good as the target's own, 1 where they use no weight alike.

Differences from the published code, which squares the mean gradient of a batch: here gradients are
squared image by image, as the definition says, and the square root of the sum is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.protocol import Standalone
from search.data import TaskData
from search.sharing import sharing
from search.trainer import train

SPACE = sharing("nasbench201")
CELL = SPACE.parse(
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+"
    "|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
)
"""A residual cell: what tells tasks apart is the weights, so any that learns them well will do."""
RECIPE = Standalone(channels=8, steps=100, peak_lr=0.005)
"""A low learning rate: networks that are far from their common start differ whatever the tasks."""
IMAGES = 128
"""Images of the target by which two networks are compared; all where there are fewer."""


def diagonal_fisher(network: nn.Module, x: Tensor, y: Tensor, batch: int = 64) -> dict[str, Tensor]:
    """Return the diagonal of the empirical Fisher information, which sums to one over all weights.

    The mean over images of the squared gradient of log p(label | image), each image on its own.

    Args:
        network: maps images to logits (n, classes); it is put in evaluation mode, so that batch
            norms do not mix images.
        x: float32 (n, 3, h, w).
        y: int64 (n,) labels.
        batch: images at a time, which take ``batch`` times the memory of the weights.

    Returns:
        float64 tensors by name of parameter, each of its parameter's shape.

    Raises:
        InputError: no images, a label that the network has no output for, or no gradient at all.
    """
    return _normalised_squares(network, dict(network.named_parameters()), x, y, batch)


def fisher_distance(
    source_network: nn.Module, target_network: nn.Module, x: Tensor, y: Tensor, batch: int = 64
) -> float:
    """Return how far the source's task is from the target's, 0 to 1; not symmetric.

    That is |sqrt(F_s) - sqrt(F_t)| / sqrt(2), both on the target's data. What one classifier has
    and the other lacks counts as zero. A source of fewer classes knows nothing of the target's
    further ones, so for the gradients its classifier gives them a logit of zero.

    Args:
        source_network: trained on the source's task.
        target_network: of the same architecture but for the number of classes, trained on the
            target's task.
        x: float32 (n, 3, h, w) images of the target's task.
        y: int64 (n,) their labels.
        batch: images at a time.

    Raises:
        InputError: the architectures differ, or as in :func:`diagonal_fisher`.
    """
    own = dict(source_network.named_parameters())
    others = dict(target_network.named_parameters())
    if own.keys() != others.keys() or any(
        own[name].shape[1:] != others[name].shape[1:] for name in own
    ):
        raise InputError(
            "The networks of a source and a target differ in more than the number of "
            "classes; train both with one architecture, channels and cells."
        )
    rows = {name: max(len(own[name]), len(others[name])) for name in own}
    known = {name: _padded(own[name], len(others[name])) for name in own}
    source = _normalised_squares(source_network, known, x, y, batch)
    target = diagonal_fisher(target_network, x, y, batch)
    squared = sum(
        float(
            (_padded(source[name], count).sqrt() - _padded(target[name], count).sqrt())
            .square()
            .sum()
        )
        for name, count in rows.items()
    )
    return min(1.0, math.sqrt(squared / 2))


def approximation_network(
    data: TaskData,
    seed: int,
    device: str = "cpu",
    on_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Return the small network that stands for a task, trained on its training images.

    Args:
        data: the task; its test images play no part but in the trainer's own record.
        seed: of initial weights and order; networks of one seed start alike but for the classifier.
        device: "cpu" or "cuda".
        on_step: told the number of steps after each; what it raises ends the training.
    """
    return train(data, SPACE, CELL, seed, RECIPE, device, on_step).network


def task_distance(
    source: TaskData,
    target: TaskData,
    seeds: Sequence[int],
    device: str = "cpu",
    own: dict[int, nn.Module] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Return the mean distance (0 to 1) from a source's to a target's task; not symmetric.

    Args:
        source: a past task.
        target: the new task, on whose training images the distance is measured.
        seeds: of the pairs of networks that are trained; the papers take 5 to 10.
        device: "cpu" or "cuda".
        own: the target's networks by seed, where several sources are compared with it; those that
            are missing are trained and put there.
        on_step: as :func:`approximation_network` takes it.

    Raises:
        InputError: no seeds.
    """
    own = {} if own is None else own
    if not seeds:
        raise InputError("A task distance is a mean over seeds and needs one or more; none given.")
    distances = []
    for seed in seeds:
        if seed not in own:
            own[seed] = approximation_network(target, seed, device, on_step)
        past = approximation_network(source, seed, device, on_step)
        place = next(past.parameters()).device
        order = np.random.default_rng(seed).permutation(len(target.train_y))
        chosen = torch.from_numpy(order[:IMAGES])
        x = target.standardised(target.train_x[chosen], place)
        distances.append(fisher_distance(past, own[seed], x, target.train_y[chosen].to(place)))
    return sum(distances) / len(distances)


def _padded(values: Tensor, rows: int) -> Tensor:
    """Append zeros to (r, ...) until there are ``rows`` rows; more are kept."""
    missing = max(0, rows - len(values))
    return torch.cat([values.detach(), values.new_zeros(missing, *values.shape[1:])])


def _normalised_squares(
    network: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor, batch: int
) -> dict[str, Tensor]:
    """Return :func:`diagonal_fisher` of ``network`` with other values of its parameters."""
    network.eval()
    # Pooling in channels_last order has no batching rule. Only a copy loses that order for sure.
    plain = torch.contiguous_format
    x = x.clone(memory_format=plain)
    weights = {name: p.detach().clone(memory_format=plain) for name, p in parameters.items()}
    with torch.no_grad():
        classes = functional_call(network, weights, (x[:1],)).shape[1] if len(x) else 0
    if not len(x) or not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise InputError(
            f"Fisher information needs images with labels from 0 to {classes - 1}; "
            f"there are {len(x)}, labelled "
            f"{sorted(set(y.tolist()))[:20]}. Give images of the network's classes."
        )

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, values, (image[None],))
        return F.cross_entropy(logits, label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
    for images, labels in zip(x.split(batch), y.split(batch), strict=True):
        for name, gradients in each(weights, images, labels).items():
            total[name] += gradients.double().square().sum(0)
    mass = sum(float(value.sum()) for value in total.values())
    if not 0 < mass < math.inf:
        raise InputError(
            f"The gradients of {len(x)} images have squares that sum to {mass}, so "
            "there is no Fisher information. Train the network for fewer steps, or "
            "with label smoothing."
        )
    return {name: value / mass for name, value in total.items()}
