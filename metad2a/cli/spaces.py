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
            "decisions": {decision.name: list(decision.values) for decision in space.decisions},
            "pretrained": space.pretrained,
            "searchable": space.searchable,
            "protocol": space.default_protocol,
            "smallest_params": space.smallest(CLASSES).params,
            "smallest_macs": space.smallest(CLASSES).macs,
        }
        for space in SPACES
    ]
    rows = [
        ("space", "decisions", "pretrained", "searchable", f"smallest network, {CLASSES} classes")
    ]
    rows += [
        (
            str(one["name"]),
            str(one["slots"]),
            "yes" if one["pretrained"] else "no",
            "yes" if one["searchable"] else "no",
            f"{one['smallest_params']:,} parameters, {one['smallest_macs']:,} MACs",
        )
        for one in found
    ]
    answer(args, {"spaces": found}, columns(rows))
    return 0
