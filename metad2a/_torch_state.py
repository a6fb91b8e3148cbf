"""Torch's global settings while this project computes: the usual ones, and the caller's own after."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def usual() -> Iterator[None]:
    """Compute in float32 with gradients, whatever the caller has set; also a decorator.

    A script may have set another default type, or be within ``torch.no_grad`` or
    ``torch.inference_mode``. The global random numbers of torch go on afterwards as if nothing had
    happened: new layers draw from them before they get their weights.
    """
    import torch

    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.random.fork_rng(devices=[]),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)
