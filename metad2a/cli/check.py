"""``metad2a check DATA``: what was understood of labelled images; ``--quality`` decodes them all."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from metad2a.cli._data import add_data, open_data
from metad2a.cli.common import add_json, answer


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_data(parser)
    parser.add_argument(
        "--quality",
        action="store_true",
        help="decode every image; look for copies (also between training and test), pictures alike "
        "and labels in doubt",
    )
    add_json(parser)


def run(args: Namespace) -> int:
    """Print the report."""
    from metad2a.datasets import check, load_dataset

    with load_dataset(open_data(args)) as dataset:
        report = check(dataset, progress=sys.stderr.isatty(), quality=args.quality)
        if args.quality:
            from metad2a.model.landmarks import with_doubts

            report = with_doubts(dataset, report)
    answer(args, report.to_dict(), f"{report.name}: {report}\n{report.details()}")
    return 0
