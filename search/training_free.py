"""Scores of an untrained network: six numbers from one mini-batch, without a label or a step.

Sources, restated: NASWOT (Mellor et al., "Neural Architecture Search without Training", ICML 2021),
synflow (Tanaka et al., NeurIPS 2020; as a score Abdelfattah et al., ICLR 2021), expressivity,
progressivity and trainability (Lee and Ham, "AZ-NAS", CVPR 2024), Jacobian covariance (Mellor et
al., arXiv 2006.04647v1). Features are those that leave each of the stages.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

SCORES = ("naswot", "synflow", "expressivity", "progressivity", "trainability", "jacobian")
_EPS = 1e-5


def kernel_log_det(codes: list[Tensor]) -> float:
    """Return log|det K| where K counts, over all units, on how many two images agree.

    Args:
        codes: bool (batch, units) activity patterns, one a layer.

    Returns:
        The score, or ``-inf`` when two images have one code everywhere (K is singular).
    """
    if not codes:
        return -math.inf
    size = len(codes[0])
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for code in codes:
        active = code.reshape(size, -1).float()
        idle = 1 - active
        kernel += (active @ active.T + idle @ idle.T).double()
    sign, value = torch.linalg.slogdet(kernel)
    return float(value) if sign > 0 else -math.inf


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
    total = sum(float((p * p.grad).detach().abs().sum()) for p in network.parameters()
                if p.grad is not None and p.dim() > 1)
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
    network.train()
    codes: list[Tensor] = []
    reached: set[int] = set()

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        place = len(codes)
        codes.append(inputs[0].detach() > 0)
        if output.requires_grad:  # not behind a cell that cuts the network
            output.register_hook(lambda grad: reached.add(place))

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, nn.ReLU)]
    x = images.detach().requires_grad_(True)
    outputs: list[Tensor] = network.stage_outputs(x)  # type: ignore[operator]
    logits = network.classifier(network.head(outputs[-1]))  # type: ignore[operator]
    for hook in hooks:
        hook.remove()
    if not outputs[-1].requires_grad:
        return dict.fromkeys(SCORES, -math.inf)
    features = [spectrum_entropy(o.detach()) for o in outputs[1:]]
    trained = trainability(outputs, torch.Generator().manual_seed(seed))
    reached.clear()
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    return {
        "naswot": kernel_log_det([codes[i] for i in sorted(reached)]),
        "expressivity": sum(features),
        "progressivity": min(b - a for a, b in pairwise(features)),
        "trainability": trained,
        "jacobian": jacobian_score(gradient),
        "synflow": synflow(network),
    }
