"""``metad2a check DATA``: what was understood of labelled images, all of them decoded."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace

from metad2a.cli.common import add_json, answer
from metad2a.cli.suggest import DATA


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("data", metavar="DATA", help=DATA)
    add_json(parser)


def run(args: Namespace) -> int:
    """Print the report."""
    from metad2a.datasets import check, load_dataset

    with load_dataset(args.data) as dataset:
        report = check(dataset, progress=sys.stderr.isatty())
    answer(args, report.to_dict(), f"{report.name}: {report}")
    return 0
