"""Which of the networks is suggested, which are as good as it, and what is smaller or faster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metad2a.answers import TIED

if TYPE_CHECKING:
    from metad2a.result import Suggestions
    from metad2a.suggestion import Candidate

NEAR = 3.0
"""Points of accuracy that a smaller or a faster network may cost."""
_LESS = 0.8
"""What it takes at most, as a share of the suggested one: less of a difference is none."""


@dataclass(frozen=True)
class Choices:
    """A suggestion and what stands beside it."""

    best: Candidate
    """Of those that cannot be told apart, the one of the least work; or what was measured best."""
    ties: tuple[int, ...]
    """Ranks of the others that cannot be told apart from it."""
    smaller: Candidate | None
    """The one with the smallest file within :data:`NEAR` points, where there is one."""
    faster: Candidate | None
    """The one of the least work within :data:`NEAR` points, where there is one."""


def choices(result: Suggestions, searched: bool = False) -> Choices:
    """Choose among all networks of a result.

    Args:
        result: the networks, at least one.
        searched: whether the first of them is what a search measured best.
    """
    most = max(one.accuracy for one in result)
    tied = [one for one in result if one.accuracy >= most - TIED]
    if searched:
        best, ties = result[0], ()
    else:
        best = min(tied, key=lambda one: (one.macs, one.params))
        ties = tuple(one.rank for one in tied if one is not best)
    near = [one for one in result if one.accuracy >= best.accuracy - NEAR]
    small = min(near, key=lambda one: (one.params, one.macs))
    fast = min(near, key=lambda one: (one.macs, one.params))
    return Choices(
        best,
        ties,
        small if small.params <= _LESS * best.params else None,
        fast if fast.macs <= _LESS * best.macs else None,
    )
