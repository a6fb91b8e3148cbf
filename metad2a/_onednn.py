"""A way around a fault of oneDNN in depthwise convolutions of few channels."""

from __future__ import annotations

import os

_VECTOR = 8  # float32 numbers of AVX2


def spare_narrow(channels: int) -> None:
    """Have oneDNN compute by plain AVX where narrow depthwise convolutions would end the process.

    On processors with AVX2 and no AVX-512 its kernels for them write where they must not: with 2
    channels the process aborts (torch 2.13). What the user has set stays. oneDNN looks at the
    setting once, at the first convolution of a process; after that this changes nothing.

    Args:
        channels: the fewest of a depthwise convolution.
    """
    import torch

    if channels < _VECTOR and torch.backends.cpu.get_cpu_capability() == "AVX2":
        os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX")
