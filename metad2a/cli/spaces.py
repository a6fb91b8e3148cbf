"""``metad2a spaces``: the search spaces there are."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from metad2a.cli.common import add_json, answer, columns

CLASSES = 10
"""Classes for which the smallest network is counted."""


def configure(parser: ArgumentParser) -> None:
    """Add the arguments."""
    add_json(parser)


def run(args: Namespace) -> int:
    """Print one line a space."""
    from metad2a.spaces import SPACES

    found = [
        {
            "name": space.name,
            "slots": space.slots,
            "operations": list(space.operations),
            "input_size": space.input_size,
            "smallest_params": space.smallest(CLASSES).params,
            "smallest_macs": space.smallest(CLASSES).macs,
        }
        for space in SPACES
    ]
    rows = [("space", "slots", "operations", "input", f"smallest network for {CLASSES} classes")]
    rows += [
        (
            str(one["name"]),
            str(one["slots"]),
            str(len(space.operations)),
            f"{space.input_size} px",
            f"{one['smallest_params']:,} parameters, {one['smallest_macs']:,} MACs",
        )
        for one, space in zip(found, SPACES, strict=True)
    ]
    answer(args, {"spaces": found}, columns(rows))
    return 0
