"""Zero-cost scores: six numbers of an untrained network, from one mini-batch, without a step.

Sources, restated: NASWOT (Mellor et al., "Neural Architecture Search without Training", ICML 2021),
synflow (Tanaka et al., NeurIPS 2020; as a score Abdelfattah et al., ICLR 2021), expressivity,
progressivity and trainability (Lee and Ham, "AZ-NAS", CVPR 2024), Jacobian covariance (Mellor et
al., arXiv 2006.04647v1). Features are those that leave each of the stages. NASWOT is also an
evaluator.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.spaces import Architecture
from metad2a.training.device import plan, seeded
from search.scores.base import EVALUATORS, Context, Evaluator

SCORES = ("naswot", "synflow", "expressivity", "progressivity", "trainability", "jacobian")
_EPS = 1e-5
IMAGES = 128
"""Images in the mini-batch of the evaluator; all where there are fewer."""


def agreement(codes: Tensor) -> Tensor:
    """Return float64 (batch, batch): on how many units two images agree.

    That is K_ij = units - Hamming(c_i, c_j) = c_i . c_j + (1 - c_i) . (1 - c_j), from one product.

    Args:
        codes: bool (batch, ...) activity patterns; the order of the units does not matter.
    """
    # In this order the rows of a channels_last tensor need no copy. Counts are exact in float32.
    rows = codes.movedim(1, -1).reshape(len(codes), -1).float()
    both = (rows @ rows.T).double()
    active = both.diagonal()
    return rows.shape[1] - active[:, None] - active + 2 * both


def log_det(kernel: Tensor) -> float:
    """Return log|det K| of a symmetric float64 matrix, or ``-inf`` where it is singular.

    Rounding hides a zero determinant from the decomposition, so the rank decides.
    """
    if torch.linalg.matrix_rank(kernel, hermitian=True) < len(kernel):
        return -math.inf
    return float(torch.linalg.slogdet(kernel).logabsdet)


@contextlib.contextmanager
def _at_each_relu(network: nn.Module, hook: Callable[[Tensor, Tensor], None]) -> Iterator[None]:
    """Call ``hook(input, output)`` at every call of a ReLU; one module may be called often."""
    handles = [
        module.register_forward_hook(lambda _, inputs, output: hook(inputs[0], output))
        for module in network.modules()
        if isinstance(module, nn.ReLU)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def reached_relus(network: nn.Module, images: Tensor) -> set[int]:
    """Return which calls of a ReLU, counted from 0, the backward pass to the images reaches.

    The others are fed by nothing or feed nothing; in a cut network that is all of them.
    """
    calls, reached = itertools.count(), set[int]()

    def mark(_: Tensor, output: Tensor) -> None:
        call = next(calls)
        if output.requires_grad:
            output.register_hook(lambda _: reached.add(call))

    x = images.detach().requires_grad_(True)
    with _at_each_relu(network, mark):
        total = network(x).sum()
    torch.autograd.grad(total, x, allow_unused=True)
    return reached


@contextlib.contextmanager
def activation_kernel(network: nn.Module, images: Tensor) -> Iterator[Tensor]:
    """Yield the NASWOT kernel, float64 (batch, batch), of the forward pass made inside.

    It is the sum of :func:`agreement` over the ReLUs that count (:func:`reached_relus`); two images
    are enough to find them. It stays zero where the network is cut.

    Args:
        network: calls ``nn.ReLU`` modules; it is put in training mode.
        images: float32 (batch, 3, side, side), those of the forward pass; at least two.
    """
    network.train()
    reached, calls = reached_relus(network, images[:2]), itertools.count()
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64, device=images.device)

    def add(before: Tensor, _: Tensor) -> None:
        if next(calls) in reached:
            kernel.add_(agreement(before > 0))

    with _at_each_relu(network, add):
        yield kernel


def naswot(network: nn.Module, images: Tensor) -> float:
    """Return log|det K| of the activation kernel of an untrained network; larger is better.

    Args:
        network: of one output, as in the paper; only running statistics of batch norms change.
        images: float32 (batch, 3, side, side), standardised; at least two.

    Returns:
        The score; ``-inf`` where the network is cut, or two images have one code everywhere.
    """
    with activation_kernel(network, images) as kernel, torch.no_grad():
        network(images)
    return log_det(kernel)


def spectrum_entropy(features: Tensor) -> float:
    """Return the entropy (nats) of the normalised spectrum of the channels' covariance.

    Args:
        features: float (batch, channels, height, width).
    """
    rows = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
    rows = rows - rows.mean(0, keepdim=True)
    values = torch.linalg.eigvalsh((rows.T @ rows / len(rows)).double()).clamp_min(0)
    shares = values / values.sum().clamp_min(1e-12)
    return float(-(shares * (shares + 1e-12).log()).sum())


def jacobian_score(gradient: Tensor) -> float:
    """Return -sum(log v + 1/v) over the spectrum v of the correlation of input gradients.

    Args:
        gradient: float (batch, ...), the gradient of each image's output by the image.
    """
    rows = gradient.reshape(len(gradient), -1).double()
    rows = rows - rows.mean(1, keepdim=True)
    norms = rows.norm(dim=1, keepdim=True)
    if float(norms.min()) == 0:
        return -math.inf
    values = torch.linalg.eigvalsh((rows / norms) @ (rows / norms).T) + _EPS
    return float(-(values.log() + 1 / values).sum()) if float(values.min()) > 0 else -math.inf


def trainability(outputs: list[Tensor], generator: torch.Generator) -> float:
    """Return the mean over stages of 2 - s - 1/s, s = the norm of the stage's mean Jacobian.

    Args:
        outputs: float (batch, channels, h, w) of stem and stages, still on the graph.
        generator: draws the random signs that are sent back through each stage.
    """
    scores = []
    for before, after in pairwise(outputs):
        signs = torch.randint(0, 2, after.shape, generator=generator).to(after) * 2 - 1
        (back,) = torch.autograd.grad(after, before, signs, retain_graph=True)
        factor = before.shape[-1] // after.shape[-1]
        if factor > 1:
            back = nn.functional.avg_pool2d(back, factor) * factor
        columns = signs.permute(1, 0, 2, 3).flatten(1)
        rows = back.permute(1, 0, 2, 3).flatten(1)
        largest = float(torch.linalg.matrix_norm(rows @ columns.T / columns.shape[1], 2))
        scores.append(2 - largest - 1 / (largest + 1e-6))
    return sum(scores) / len(scores)


def synflow(network: nn.Module) -> float:
    """Return log of sum |w * dR/dw| on absolute weights, without batch norm, in float64.

    R is the network's summed output for an image of ones. The network is changed by this call.
    """
    network.double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.abs_()
    network.zero_grad(set_to_none=True)
    network(torch.ones(1, 3, 32, 32, dtype=torch.float64)).sum().backward()
    total = sum(
        float((p * p.grad).detach().abs().sum())
        for p in network.parameters()
        if p.grad is not None and p.dim() > 1
    )
    return math.log(total) if total > 0 else -math.inf


def scores(network: nn.Module, images: Tensor, seed: int) -> dict[str, float]:
    """Return all :data:`SCORES` of an untrained network; larger is better in each.

    Args:
        network: an untrained network with ``stage_outputs``; its weights are spoilt.
        images: float32 (batch, 3, side, side), standardised; at least two.
        seed: of the random signs.

    Returns:
        Score by name; ``-inf`` where the network is cut or its images cannot be told apart.
    """
    x = images.detach().requires_grad_(True)
    with activation_kernel(network, images) as kernel:
        outputs: list[Tensor] = network.stage_outputs(x)  # type: ignore[operator]
        logits = network.classifier(network.head(outputs[-1]))  # type: ignore[operator]
    if not outputs[-1].requires_grad:  # cut before the head
        return dict.fromkeys(SCORES, -math.inf)
    features = [spectrum_entropy(o.detach()) for o in outputs[1:]]
    trained = trainability(outputs, torch.Generator().manual_seed(seed))
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    return {
        "naswot": log_det(kernel),
        "expressivity": sum(features),
        "progressivity": min(b - a for a, b in pairwise(features)),
        "trainability": trained,
        "jacobian": jacobian_score(gradient),
        "synflow": synflow(network),
    }


class Naswot(Evaluator):
    """Log-determinant of the kernel of binary activation codes of an untrained network.

    Each architecture starts from the same seed and sees the same images, without augmentation, in
    training mode and with one output unit. In float32 throughout, so that a score does not depend
    on what the processor can do.

    Args:
        context: neither labels nor shared weights are used.
        macro: ``channels`` and ``cells`` of the networks; where None, what a supernet of the space
            has on this device.

    Raises:
        InputError: fewer than two different training images were drawn.
    """

    def __init__(self, context: Context, macro: Mapping[str, Any] | None = None) -> None:
        self.space, self.seed, self.place = context.space, context.seed, plan(context.device)
        on_cpu = self.place.device.type == "cpu"
        usual = self.space.search_macro if on_cpu else self.space.published_macro
        self.macro = usual if macro is None else macro
        data = context.data
        order = np.random.default_rng(self.seed).permutation(len(data.train_x))
        drawn = torch.from_numpy(order[:IMAGES])
        # No network can tell copies of an image apart, and one pair makes every kernel singular.
        _, first = np.unique(data.train_x[drawn].flatten(1).numpy(), axis=0, return_index=True)
        if len(first) < 2:
            raise InputError(
                f"NASWOT asks how well images are told apart, and the "
                f"{len(drawn)} training images drawn are all the same; 2 different "
                "ones are needed. Add images, or use another evaluator."
            )
        chosen = drawn[torch.from_numpy(np.sort(first))]
        batch = replace(data, train_x=data.train_x[chosen], train_y=data.train_y[chosen])
        self.images, _ = batch.normalised("train", self.place.device)

    def score(self, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) log-determinants; ``-inf`` for dead or degenerate networks."""
        values = np.full(len(architectures), -np.inf)
        connected = self.space.connected(self.space.as_array(architectures))
        for row in np.flatnonzero(connected).tolist():
            with seeded(self.seed):
                network = self.space.build(architectures[row], 1, **self.macro)
            values[row] = naswot(self.place.place(network), self.images)
        return values


EVALUATORS.register("naswot")(Naswot)
