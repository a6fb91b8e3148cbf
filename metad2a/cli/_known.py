"""``metad2a meta known``: tell a model which datasets it learnt from, for ``suggest`` to name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from metad2a.cli.common import add_json, answer, columns
from metad2a.errors import InputError


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("evaluations", type=Path, help="Parquet file of 'metad2a db export'")
    parser.add_argument("tasks", type=Path, help="Parquet file of 'metad2a db export --tasks'")
    parser.add_argument("--data", type=Path, required=True, help="folder of the datasets")
    parser.add_argument(
        "--model",
        type=Path,
        required=True,
        help="folder of the model that was trained on them, to write known.json in",
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """Describe every dataset that has a training, and write what is known of each."""
    from tqdm.auto import tqdm

    from metad2a.cli._tasks import TASK_COLUMNS, unchanged_dataset
    from metad2a.model.description import describe
    from metad2a.model.known import KnownDataset, embed, winners
    from metad2a.model.known_file import write_known
    from metad2a.model.metad2a import MetaD2A
    from metad2a.model.records import read_records, read_rows

    if not args.model.is_dir():
        raise InputError(
            f"--model {str(args.model)!r} is not a folder. Give the one that "
            "'metad2a meta train --out' wrote."
        )
    model = MetaD2A.from_pretrained(args.model)
    best = winners(read_records(args.evaluations), model.space, model.protocol)
    # Of a published table there are no images to describe.
    rows = {
        row["dataset"]: row
        for row in read_rows(args.tasks, TASK_COLUMNS)
        if row["train"] and row["dataset"] in best
    }
    if not rows:
        raise InputError(
            f"No dataset of {str(args.tasks)!r} has trainings under "
            f"{model.protocol!r} in the space {model.space.name!r}. Take both files "
            "from the export that the model was trained on."
        )
    found = []
    for name, row in tqdm(sorted(rows.items()), desc="describing", unit="dataset"):
        with unchanged_dataset(args.data, row) as dataset:
            description, _ = describe(dataset, seed=0)
        architecture, accuracy = best[name]
        found.append(
            KnownDataset(
                name,
                row["family"],
                architecture,
                round(100 * accuracy, 2),
                tuple(embed(model.predictor, description).tolist()),
            )
        )
    write_known(args.model, found)
    shown = [
        {
            "name": one.name,
            "family": one.family,
            "best_architecture": one.best_architecture,
            "best_accuracy": one.best_accuracy,
        }
        for one in found
    ]
    answer(
        args,
        {"datasets": shown},
        columns(
            [
                ("dataset", "family", "best", "by"),
                *(
                    (one.name, one.family, f"{one.best_accuracy:.1f} %", one.best_architecture)
                    for one in found
                ),
            ]
        ),
    )
    return 0
