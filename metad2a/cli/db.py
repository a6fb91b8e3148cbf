"""``metad2a db``: build a database of measured networks, read it and pass it on."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping

from metad2a.cli import _db_build, _db_exchange, _db_reading

_RUN: Mapping[str, Callable[[Namespace], int]] = {
    **_db_build.RUN,
    **_db_exchange.RUN,
    **_db_reading.RUN,
}


def configure(parser: ArgumentParser) -> None:
    """Add the actions and their arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for part in (_db_build, _db_exchange, _db_reading):
        part.configure(actions)


def run(args: Namespace) -> int:
    """Carry out the action."""
    return _RUN[args.action](args)
