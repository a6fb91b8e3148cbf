"""The datasets of a build: opened, held to what they were when it began, and dealt out as tasks."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from database.plan import Plan
from database.tasks import Task, TaskKind, draw_tasks, family_of, seeded
from metad2a.errors import InputError
from metad2a.registry import suggest_name

if TYPE_CHECKING:
    from pathlib import Path

    from metad2a.datasets import ImageDataset

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Opened:
    """A dataset, the folder that it is in, and its fingerprint, worked out once."""

    path: Path
    dataset: ImageDataset
    fingerprint: str


def open_datasets(
    plan: Plan, data: Path, known: Mapping[str, str], skipped: dict[str, str], kind: TaskKind
) -> list[Opened]:
    """Open every dataset folder that tasks can be drawn from, in the order of their names.

    Args:
        plan: says which.
        data: folder that they are in.
        known: fingerprints by folder name when the build began, and then only those are opened;
            empty at its first run.
        skipped: is told of folders that give no task, with the reason.
        kind: of the tasks.

    Raises:
        InputError: a folder is missing or its content has changed, or none is a dataset.
    """
    from metad2a.datasets import load_dataset

    if not data.is_dir():
        raise InputError(
            f"data = {str(data)!r} is not a folder. Give one that holds a folder for "
            "each dataset, in the plan or as --data."
        )
    here = sorted(
        path.name for path in data.iterdir() if path.is_dir() and not path.name.startswith(".")
    )
    wanted = sorted(known or plan.tasks.only or set(here) - set(plan.tasks.exclude))
    for name in [name for name in wanted if name not in here]:
        began = " The build began with it: restore its files." if known else ""
        raise InputError(
            f"There is no dataset {name!r} in {str(data)!r}.{began}{suggest_name(name, here)}"
        )
    datasets = []
    for name in wanted:
        try:
            dataset = load_dataset(data / name)
            opened = Opened(data / name, dataset, dataset.fingerprint())
            draw_tasks(dataset, 1, plan.seed, opened.fingerprint, kind)
        except InputError as error:
            if name in known:
                raise
            skipped[name] = str(error)
            _log.warning("The dataset folder %s is left out: %s", name, error)
            continue
        if known and opened.fingerprint != known[name]:
            raise InputError(
                f"The dataset {name!r} has changed since the build {plan.name!r} began: its "
                f"fingerprint is {opened.fingerprint}, not {known[name]}. Restore its files, "
                "or begin anew: give the plan another name."
            )
        datasets.append(opened)
    if not datasets:
        raise InputError(
            f"No folder in {str(data)!r} is a dataset that tasks can be drawn "
            f"from: {skipped or 'there are none'}."
        )
    return datasets


def deal(datasets: list[Opened], count: int, seed: int, kind: TaskKind) -> list[Task]:
    """Draw ``count`` tasks, the datasets taking turns so that an early stop has covered all.

    In each turn the families take turns, too: the first tasks are of as many as there are.
    """
    mixed = [datasets[place] for place in seeded("order", seed).permutation(len(datasets))]
    before: Counter[str] = Counter()
    turn_of: dict[str, int] = {}
    for opened in mixed:
        family = family_of(opened.dataset.name)
        turn_of[opened.fingerprint] = before[family]
        before[family] += 1
    mixed.sort(key=lambda opened: turn_of[opened.fingerprint])
    turns = -(-count // len(mixed))
    drawn = [draw_tasks(opened.dataset, turns, seed, opened.fingerprint, kind) for opened in mixed]
    return [own[turn] for turn in range(turns) for own in drawn][:count]
