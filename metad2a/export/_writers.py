"""Which module writes the code of which space's networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from metad2a.errors import InputError
from metad2a.spaces.base import SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from metad2a.export.design import Design


class Writer(Protocol):
    """Writes the classes of a space's networks, the last one being ``Network``."""

    def classes(self, design: Design) -> list[str]:
        """Return the source of each class, in the order in which they are needed."""

    def sizes(self, network: nn.Module) -> dict[str, int]:
        """Return the ``channels`` and ``cells`` of a network of the space.

        Raises:
            AttributeError: it is of another make.
        """


def writer(space: SearchSpace) -> Writer:
    """Return the writer of a space.

    Raises:
        InputError: there is none.
    """
    from metad2a.export import _darts, _nasbench201

    writers: dict[str, Writer] = {"nasbench201": _nasbench201, "darts": _darts}
    if space.name not in writers:
        raise InputError(
            f"Networks of the space {space.name!r} cannot be exported as code; those "
            f"of {' and '.join(map(repr, writers))} can."
        )
    return writers[space.name]
