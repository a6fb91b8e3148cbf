"""The customary string form of a pair of DARTS cells, read by a regular grammar and never run.

``Genotype(normal=[('sep_conv_3x3', 0), ...], normal_concat=range(2, 6), reduce=[...],
reduce_concat=range(2, 6))``: two (operation, source) entries a node, nodes 2 to 5 in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from metad2a.errors import InputError
from metad2a.registry import suggest_name
from metad2a.spaces._darts_cell import NODES

Cell = Sequence[tuple[str, int]]
"""Two (operation, source) entries for each of the nodes 2 to 5."""

EXAMPLE = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ...], "
    "normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
)
_LONGEST = 10_000
_NAME = r"""(?:'[^'"]*'|"[^'"]*")"""
_PAIR = rf"\(\s*({_NAME})\s*,\s*([0-9]{{1,3}})\s*,?\s*\)"
_LIST = rf"\[\s*(?:{_PAIR}\s*(?:,\s*|(?=\])))*\]"
_CONCAT = r"(?:range\(\s*2\s*,\s*6\s*\)|\[\s*2\s*,\s*3\s*,\s*4\s*,\s*5\s*,?\s*\])"
_STRING = re.compile(
    rf"Genotype\(\s*normal\s*=\s*(?P<normal>{_LIST})\s*,\s*normal_concat\s*=\s*{_CONCAT}\s*,"
    rf"\s*reduce\s*=\s*(?P<reduce>{_LIST})\s*,\s*reduce_concat\s*=\s*{_CONCAT}\s*,?\s*\)"
)


def read(text: str, operations: Sequence[str]) -> tuple[Cell, Cell]:
    """Return the normal and the reduction cell, the two entries of each node by their sources.

    Args:
        text: with any spacing, either order of a node's entries, ranges or lists of the nodes.
        operations: the names that are known.

    Raises:
        InputError: the text is something else, names an unknown operation or a source that comes
            later, gives a node not two entries, or both from one source.
    """
    found = _STRING.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if not found:
        raise InputError(f"{text[:200]!r} is not a DARTS genotype; write it as {EXAMPLE!r}.")
    return (
        _cell("normal", found["normal"], operations),
        _cell("reduce", found["reduce"], operations),
    )


def _cell(kind: str, text: str, operations: Sequence[str]) -> Cell:
    entries = [(name[1:-1], int(source)) for name, source in re.findall(_PAIR, text)]
    if len(entries) != 2 * len(NODES):
        raise InputError(
            f"The list {kind!r} of a DARTS genotype has {len(entries)} entries; give "
            f"{2 * len(NODES)}, two for each of the nodes 2 to 5."
        )
    for place, (operation, source) in enumerate(entries):
        node = 2 + place // 2
        if operation not in operations:
            raise InputError(
                f"Unknown operation {operation[:50]!r} in a DARTS genotype."
                f"{suggest_name(operation[:50], list(operations))}"
            )
        if source >= node:
            raise InputError(
                f"Node {node} of {kind!r} in a DARTS genotype takes its input from "
                f"{source}; it can take it from 0 to {node - 1}."
            )
    pairs = [
        sorted(entries[place : place + 2], key=lambda entry: entry[1])
        for place in range(0, len(entries), 2)
    ]
    for node, (first, second) in zip(NODES, pairs, strict=True):
        if first[1] == second[1]:
            raise InputError(
                f"Node {node} of {kind!r} in a DARTS genotype takes both inputs from "
                f"{first[1]}; name two sources."
            )
    return [entry for pair in pairs for entry in pair]


def write(normal: Cell, reduction: Cell) -> str:
    """Return the string form, with ranges and the customary spacing."""
    return (
        f"Genotype(normal={list(normal)!r}, normal_concat=range(2, 6), "
        f"reduce={list(reduction)!r}, reduce_concat=range(2, 6))"
    )
