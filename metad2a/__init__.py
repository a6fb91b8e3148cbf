"""Neural networks for your own images, suggested in seconds.

``suggest(dataset)`` returns the architectures predicted to do best; ``load_dataset`` reads any form
of labelled image set; ``MetaD2A`` is the model behind it. Heavy libraries load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metad2a.errors import (
    ArtifactError,
    BudgetError,
    DatabaseError,
    InputError,
    MetaD2AError,
)

if TYPE_CHECKING:
    from metad2a.datasets import load_dataset
    from metad2a.model.metad2a import MetaD2A
    from metad2a.suggestion import Candidate, Suggestions, suggest

__all__ = [
    "ArtifactError",
    "BudgetError",
    "Candidate",
    "DatabaseError",
    "InputError",
    "MetaD2A",
    "MetaD2AError",
    "Suggestions",
    "load_dataset",
    "suggest",
]
__version__ = "0.1.0"

_HOMES = {
    "Candidate": "metad2a.suggestion",
    "MetaD2A": "metad2a.model.metad2a",
    "Suggestions": "metad2a.suggestion",
    "load_dataset": "metad2a.datasets",
    "suggest": "metad2a.suggestion",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import metad2a`` is instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'metad2a' has no attribute {name!r}")
    import importlib

    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
