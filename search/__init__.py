"""Weight-sharing search: find, refine or check architectures on a user's dataset.

The names are loaded when they are asked for: whoever only needs a module of this package, such as
the database, is spared torch. No module has the name of one of them, as importing it would put the
module in the function's place.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from search.checking import check
    from search.engine.loop import Progress
    from search.refining import refine
    from search.result import SearchResult
    from search.searching import search

__all__ = ["Progress", "SearchResult", "check", "refine", "search"]
_MODULES = {
    "Progress": "engine.loop",
    "SearchResult": "result",
    "check": "checking",
    "refine": "refining",
    "search": "searching",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
