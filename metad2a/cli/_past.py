"""Past tasks of a database with their images, for the Fisher prior of a search."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.spaces import SearchSpace
    from search.wrappers.fisher import PastTask

BEST = 3
"""Architectures that count as what did best on a task."""


def past_tasks(database: Path, data: Path, space: SearchSpace) -> list[PastTask]:
    """Return the first task of each dataset that has accuracies and whose images are there.

    Args:
        database: as ``metad2a db build`` made it.
        data: folder that holds one folder a dataset.
        space: only architectures of this space count.

    Raises:
        InputError: there is no such task, or a dataset is not what it was.
        DatabaseError: the database cannot be read.
    """
    from metad2a._packages import reach

    reach("database")
    from database import Store
    from database.exchange.rows import stored_rows
    from database.tasks import Task
    from metad2a.datasets import load_dataset
    from search.wrappers.fisher import PastTask

    with Store(database, create=False) as store:
        values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for row in stored_rows(store, "evaluations"):
            if row["kind"] == "accuracy" and row["space"] == space.name:
                values[row["task"]][row["architecture"]].append(row["value"])
        kept = [row for row in stored_rows(store, "tasks") if row["task"] in values]
    found: dict[str, PastTask] = {}
    for row in kept:
        folder = data / row["dataset"]
        if row["dataset"] in found or not folder.is_dir():
            continue
        own = {cell: sum(v) / len(v) for cell, v in values[row["task"]].items()}
        best = sorted(own, key=lambda cell: -own[cell])[:BEST]
        task = Task.of_row(row)
        with load_dataset(folder) as dataset:
            found[row["dataset"]] = PastTask(
                row["name"], task.load(dataset).data, tuple(space.parse(cell) for cell in best)
            )
    if not found:
        raise InputError(
            f"None of the {len(kept)} tasks in {str(database)!r} that have accuracies "
            f"in the space {space.name!r} has its images under {str(data)!r}. Give "
            "the folder that the database was built from."
        )
    return list(found.values())
