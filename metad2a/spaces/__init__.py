"""Search spaces: one file each, found by the registry."""

from __future__ import annotations

from metad2a.spaces.base import (
    SPACES,
    Architecture,
    Cost,
    Decision,
    SearchSpace,
    WeightSharing,
)

__all__ = ["SPACES", "Architecture", "Cost", "Decision", "SearchSpace", "WeightSharing"]
