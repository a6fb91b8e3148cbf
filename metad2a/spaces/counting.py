"""Parameters and multiply-adds of any network, counted in a pass instead of by a formula."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from metad2a.spaces.base import Cost

if TYPE_CHECKING:
    from torch import Tensor, nn


def count(network: nn.Module, side: int) -> Cost:
    """Return what :meth:`SearchSpace.cost` says of networks of its own sizes.

    Counted are trainable parameters, and multiply-adds of convolutions and linear layers.

    Args:
        network: takes float images (batch, 3, side, side); on the CPU, or on the meta device, in
            which case it is left on the CPU with weights that mean nothing.
        side: height and width of the image, in pixels.
    """
    import torch
    from torch import nn

    macs = 0

    def add(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += output.shape[1:].numel() * cast("Tensor", module.weight)[0].numel()

    hooks = [
        module.register_forward_hook(add)
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    if any(p.is_meta for p in network.parameters()):
        network = network.to_empty(device="cpu")
    training = network.training
    # A batch of no images computes nothing, and memory that is not touched is not taken. On the
    # meta device, a pass is many times slower.
    with torch.no_grad():
        network.eval()(torch.empty(0, 3, side, side))
    network.train(training)
    for hook in hooks:
        hook.remove()
    return Cost(sum(p.numel() for p in network.parameters()), macs)
