"""Tasks of a database, described for meta-training: the join of three files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from metad2a.model.description import Description
    from metad2a.model.meta_training import MetaTask


TASK_COLUMNS = (
    "task",
    "name",
    "dataset",
    "fingerprint",
    "family",
    "resolution",
    "classes",
    "train",
    "test",
)


def described_tasks(tasks: Path, data: Path, redraws: int, cache: Path) -> list[MetaTask]:
    """Describe every task of an export, going on from what ``cache`` holds.

    Args:
        tasks: Parquet file that ``metad2a db export --tasks`` wrote.
        data: folder that holds the datasets.
        redraws: image samples a task.
        cache: folder of descriptions made before.

    Raises:
        InputError: the file is none of tasks, or a dataset is missing or is not what it was when
            its tasks were drawn.
    """
    from metad2a.model.description_files import load_description, save_description
    from metad2a.model.meta_training import MetaTask
    from metad2a.model.records import read_rows

    rows = sorted(read_rows(tasks, TASK_COLUMNS), key=lambda row: (row["dataset"], row["name"]))
    published = next((row for row in rows if not row["train"]), None)
    if published is not None:
        raise InputError(
            f"The task {published['name']!r} comes from a published table, whose images nobody "
            "listed, so it cannot be described. Leave such sources out of the export with "
            "--exclude-source."
        )
    found, dataset = [], None
    for row in tqdm(rows, desc="describing", unit="task"):
        files = [_file(cache, row, i) for i in range(redraws)]
        missing = [i for i, file in enumerate(files) if not file.exists()]
        if missing and (dataset is None or dataset.name != row["dataset"]):
            dataset = unchanged_dataset(data, row)
        for i in missing:
            if dataset is not None:
                save_description(files[i], _describe(dataset, row, i))
        found.append(
            MetaTask(
                row["task"],
                row["name"],
                row["dataset"],
                row["family"],
                len(row["test"]),
                tuple(map(load_description, files)),
            )
        )
    return found


def unchanged_dataset(data: Path, row: dict[str, Any]) -> ImageDataset:
    """Load the dataset of a task.

    Raises:
        InputError: it is missing, or is not what it was when its tasks were drawn.
    """
    from metad2a.datasets import load_dataset

    dataset = load_dataset(data / row["dataset"])
    if dataset.fingerprint() != row["fingerprint"]:
        raise InputError(
            f"The content of {row['dataset']!r} is not what its tasks were drawn from: "
            f"fingerprint {dataset.fingerprint()}, not {row['fingerprint']}. Restore it, or build "
            "the database again."
        )
    return dataset


def _file(cache: Path, row: dict[str, Any], redraw: int) -> Path:
    from metad2a.model.description_files import description_file

    return description_file(cache, f"{row['task'][:32]}-{redraw}")


def _describe(dataset: ImageDataset, row: dict[str, Any], redraw: int) -> Description:
    """Sample a task's training images and describe them."""
    from metad2a.datasets import UnreadableImage
    from metad2a.model.description import describe_images, images_per_class

    classes, train = np.array(row["classes"]), np.array(row["train"])
    labels = dataset.labels[train]
    rng = np.random.default_rng([redraw, int(row["task"][:8], 16)])
    images, numbers = [], []
    for number, one in enumerate(classes):
        own = rng.permutation(train[labels == one])
        for index in own[: images_per_class(len(classes))]:
            try:
                images.append(dataset.image(int(index)))
            except UnreadableImage:
                continue
            numbers.append(number)
    counts = np.array([(labels == one).sum() for one in classes], dtype=float)
    # A class of which no image can be read leaves no gap.
    _, numbered = np.unique(numbers, return_inverse=True)
    return describe_images(images, numbered, counts, row["resolution"])
