"""What to look at next, where every architecture is looked at once."""

from __future__ import annotations

from collections.abc import Callable, Collection

from metad2a.spaces import Architecture
from search.engine.run import Run

_ATTEMPTS = 100  # proposals before one that is not new has to do


def unseen(
    run: Run, seen: Collection[Architecture], propose: Callable[[], Architecture]
) -> Architecture:
    """Return the first suggestion that is new, else a proposal that is.

    Args:
        run: the search, whose suggestions come first where they are still allowed.
        seen: canonical forms of what is not new.
        propose: draws a member of ``run.subspace``. In a space that is used up, one that is not
            new is returned after a bounded number of draws.
    """
    for suggested in run.warm:
        if run.subspace.contains(suggested) and run.space.canonical(suggested) not in seen:
            return suggested
    for _ in range(_ATTEMPTS):
        proposed = propose()
        if run.space.canonical(proposed) not in seen:
            break
    return proposed
