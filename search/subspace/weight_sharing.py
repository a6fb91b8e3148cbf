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


def check_resolution(space: SearchSpace, resolution: int | None) -> None:
    """Refuse a resolution that no network of a space has; None is none.

    Raises:
        InputError: it is one.
    """
    if resolution is None:
        return
    if not isinstance(space, MobileSpace):
        raise InputError(
            f"resolution={resolution} is a decision of spaces such as 'efficientnet_lite'; networks of "
            f"{space.name!r} take images as they are. Leave it out."
        )
    space.chain(resolution)


def at(space: SearchSpace, resolution: int) -> WeightSharing:
    """Return a space as a search works on it: one of cells as it is, a mobile one at a resolution.

    Raises:
        InputError: it has no such resolution.
    """
    if isinstance(space, MobileSpace):
        return space.chain(resolution)
    return sharing(space)
