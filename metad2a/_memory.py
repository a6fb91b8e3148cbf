"""Freed memory is kept for the next layer, not given back to the system and asked for anew."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from functools import lru_cache

LARGEST = 2**26
"""Bytes of the largest tensor whose memory is kept: what a layer gives of a batch of photographs.
Whole datasets are larger, and go back to the system."""
KEPT = 2**29
"""Bytes that may lie free before any go back."""
_TRIM, _MMAP = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of malloc.h


@lru_cache(maxsize=1)
def keep_freed() -> None:
    """Ask glibc to keep what is freed, where glibc it is.

    As it comes, it maps every tensor of more than 32 MiB anew and gives the heap's end back, so that
    each layer's pages are cleared by the system before they are written: half of the time of a pass
    at 224 px (EfficientNet-Lite0, batches of 16, two cores: 40 ms an image, 19 where it is kept).
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        c = ctypes.CDLL(None)
        c.mallopt(_MMAP, LARGEST)
        c.mallopt(_TRIM, KEPT)
