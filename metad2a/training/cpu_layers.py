"""Layers that give the same, and train in less time on a CPU.

Depthwise convolutions of maps that are smaller than their kernel: oneDNN has no fast kernel for the gradient of a depthwise convolution's weights where the map is
smaller than the kernel: 5x5 on 4x4 takes 12 ms where its output takes 0.3 (672 channels, batches of
16, two cores), and the last stages of a mobile network at 64 to 128 px are all of this kind. Pieces
of 3x3 taps over the padded map have one: together they take a fifth of that, or less.

In bfloat16, on processors that compute with it, their gradients have no fast kernel at all: that of the input
of a 3x3 with a stride takes 34 ms where float32 takes one. So they stay in float32 under autocast, and what is
bfloat16 are the convolutions of 1x1. A step of six stages at 96 px takes 192 ms then, all in bfloat16 343, all in
float32 209 (one thread of a Xeon with AMX).

Batch norms whose statistics stand still: folded into the weights at each step, they need no pass over the
maps, forward or back. A step of six stages at 96 px takes 214 ms in the place of 255, of the whole network at
128 px 362 and 422 (batches of 16, one thread of an AMD EPYC).
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metad2a.spaces.networks.inverted_residual import ConvNorm
from metad2a.spaces.supernets.mobile import DepthwiseSlice

_PIECE = 3


class _Pieces(torch.autograd.Function):
    """A depthwise convolution whose weights' gradient is found in pieces of 3x3 taps."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        of_x = of_weight = None
        if ctx.needs_input_grad[0]:
            of_x = _backward(gradient, x, weight, ctx.stride, ctx.padding, 0)
        if ctx.needs_input_grad[1]:
            kernel = weight.shape[-1]
            padded = F.pad(x, (ctx.padding,) * 4)
            height, width = (ctx.stride * (side - 1) + _PIECE for side in gradient.shape[-2:])
            piece = weight[..., :_PIECE, :_PIECE].contiguous()
            of_weight = torch.empty_like(weight)
            # Pieces of a kernel of 5 or 7 share a row of taps, which each of them finds alike.
            for top in range(0, kernel - 1, _PIECE - 1):
                for left in range(0, kernel - 1, _PIECE - 1):
                    part = padded[..., top : top + height, left : left + width]
                    part = part.contiguous(memory_format=torch.channels_last)
                    found = _backward(gradient, part, piece, ctx.stride, 0, 1)
                    of_weight[..., top : top + _PIECE, left : left + _PIECE] = found
        return of_x, of_weight, None, None


def _backward(
    gradient: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, which: int
) -> Tensor:
    """Return the gradient of a depthwise convolution's input (``which`` 0) or weight (1)."""
    wanted = [which == 0, which == 1, False]
    found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
        gradient,
        x,
        weight,
        None,
        [stride] * 2,
        [padding] * 2,
        [1, 1],
        False,
        [0, 0],
        len(weight),
        wanted,
    )
    return found[which]


def convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Return the depthwise convolution of float (batch, c, h, w) with (c, 1, kernel, kernel)."""
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return convolve(x.float(), weight.float(), stride, padding)
    if min(x.shape[-2:]) >= weight.shape[-1]:
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))
    found: Tensor = _Pieces.apply(x, weight, stride, padding)
    return found


def _forward(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return convolve(x, conv.weight, conv.stride[0], int(conv.padding[0]))


def _normed(layer: ConvNorm, x: Tensor) -> Tensor:
    conv, norm = layer.conv, layer.norm
    if conv.groups > 1 and torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            return _normed(layer, x.float())
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return ConvNorm.forward(layer, x)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight, bias = conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale
    stride, padding, x = conv.stride[0], int(conv.padding[0]), layer.padded(x)
    if conv.groups > 1 and min(x.shape[-2:]) < conv.kernel_size[0]:
        y = convolve(x, weight, stride, padding) + bias[:, None, None]
    else:
        y = F.conv2d(x, weight, bias, stride, padding, 1, conv.groups)
    activated: Tensor = layer.activation(y)
    return activated


def quicken(network: nn.Module) -> None:
    """Let the layers of a network on a CPU train in less time.

    Outputs and gradients differ by rounding.
    """
    for module in network.modules():
        if isinstance(module, ConvNorm):
            module.forward = functools.partial(_normed, module)  # type: ignore[method-assign]
        elif isinstance(module, DepthwiseSlice):
            module.convolve = convolve
        elif (
            type(module) is nn.Conv2d  # and none with a forward of its own
            and module.groups == module.in_channels == module.out_channels
            and module.kernel_size in ((3, 3), (5, 5), (7, 7))
            and module.padding[0] == module.kernel_size[0] // 2
            and module.stride[0] == module.stride[1]
            and module.dilation == (1, 1)
            and module.bias is None
        ):
            module.forward = functools.partial(_forward, module)  # type: ignore[method-assign]
