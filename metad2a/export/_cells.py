"""Pieces of a cell's source that the spaces share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metad2a.export.design import Design


def module_dict(modules: Sequence[tuple[str, str, str]]) -> str:
    """Return the statement that makes a cell's edges.

    Args:
        modules: key, expression and comment (may be empty) of each edge that has a module.
    """
    if not modules:
        return "        self.edges = nn.ModuleDict()"
    lines = "".join(
        f'            "{key}": {made},' + (f"  # {comment}" if comment else "") + "\n"
        for key, made, comment in modules
    )
    return f"        self.edges = nn.ModuleDict({{\n{lines}        }})"


def total(terms: Sequence[str]) -> str:
    """Return the sum of expressions."""
    return " + ".join(terms)


def sizes_as_defaults(design: Design) -> str:
    """Return the arguments of a network: its sizes, which are the defaults."""
    sizes = {"classes": design.classes, **design.macro}
    return ", ".join(f"{name}: int = {value}" for name, value in sizes.items())
