"""A cell of NAS-Bench-201: its operations and its edges."""

from __future__ import annotations

NONE, SKIP, CONV1, CONV3, POOL = range(5)
EDGES: tuple[tuple[int, int], ...] = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(source, target) of each slot, in the order of the official string."""
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
