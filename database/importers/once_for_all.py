"""Once-for-all's sub-networks, MobileNetV3 at width 1.0, and what they reach on ImageNet.

Source: Cai et al., "Once-for-All: Train One Network and Specialize it for Efficient Deployment",
ICLR 2020. They are slices of one trained network, not trained one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from database.exchange.rows import Row
from database.importers._csv import lines
from database.importers._published import PublishedDataset, PublishedProtocol
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError
from metad2a.spaces import SPACES

ORIGIN = Origin("once-for-all", "Apache-2.0", "https://github.com/mit-han-lab/once-for-all", 2020)
IMAGENET = PublishedDataset("imagenet", 1_281_167, 50_000, 1000, 224)
TOP1 = PublishedProtocol(
    "once-for-all-top1",
    "Top-1 accuracy of a slice of the trained once-for-all network, batch norm re-calibrated. The "
    "seed here counts the rows of one network.",
)
_SPACE = "mobilenetv3"
_COLUMNS = ("ks", "e", "d", "r", "top1")


class OnceForAll(Importer):
    """Reads a row a sub-network: kernels, expansions, depths, resolution and accuracy."""

    origin = ORIGIN
    wants = (f"CSV file with the columns {', '.join(_COLUMNS)}",)

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return the task, and an evaluation a row."""
        (path,) = given
        task = IMAGENET.task()
        return {"tasks": [task], "evaluations": _evaluations(path, task)}


def _evaluations(path: Path, task: Row) -> Iterator[Row]:
    space = SPACES.get(_SPACE)
    seen: Counter[str] = Counter()
    for line in lines(path, _COLUMNS):
        text = "r{r}-d{d}-ks{ks}-e{e}".format(**line.cells)
        try:
            name = space.format(space.canonical(space.parse(text)))
        except InputError as error:
            raise InputError(
                f"{str(path)!r}, row {line.number}, is no network of {_SPACE!r}: {error}"
            ) from None
        yield TOP1.evaluation(ORIGIN, task, name, seen[name], line.real("top1"), space=_SPACE)
        seen[name] += 1


IMPORTERS.register(ORIGIN.name)(OnceForAll())
