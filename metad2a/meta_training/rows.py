"""Rows of fine-tuned networks, from exported evaluations, tasks, and landmarks of the tasks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metad2a._files import write_file
from metad2a.errors import InputError
from metad2a.model.landmarks import Landmarks, of_dataset
from metad2a.model.performance import Row
from metad2a.model.records import COLUMNS, read_rows
from metad2a.protocol import FINE_TUNE, FINE_TUNE_NAME, PROBE, FineTune, parse_fine_tune

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset

_PACKAGED = Path(__file__).parent.parent / "assets" / "database"
TASKS = ("task", "name", "dataset", "fingerprint", "family", "classes", "train", "test")


def read_landmarks(path: Path) -> dict[str, Landmarks]:
    """Read landmarks by the key of their task; none where the file is missing.

    Raises:
        InputError: the file holds something else.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {key: Landmarks.from_dict(values) for key, values in found.items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{str(path)!r} holds no landmarks of tasks: {error}. Remove it, and measure again."
        ) from error


def packaged_landmarks() -> dict[str, Landmarks]:
    """Return the landmarks of the tasks that the packaged model learnt from, by their key."""
    return read_landmarks(_PACKAGED / "finetune_landmarks.json")


def write_landmarks(path: Path, known: Mapping[str, Landmarks]) -> None:
    """Write what :func:`read_landmarks` reads, a task a line."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(known[key].to_dict(), sort_keys=True)}"
        for key in sorted(known)
    ]
    write_file(path, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def measured(dataset: ImageDataset, task: Mapping[str, Any]) -> Landmarks:
    """Measure the landmarks of a task.

    Args:
        dataset: the task's.
        task: a row of exported tasks.
    """
    train, test = (np.array(task[side], dtype=np.int64) for side in ("train", "test"))
    return of_dataset(dataset, train, 0, test)


def recipe_of(protocol: str) -> FineTune | None:
    """Return the recipe that a protocol's name stands for, None for other kinds of protocols."""
    if protocol == PROBE.name:
        found: FineTune = PROBE.recipe
        return found
    if protocol.split(":", maxsplit=1)[0] != FINE_TUNE_NAME:
        return None
    recipe: FineTune = parse_fine_tune(protocol).recipe
    return recipe


def rows(
    evaluations: Iterable[Mapping[str, Any]],
    tasks: Iterable[Mapping[str, Any]],
    known: Mapping[str, Landmarks],
) -> list[Row]:
    """Join evaluations of fine-tuned and frozen networks with their tasks and landmarks.

    What is of another protocol, or of a task without landmarks, is left out.
    """
    by_key = {task["task"]: task for task in tasks}
    found = []
    for one in evaluations:
        recipe, task = recipe_of(one["protocol"]), by_key.get(one["task"])
        if recipe is None or task is None or one["task"] not in known:
            continue
        row = Row(
            dataset=one["dataset"],
            family=one["family"],
            task=one["task"],
            landmarks=known[one["task"]],
            space=one["space"],
            architecture=one["architecture"],
            recipe=recipe,
            classes=len(task["classes"]),
            images=len(task["train"]),
            judged=len(task["test"]),
            value=float(one["value"]),
        )
        found.append(row)
        if recipe.rate and one["curve"]:
            # A training's curve begins with the frozen network.
            found.append(
                dataclasses.replace(row, recipe=PROBE.recipe, value=float(one["curve"][0]))
            )
    return found


def read(evaluations: Path, tasks: Path, known: Mapping[str, Landmarks]) -> list[Row]:
    """Read the two Parquet files of ``metad2a db export`` and join them.

    Raises:
        InputError: a file cannot be read.
    """
    return rows(read_rows(evaluations, (*COLUMNS, "curve")), read_rows(tasks, TASKS), known)


def read_early(path: Path) -> list[Row]:
    """Read rows that were measured by hand, with the landmarks of their datasets beside them.

    Raises:
        InputError: the file holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = {key: Landmarks.from_dict(values) for key, values in found["landmarks"].items()}
        return [
            Row(
                **{
                    **row,
                    "recipe": dataclasses.replace(FINE_TUNE, **row["recipe"]),
                    "landmarks": known[row["task"]],
                }
            )
            for row in found["rows"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{str(path)!r} holds no rows of trainings: {error}.") from error


def packaged_rows() -> list[Row]:
    """Return the rows that the packaged model learnt from."""
    evaluations, tasks = _PACKAGED / "finetune.parquet", _PACKAGED / "finetune_tasks.parquet"
    rows = read(evaluations, tasks, packaged_landmarks())
    return rows + read_early(_PACKAGED / "finetune_early.json")
