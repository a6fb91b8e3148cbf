"""NAS-Bench-201 as a table: the accuracies of its 15,625 cells on CIFAR-10.

Source: Dong and Yang, "NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture
Search", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from database.exchange.rows import Row
from database.importers._csv import header, lines
from database.importers._published import CIFAR10, PublishedProtocol
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError

ORIGIN = Origin("nasbench201", "MIT", "https://github.com/D-X-Y/NAS-Bench-201", 2020)
_HALF = "trained on the train half of CIFAR-10, accuracy on the other half"
_WHOLE = "trained on CIFAR-10's train and validation halves, accuracy on its test images"
_SEED = "Mean over the benchmark's seeds; the seed here is the cell's official index."
PROTOCOLS = {
    f"c10_{side}{epochs}": PublishedProtocol(
        f"nasbench201-{side}{epochs}", f"{epochs} epochs, {split}. {_SEED}"
    )
    for epochs in (12, 200)
    for side, split in (("val", _HALF), ("test", _WHOLE))
}
"""Column of the table to its protocol."""


class NasBench201(Importer):
    """Reads the accuracies that a table of cells has."""

    origin = ORIGIN
    wants = ("CSV file with the columns idx, arch and some of " + ", ".join(PROTOCOLS),)

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return one task, CIFAR-10 as published, and an evaluation a cell and protocol."""
        (path,) = given
        task = CIFAR10.task()
        return {"tasks": [task], "evaluations": _evaluations(path, task)}


def _evaluations(path: Path, task: Row) -> Iterator[Row]:
    columns = header(path)
    found = {name: protocol for name, protocol in PROTOCOLS.items() if name in columns}
    if not found:
        raise InputError(
            f"{str(path)!r} has none of the columns {', '.join(PROTOCOLS)}; it has "
            f"{', '.join(columns)[:300] or 'none'}. Give the table of accuracies."
        )
    for line in lines(path, ("idx", "arch", *found)):
        for column, protocol in found.items():
            yield protocol.evaluation(
                ORIGIN, task, line.text("arch"), line.integer("idx"), line.real(column)
            )


IMPORTERS.register("nasbench201")(NasBench201())
