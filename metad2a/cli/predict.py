"""``metad2a predict DIR IMAGE...``: what images show, by a network that was trained here."""

from __future__ import annotations

import csv
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from metad2a.cli._bar import counting
from metad2a.cli.common import integer, print_json

if TYPE_CHECKING:
    from metad2a.prediction import Prediction

BAD_INPUT = 3
_SHARE = ("label", "probability")


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "folder", metavar="DIR", help="folder of a trained network, from `metad2a train --out DIR`"
    )
    parser.add_argument(
        "images", metavar="IMAGE", nargs="+", help="image file, or folder of them at any depth"
    )
    parser.add_argument(
        "--top", type=integer, default=3, metavar="N", help="labels told of an image (default: 3)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="print one JSON list of file, label, probability and top on standard output",
    )
    form.add_argument(
        "--csv", action="store_true", help="print one line of comma-separated values an image"
    )


def run(args: Namespace) -> int:
    """Print the labels; images that cannot be read are named on standard error, and passed over."""
    from metad2a.prediction import load

    predictor = load(args.folder)
    read = 0
    with counting("image") as show:
        found = predictor.each(
            args.images, args.top, progress=lambda done, total: show(done, total, "")
        )
        for prediction in _printed(args, found):
            if prediction.error is None:
                read += 1
            else:
                print(prediction, file=sys.stderr)
    return 0 if read else BAD_INPUT


def _printed(args: Namespace, found: Iterable[Prediction]) -> Iterator[Prediction]:
    """Print predictions as they come, JSON at the end, and hand them on."""
    if args.json:
        every = []
        for prediction in found:
            every.append(prediction.to_dict())
            yield prediction
        print_json(every)
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    more = [f"{name}_{rank}" for rank in range(2, args.top + 1) for name in _SHARE]
    if args.csv:
        writer.writerow(["file", "error", *_SHARE, *more])
    for prediction in found:
        if args.csv:
            shares = [value for label, share in prediction.top for value in (label, f"{share:.6f}")]
            row = [prediction.file, prediction.error or "", *shares]
            writer.writerow(row + [""] * (4 + len(more) - len(row)))
        elif prediction.error is None:
            print(prediction)
        yield prediction
