"""TransNAS-Bench-101's cells: one search space on seven tasks, whose rankings of it differ.

Source: Duan et al., "TransNAS-Bench-101: Improving Transferability and Generalizability of
Cross-Task Neural Architecture Search", CVPR 2021. Its cells are those of NAS-Bench-201 without
pooling, trained on 120,000 rooms of Taskonomy (80,000 train, 20,000 test).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from database.exchange.rows import Row
from database.importers._csv import Line, lines
from database.importers._published import CELLS, PublishedDataset, PublishedProtocol
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError
from metad2a.spaces import SPACES

ORIGIN = Origin("transnasbench101", "MIT", "https://github.com/yawen-d/TransNASBench", 2021)
_TRAIN, _TEST, _SIDE = 80_000, 20_000, 256
_SEED = "The seed here is the cell's place among all cells of its space, in lexicographic order."
ACCURACY = PublishedProtocol(
    "transnasbench101-accuracy", f"Accuracy after the benchmark's 25 or 30 epochs. {_SEED}"
)
SIMILARITY = PublishedProtocol(
    "transnasbench101-ssim",
    f"Structural similarity of the picture that the network draws. {_SEED}",
    "score",
)
LOSS = PublishedProtocol(
    "transnasbench101-loss", f"Loss of the room's layout, times -1. {_SEED}", "score"
)
_NONE = 2
"""Classes of a task that has none: the least that the database takes."""
TASKS: Mapping[str, tuple[int, PublishedProtocol]] = {
    "class_object": (75, ACCURACY),
    "class_scene": (47, ACCURACY),
    "jigsaw": (1000, ACCURACY),
    "segmentsemantic": (17, ACCURACY),
    "autoencoder": (_NONE, SIMILARITY),
    "normal": (_NONE, SIMILARITY),
    "room_layout": (_NONE, LOSS),
}
"""Column of the table to the number of its classes and what it holds."""


class TransNasBench101(Importer):
    """Reads what every cell reached on each task.

    The images are the same for all seven; a task here has a dataset of its own, since what is asked
    of the images is what sets it apart.
    """

    origin = ORIGIN
    wants = (f"CSV file with the columns arch and {', '.join(TASKS)}",)

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return the tasks, and an evaluation a cell and task."""
        (path,) = given
        tasks = {
            name: PublishedDataset(f"taskonomy-{name}", _TRAIN, _TEST, classes, _SIDE).task()
            for name, (classes, _) in TASKS.items()
        }
        return {"tasks": tasks.values(), "evaluations": _evaluations(path, tasks)}


def _evaluations(path: Path, tasks: Mapping[str, Row]) -> Iterator[Row]:
    for line in lines(path, ("arch", *TASKS)):
        number = _number(line)
        for name, (_, protocol) in TASKS.items():
            yield protocol.evaluation(
                ORIGIN, tasks[name], line.text("arch"), number, line.real(name)
            )


def _number(line: Line) -> int:
    """Return the cell's place in its space; isomorphic cells were trained one by one."""
    space, place = SPACES.get(CELLS), 0
    try:
        cell = space.parse(line.text("arch"))
    except InputError:
        raise line.wrong("arch", "a cell of NAS-Bench-201") from None
    for decision, choice in zip(space.decisions, cell, strict=True):
        place = place * len(decision.values) + choice
    return place


IMPORTERS.register(ORIGIN.name)(TransNasBench101())
