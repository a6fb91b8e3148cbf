"""Once-for-all sub-networks on ImageNet, which wait for their search space.

Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment",
ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from database.exchange.rows import Row
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError
from metad2a.spaces import SPACES

ORIGIN = Origin("once-for-all", "Apache-2.0", "https://github.com/mit-han-lab/once-for-all", 2020)
_SPACE = "mobilenetv3"


class OnceForAll(Importer):
    """Refuses its table: rows of a space that is not there would have no canonical form."""

    origin = ORIGIN
    wants = ("CSV file with the columns ks, e, d, r, top1",)

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Raise the error that says what is missing."""
        raise InputError(
            f"The rows of {given[0]} are of the search space {_SPACE!r}, which this "
            f"version does not have; it has {', '.join(SPACES.names())}. Nothing was "
            "imported."
        )


IMPORTERS.register(ORIGIN.name)(OnceForAll())
