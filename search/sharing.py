"""Which spaces can be searched: those whose networks share the weights of one."""

from __future__ import annotations

from metad2a.errors import InputError
from metad2a.spaces import SPACES, SearchSpace, WeightSharing


def sharing(space: SearchSpace | str) -> WeightSharing:
    """Return a space as one that shares weights, or refuse it.

    Raises:
        InputError: there is no such space, or its networks share no weights.
    """
    found = SPACES.get(space) if isinstance(space, str) else space
    if isinstance(found, WeightSharing):
        return found
    able = [one.name for one in SPACES if isinstance(one, WeightSharing)]
    raise InputError(
        f"The space {found.name!r} cannot be searched: searches train one network that holds all "
        f"others, and that of {found.name!r} does not exist. Use `suggest` and `train`, or one of "
        f"the spaces {', '.join(able)}."
    )
