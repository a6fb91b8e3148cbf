"""The builder: draw tasks from every dataset, measure architectures on each, store every row.

What is stored is never measured again, and each architecture is stored as soon as it is measured:
a build that was killed has lost the architecture in hand and goes on from there.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from database._worker import StopBuild, Summary, Worker
from database.store import Store
from database.tasks import Task, draw_tasks, family_of
from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.data import image_side

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset

__all__ = ["Summary", "build"]

_log = logging.getLogger(__name__)


def build(
    data: Path | str,
    database: Path | str,
    tasks: int,
    plan: Mapping[str, int],
    *,
    space: str = "nasbench201",
    seed: int = 0,
    device: str = "cpu",
    only: Collection[str] = (),
    exclude: Collection[str] = (),
    share: tuple[int, int] = (0, 1),
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Fill a database from a folder of datasets, going on from what it holds.

    Args:
        data: folder that holds one folder a dataset.
        database: the store's file; made if it is missing.
        tasks: number of tasks, dealt out over the datasets in turn.
        plan: labeller name to number of architectures a task. A smaller number's architectures
            are the first ones of every larger number's.
        space: search space of the architectures.
        seed: of tasks, architectures and measurements.
        device: where labellers compute.
        only: names of the dataset folders to use; all if empty.
        exclude: names of dataset folders that are not used.
        share: (i, n) does only every n-th task from the i-th on, so that n processes with
            i = 0 .. n-1 do all of them on one file.
        progress: told of architectures gone through, of all, and what is being measured.
        should_stop: asked after every architecture.

    Raises:
        InputError: an argument is out of range, a name is unknown, or no folder is a dataset.
        DatabaseError: the store cannot be opened or written.
        MetaD2AError: ten labellers in a row failed.
    """
    from search.labels import LABELLERS

    if tasks < 1 or not plan or min(plan.values()) < 1:
        raise InputError(f"tasks={tasks} and plan={dict(plan)}: every number must be 1 or more, "
                         "and the plan must name a labeller.")
    if not 0 <= share[0] < share[1]:
        raise InputError(f"share={share} must be (i, n) with 0 <= i < n.")
    labellers = {name: LABELLERS.get(name) for name in plan}
    chosen_space = SPACES.get(space)
    summary = Summary()
    with contextlib.ExitStack() as stack:
        datasets = _open_datasets(Path(data), only, exclude, seed, summary)
        for dataset in datasets:
            stack.enter_context(dataset)
        work = _deal(datasets, tasks, seed)[share[0] :: share[1]]
        total = len(work) * sum(plan.values())
        store = stack.enter_context(Store(database))
        for dataset in datasets:
            store.add_dataset(dataset, family_of(dataset.name), image_side(dataset))
        for labeller in labellers.values():
            for protocol in labeller.protocols:
                store.add_protocol(protocol)
        worker = Worker(
            store, chosen_space, labellers, plan, seed, device,
            lambda done, text: progress(done, total, text), should_stop, summary,
        )
        try:
            for dataset, task in work:
                worker.label(dataset, task)
        except StopBuild:
            summary.stopped = True
    return summary


def _open_datasets(
    data: Path, only: Collection[str], exclude: Collection[str], seed: int, summary: Summary
) -> list[ImageDataset]:
    """Open every dataset folder that tasks can be drawn from, in the order of their names."""
    from metad2a.datasets import load_dataset

    if not data.is_dir():
        raise InputError(f"{str(data)!r} is not a folder. Give one that holds a folder a dataset.")
    found = []
    for folder in sorted(data.iterdir()):
        if not folder.is_dir() or folder.name.startswith(".") or folder.name in exclude:
            continue
        if only and folder.name not in only:
            continue
        try:
            dataset = load_dataset(folder)
            draw_tasks(dataset, 1, seed)
        except InputError as error:
            summary.skipped[folder.name] = str(error)
            _log.warning("The dataset folder %s is left out: %s", folder, error)
        else:
            found.append(dataset)
    if not found:
        raise InputError(f"No folder in {str(data)!r} is a dataset that tasks can be drawn from: "
                         f"{summary.skipped or 'there are none'}.")
    return found


def _deal(
    datasets: list[ImageDataset], count: int, seed: int
) -> list[tuple[ImageDataset, Task]]:
    """Draw ``count`` tasks, the datasets taking turns so that an early stop has covered all."""
    turns = -(-count // len(datasets))
    drawn = [(dataset, draw_tasks(dataset, turns, seed)) for dataset in datasets]
    return [(dataset, own[turn]) for turn in range(turns) for dataset, own in drawn][:count]
