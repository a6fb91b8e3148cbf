"""``metad2a meta performance``: what fine-tuned networks reach, learnt from exported rows."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.cli.common import add_json, answer
from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.model.landmarks import Landmarks


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("evaluations", type=Path, help="Parquet file of 'metad2a db export'")
    parser.add_argument("tasks", type=Path, help="Parquet file of 'metad2a db export --tasks'")
    parser.add_argument(
        "--landmarks",
        type=Path,
        required=True,
        metavar="FILE",
        help="JSON file of the tasks' landmarks; what it lacks is measured and added",
    )
    parser.add_argument(
        "--early", type=Path, metavar="FILE", help="JSON file of trainings measured by hand"
    )
    parser.add_argument("--data", type=Path, help="folder of the datasets, to measure landmarks")
    parser.add_argument("--out", type=Path, metavar="FILE", help="model file to write")
    add_json(parser)


def run(args: Namespace) -> int:
    """Measure what is missing, judge, fit and write."""
    from dataclasses import asdict

    from metad2a.meta_training import rows as reading
    from metad2a.meta_training.judge import judge, predictions, table
    from metad2a.model.performance import LeftOut

    known = reading.read_landmarks(args.landmarks)
    if args.data is not None:
        _complete(args, known)
    rows = reading.read(args.evaluations, args.tasks, known)
    if args.early is not None:
        rows += reading.read_early(args.early)
    if not rows:
        raise InputError(
            f"{str(args.evaluations)!r} holds no fine-tuned network of a task with landmarks. "
            "Give --data, the folder of the datasets, so that landmarks can be measured."
        )
    learnt = LeftOut.of(rows)
    judged = judge(rows, predictions(learnt))
    figures = {
        "rows": len(rows),
        "tasks": len({row.task for row in rows}),
        "datasets": len({row.dataset for row in rows}),
        "families": len({row.family for row in rows}),
        "judged": [asdict(one) for one in judged],
    }
    if args.out is not None:
        learnt.calibrated().save(args.out, {k: v for k, v in figures.items() if k != "judged"})
    text = (
        f"{figures['rows']} trainings, {figures['tasks']} tasks, {figures['datasets']} datasets, "
        f"{figures['families']} families\n"
    )
    answer(args, figures, text + table(judged))
    return 0


def _complete(args: Namespace, known: dict[str, Landmarks]) -> None:
    """Measure the landmarks that are missing; what was measured is kept at once."""
    from tqdm.auto import tqdm

    from metad2a.cli._tasks import unchanged_dataset
    from metad2a.meta_training import rows as reading
    from metad2a.model.records import read_rows

    labelled = {row["task"] for row in read_rows(args.evaluations, ("task",))}
    missing = [
        task
        for task in read_rows(args.tasks, reading.TASKS)
        if task["task"] in labelled and task["task"] not in known and task["train"]
    ]
    dataset = None
    for task in tqdm(sorted(missing, key=lambda one: one["dataset"]), unit="task", delay=2):
        if dataset is None or dataset.name != task["dataset"]:
            dataset = unchanged_dataset(args.data, task)
        known[task["task"]] = reading.measured(dataset, task)
        reading.write_landmarks(args.landmarks, known)
