"""Networks of inverted residual blocks: EfficientNet-Lite (Tan and Le, ICML 2019) and MobileNetV3
(Howard et al., ICCV 2019) in any depth, width and kernel. This file needs torch alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS = {"relu": nn.ReLU, "relu6": nn.ReLU6, "h_swish": nn.Hardswish}


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation (none where empty).

    With ``same`` a strided convolution is padded as TensorFlow pads: less before than after on an
    even side. Elsewhere both sides get half the kernel.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: str = "",
        same: bool = False,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.same = same and stride > 1
        padding = 0 if self.same else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=eps)
        self.activation = ACTIVATIONS[activation](inplace=True) if activation else nn.Identity()

    def padded(self, x: Tensor) -> Tensor:
        """Return what the convolution, which pads by itself elsewhere, takes."""
        if not self.same:
            return x
        kernel, stride = self.conv.kernel_size[0], self.conv.stride[0]
        pads: list[int] = []
        for side in (x.shape[3], x.shape[2]):
            total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
            pads += [total // 2, total - total // 2]
        return F.pad(x, pads)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride), rounded up."""
        activated: Tensor = self.activation(self.norm(self.conv(self.padded(x))))
        return activated


class SqueezeExcite(nn.Module):
    """Scales channels by what the whole picture shows of them (Hu et al., CVPR 2018)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same shape."""
        squeezed = F.relu(self.reduce(x.mean((2, 3), keepdim=True)))
        return x * F.hardsigmoid(self.expand(squeezed))


class InvertedResidual(nn.Module):
    """Expand to ``width`` channels, filter each alone, project (Sandler et al., CVPR 2018)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        kernel: int,
        stride: int,
        activation: str,
        squeezed: int,
        same: bool,
        eps: float,
    ) -> None:
        super().__init__()
        self.skip = stride == 1 and inputs == outputs
        self.expand = (
            ConvNorm(inputs, width, 1, activation=activation, eps=eps) if width != inputs else None
        )
        self.depthwise = ConvNorm(width, width, kernel, stride, width, activation, same, eps)
        self.squeeze = SqueezeExcite(width, squeezed) if squeezed else None
        self.project = ConvNorm(width, outputs, 1, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, h / stride, w / stride), rounded up."""
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.squeeze is not None:
            y = self.squeeze(y)
        projected: Tensor = self.project(y)
        return x + projected if self.skip else projected


class InvertedResidualNetwork(nn.Module):
    """Stem, stages of inverted residual blocks, pooling, classifier.

    Args:
        classes: outputs.
        stem: channels of the first convolution (kernel 3, stride 2).
        stages: of each stage, of each block: outputs, width, kernel, stride, activation, squeezed
            channels (0: none).
        head: channels of a 1x1 convolution before pooling; 0: none.
        hidden: units of a linear layer after pooling; 0: none.
        activation: of stem, head and hidden layer.
        same: whether strided convolutions are padded as TensorFlow pads.
        eps: of the batch norms.
        dropout: share of the pooled features that training drops.
    """

    def __init__(
        self,
        classes: int,
        stem: int,
        stages: Sequence[Sequence[Sequence[Any]]],
        head: int = 0,
        hidden: int = 0,
        activation: str = "relu6",
        same: bool = True,
        eps: float = 1e-3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.config = {
            "classes": classes,
            "stem": stem,
            "stages": [[list(block) for block in stage] for stage in stages],
            "head": head,
            "hidden": hidden,
            "activation": activation,
            "same": same,
            "eps": eps,
            "dropout": dropout,
        }
        self.stem = ConvNorm(3, stem, 3, 2, activation=activation, same=same, eps=eps)
        made, inputs = [], stem
        for stage in stages:
            blocks = []
            for outputs, width, kernel, stride, act, squeezed in stage:
                blocks.append(
                    InvertedResidual(
                        inputs, outputs, width, kernel, stride, act, squeezed, same, eps
                    )
                )
                inputs = outputs
            made.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(made)
        self.head = ConvNorm(inputs, head, 1, activation=activation, eps=eps) if head else None
        pooled = head or inputs
        self.hidden = (
            nn.Sequential(nn.Linear(pooled, hidden, bias=False), ACTIVATIONS[activation]())
            if hidden
            else None
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(hidden or pooled, classes)

    def begin(self, x: Tensor, stages: int) -> Tensor:
        """Map images (batch, 3, h, w) to what comes out of the first ``stages``; 0: the images."""
        if stages == 0:
            return x
        x = self.stem(x)
        for stage in self.stages[:stages]:
            x = stage(x)
        return x

    def finish(self, x: Tensor, stages: int) -> Tensor:
        """Map what :meth:`begin` gave to pooled features (batch, features)."""
        if stages == 0:
            x = self.stem(x)
        for stage in self.stages[stages:]:
            x = stage(x)
        if self.head is not None:
            x = self.head(x)
        x = x.mean((2, 3))
        return x if self.hidden is None else self.hidden(x)

    def features(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w) to the features that the classifier sees."""
        return self.finish(x, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (batch, 3, h, w), scaled to -1..1, to logits (batch, classes)."""
        logits: Tensor = self.classifier(self.dropout(self.features(x)))
        return logits
