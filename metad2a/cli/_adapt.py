"""``metad2a meta adapt``: weights that narrow networks inherit, from a folder of datasets."""

from __future__ import annotations

import contextlib
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.cli.common import add_json, answer, integer
from metad2a.errors import InputError

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset

JUDGES = "cifar10"
"""A dataset that only ever judges: nothing learns from it."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of the datasets"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="file to write; a run that was stopped is gone on with, from FILE.adapting",
    )
    parser.add_argument("--steps", type=integer, default=2000, help="default: 2000")
    parser.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="FAMILY",
        help="family of datasets to leave out, to judge by; may be given again",
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """Adapt with a progress bar; Ctrl-C leaves a checkpoint."""
    from metad2a.cli._bar import counting
    from metad2a.cli._interrupt import interruptible
    from metad2a.meta_training.adapt import adapt

    names = _chosen(args.data, args.without)
    with (
        contextlib.redirect_stdout(sys.stderr),
        counting("step") as progress,
        interruptible() as should_stop,
    ):
        done = adapt(
            _opened(args.data, names),
            args.out,
            args.steps,
            progress=progress,
            should_stop=should_stop,
        )
    text = f"Adapted by {len(names)} datasets: {args.out}"
    if not done:
        text = "Interrupted. The same command goes on from there."
    answer(args, {"done": done, "datasets": names, "steps": args.steps}, text)
    return 0 if done else 130


def _chosen(data: Path, without: list[str]) -> list[str]:
    """Return the names of the datasets that are learnt from."""
    from database import family_of

    if not data.is_dir():
        raise InputError(
            f"There is no folder {str(data)!r}. Give --data one that holds one folder a dataset."
        )
    families = {one.name: family_of(one.name) for one in sorted(data.iterdir()) if one.is_dir()}
    unknown = sorted(set(without) - set(families.values()))
    if unknown:
        raise InputError(
            f"--without {unknown[0]!r}: no dataset of {str(data)!r} is of that family; there are "
            f"{', '.join(sorted(set(families.values()))) or 'none'}."
        )
    return [name for name, own in families.items() if own not in without and name != JUDGES]


def _opened(data: Path, names: list[str]) -> Iterator[ImageDataset]:
    from metad2a.datasets import load_dataset

    for name in names:
        yield load_dataset(data / name)
