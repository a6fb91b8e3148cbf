"""The operations of the DARTS space as modules (Liu, Simonyan, Yang, ICLR 2019, appendix A)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a.spaces.darts import AVG_POOL, DIL5, MAX_POOL, SEP3, SEP5, SKIP


class Depthwise(nn.Conv2d):
    """A depthwise convolution of the same side, or half of it, rounded up.

    On a CPU it stays in float32 under autocast: bfloat16 is several times slower there.
    """

    def __init__(self, channels: int, kernel: int, stride: int, dilation: int) -> None:
        # Taps as far apart as the steps see every other pixel only. Taking those first is the same,
        # and many times faster than a dilated convolution of stride 2.
        every = stride if stride == dilation else 1
        stride, dilation = stride // every, dilation // every
        super().__init__(
            channels,
            channels,
            kernel,
            stride,
            dilation * (kernel // 2),
            dilation,
            groups=channels,
            bias=False,
        )
        self.every = every

    def forward(self, x: Tensor) -> Tensor:
        """Map float (batch, channels, h, w) to (batch, channels, h / stride, w / stride)."""
        x = x[:, :, :: self.every, :: self.every]
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


def separable(
    channels: int, kernel: int, stride: int, dilation: int, affine: bool
) -> list[nn.Module]:
    """Return ReLU, depthwise and pointwise convolution, batch norm."""
    return [
        nn.ReLU(),
        Depthwise(channels, kernel, stride, dilation),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    ]


class ReLUConvBN(nn.Sequential):
    """ReLU, 1x1 convolution, batch norm."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs, affine=affine),
        )


class FactorizedReduce(nn.Module):
    """Half the side without losing every other pixel: two strided 1x1 convolutions, one shifted."""

    def __init__(self, inputs: int, outputs: int, affine: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(outputs, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, h, w) to (batch, outputs, h / 2 rounded up, w / 2 rounded up)."""
        x = self.relu(x)
        height, width = x.shape[2:]
        # An odd side has no pixel left for the last shifted position, where a zero stands.
        shifted = F.pad(x, (-1, width % 2, -1, height % 2))
        halves = torch.cat([self.even(x), self.odd(shifted)], dim=1)
        normed: Tensor = self.norm(halves)
        return normed


def operation(index: int, channels: int, stride: int, affine: bool) -> nn.Module:
    """Return an operation other than ``none``; a supernet's has no affine batch norm.

    A pool of a supernet is followed by a batch norm, so that it competes on one scale with the
    convolutions.
    """
    if index in (MAX_POOL, AVG_POOL):
        pool = (
            nn.MaxPool2d(3, stride, 1)
            if index == MAX_POOL
            else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        )
        return pool if affine else nn.Sequential(pool, nn.BatchNorm2d(channels, affine=False))
    if index == SKIP:
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    kernel = 5 if index in (SEP5, DIL5) else 3
    if index in (SEP3, SEP5):
        return nn.Sequential(
            *separable(channels, kernel, stride, 1, affine),
            *separable(channels, kernel, 1, 1, affine),
        )
    return nn.Sequential(*separable(channels, kernel, stride, 2, affine))


class Auxiliary(nn.Module):
    """The second classifier of a training, on 2 x 2 windows of a cell's output.

    The windows lie in the corners and are 5/8 of the side wide: 5 of the 8 pixels for images of 32.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        narrow, wide = 128, 768
        self.convs = nn.Sequential(
            nn.Conv2d(inputs, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, wide, 2, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map float (batch, inputs, h, w) to logits (batch, classes)."""
        sides = [max(side, 2) for side in x.shape[2:]]
        x = F.interpolate(F.relu(x), sides)  # changes a side of one pixel only
        windows = [min(-(-5 * side // 8), side - 1) for side in sides]
        steps = [side - window for side, window in zip(sides, windows, strict=True)]
        logits: Tensor = self.classifier(self.convs(F.avg_pool2d(x, windows, steps)).flatten(1))
        return logits
