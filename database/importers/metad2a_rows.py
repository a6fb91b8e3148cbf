"""MetaD2A's own meta-training rows: NAS-Bench-201 cells trained on subsets of ImageNet-32.

Source: Lee, Hyung, Hwang, "Rapid Neural Architecture Search by Learning to Generate Graphs from
Datasets", ICLR 2021.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from database.exchange.rows import Row
from database.importers._cells import WANTED, Cells
from database.importers._csv import lines, opened
from database.importers._published import IMAGENET32, PublishedProtocol
from database.importers.base import IMPORTERS, Importer, Origin
from metad2a.errors import InputError

ORIGIN = Origin("metad2a-rows", "MIT", "https://github.com/HayeonLee/MetaD2A", 2021)
PROTOCOL = PublishedProtocol(
    "metad2a-train",
    "Accuracy of a cell trained on 20 classes of ImageNet-32, as MetaD2A "
    "published it without the schedule. The seed here is the cell's official index.",
)
_SPLITS = ("train", "valid")


class MetaD2ARows(Importer):
    """Reads the rows, and the tasks that they name.

    Classes are numbered from 1 in the file and from 0 here. How many images a class had was not
    published; ImageNet's mean, 1,281, and its 50 for validation stand for it.
    """

    origin = ORIGIN
    wants = (
        "CSV file with the columns task, arch_idx, acc, split",
        "JSON file with the list of the classes of each task",
        WANTED,
    )

    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return a task for every one that has a row, and its evaluations."""
        path, classes, cells = given
        numbers = {line.integer("task") for line in lines(path, ("task",))}
        tasks = {
            number: _task(classes, number, found)
            for number, found in enumerate(_class_lists(classes))
            if number in numbers
        }
        return {"tasks": tasks.values(), "evaluations": _evaluations(path, tasks, cells)}


def _class_lists(path: Path) -> list[Any]:
    try:
        with opened(path) as file:
            found = json.load(file)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(path)!r} is not JSON, or is cut off: {error}. Download it again."
        ) from error
    if not isinstance(found, list):
        raise InputError(f"{str(path)!r} holds no list. Give the class lists as published.")
    return found


def _task(path: Path, number: int, classes: Any) -> Row:
    least, most = 1, IMAGENET32.classes
    if (
        not isinstance(classes, list)
        or len(classes) < 2
        or not all(isinstance(one, int) and least <= one <= most for one in classes)
    ):
        raise InputError(
            f"{str(path)!r}: the classes of task {number} are {str(classes)[:100]}, "
            f"not two or more numbers from {least} to {most}. Download it again."
        )
    return IMAGENET32.task(
        [one - 1 for one in classes],
        f"metad2a-{number:04d}",
        train_images=len(classes) * IMAGENET32.train_images // IMAGENET32.classes,
        test_images=len(classes) * IMAGENET32.test_images // IMAGENET32.classes,
    )


def _evaluations(path: Path, tasks: Mapping[int, Row], cells: Path) -> Iterator[Row]:
    known = Cells(cells)
    for line in lines(path, ("task", "arch_idx", "acc", "split")):
        if line.integer("task") not in tasks:
            raise line.wrong("task", "the number of a task in the list of classes")
        if line.text("split") not in _SPLITS:
            raise line.wrong("split", " or ".join(_SPLITS))
        index, cell = known.at(line, "arch_idx")
        yield PROTOCOL.evaluation(
            ORIGIN,
            tasks[line.integer("task")],
            cell,
            index,
            line.real("acc"),
            versions=f"MetaD2A split {line.text('split')}",
        )


IMPORTERS.register(ORIGIN.name)(MetaD2ARows())
