"""The argument DATA of commands, and the options that say how its folders are arranged."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset

DATA = (
    "folder with one folder of images a class, zip or tar of one, image Parquet, CSV or JSONL "
    "manifest, or 'sklearn:digits'"
)


def add_data(parser: ArgumentParser) -> None:
    """Add DATA and the options on how it is arranged."""
    parser.add_argument("data", metavar="DATA", help=DATA)
    group = parser.add_argument_group("where DATA is arranged in another way than is recognised")
    group.add_argument(
        "--layout", metavar="NAME", help="of the outermost folders, such as class-folders"
    )
    group.add_argument(
        "--classes-at",
        metavar="PATTERN",
        help="where the class stands in the paths: '*/{class}', '{split}/{class}', "
        "'train/{class}_*.jpg'",
    )
    group.add_argument(
        "--labels", metavar="FILE", help="manifest (CSV, JSON or text) of the images in the folder"
    )
    group.add_argument(
        "--split",
        type=_side,
        action="append",
        metavar="SIDE=FOLDER[,FOLDER]",
        help="folders for train, val or test, as paths or patterns; may be given again",
    )


def open_data(args: Namespace) -> str | ImageDataset:
    """Return DATA as it is given, or opened where an option says how.

    Raises:
        InputError: it cannot be used so.
    """
    if not (args.layout or args.classes_at or args.labels or args.split):
        return str(args.data)
    from metad2a.datasets import load_dataset

    split: dict[str, list[str]] = {}
    for side, folders in args.split or ():
        split.setdefault(side, []).extend(folders)
    return load_dataset(
        args.data, args.labels, layout=args.layout, classes_at=args.classes_at, split=split
    )


def _side(text: str) -> tuple[str, list[str]]:
    side, _, folders = text.partition("=")
    found = [folder for folder in folders.split(",") if folder]
    if not side or not found:
        raise ArgumentTypeError(f"{text[:100]!r} is no SIDE=FOLDER, such as test=fold_2")
    return side, found
