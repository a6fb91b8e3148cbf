"""Which of the networks is suggested, which are as good as it, and what is smaller or faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.result import Suggestions

NEAR = 3.0
"""Points of accuracy that a smaller or a faster network may cost."""
_LESS = 0.8
"""What it takes at most, as a share of the suggested one: less of a difference is none."""


@dataclass(frozen=True)
class Choices:
    """A suggestion and what stands beside it."""

    best: Candidate
    """Of those that nothing tells apart, the one of the least work; or what was measured best."""
    ties: tuple[int, ...]
    """Ranks of the others that nothing tells from it."""
    smaller: Candidate | None
    """The one with the smallest file within :data:`NEAR` points, where there is one."""
    faster: Candidate | None
    """The one of the least work within :data:`NEAR` points, where there is one."""


def choices(result: Suggestions, searched: bool = False) -> Choices:
    """Choose among the networks of a result.

    Args:
        result: the networks, at least one.
        searched: whether the first of them is what a search measured best.
    """
    tied = [] if searched else result.ties
    best = min(tied, key=lambda one: (one.macs, one.rank), default=result[0])
    near = [one for one in result if one.accuracy >= best.accuracy - NEAR]
    small = min(near, key=lambda one: (one.params, one.macs))
    fast = min(near, key=lambda one: (one.macs, one.params))
    return Choices(
        best,
        tuple(one.rank for one in tied if one is not best),
        small if small.params <= _LESS * best.params else None,
        fast if fast.macs <= _LESS * best.macs else None,
    )
