"""Which spaces share weights: of cells, and of inverted residual networks at one resolution."""

from __future__ import annotations

from metad2a.errors import InputError
from metad2a.spaces import SPACES, SearchSpace, WeightSharing
from metad2a.spaces._mobile import MobileSpace


def sharing(space: SearchSpace | str) -> WeightSharing:
    """Return a space of cells, whose networks are measured from random weights, or refuse it.

    Raises:
        InputError: there is no such space, or its networks are no cells.
    """
    found = SPACES.get(space) if isinstance(space, str) else space
    if isinstance(found, WeightSharing):
        return found
    able = [one.name for one in SPACES if isinstance(one, WeightSharing)]
    raise InputError(
        f"Networks of {found.name!r} are not measured from random weights: they begin with "
        f"pretrained ones. Use the protocol 'finetune', or one of the spaces {', '.join(able)}."
    )


def at(space: SearchSpace, resolution: int) -> WeightSharing:
    """Return a space as a search works on it: one of cells as it is, a mobile one at a resolution.

    Raises:
        InputError: it has no such resolution.
    """
    if isinstance(space, MobileSpace):
        return space.chain(resolution)
    return sharing(space)
