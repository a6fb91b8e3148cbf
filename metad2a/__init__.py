"""Neural networks for your own images: suggested in seconds, trained in minutes, yours in a folder.

``suggest(dataset)`` returns the architectures predicted to do best, ``train(dataset, minutes=10)`` a
trained network with all it needs, ``predict(folder, files)`` what it says of new images;
``load_dataset`` reads any form of labelled image set. ``check`` and ``refine`` measure and improve
suggestions by training, ``search`` looks for a network by weight sharing. Heavy libraries load on
first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metad2a.errors import (
    ArtifactError,
    BudgetError,
    DatabaseError,
    HiddenPackageError,
    InputError,
    MetaD2AError,
)

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.datasets import load_dataset
    from metad2a.model.metad2a import MetaD2A
    from metad2a.prediction import predict
    from metad2a.result import Suggestions
    from metad2a.suggestion import suggest
    from metad2a.training.train import train
    from metad2a.training.trained import Trained
    from search import check, refine, search

__all__ = [
    "ArtifactError",
    "BudgetError",
    "Candidate",
    "DatabaseError",
    "HiddenPackageError",
    "InputError",
    "MetaD2A",
    "MetaD2AError",
    "Suggestions",
    "Trained",
    "check",
    "load_dataset",
    "predict",
    "refine",
    "search",
    "suggest",
    "train",
]
__version__ = "0.1.0"

_HOMES = {
    "Candidate": "metad2a.candidate",
    "MetaD2A": "metad2a.model.metad2a",
    "Suggestions": "metad2a.result",
    "Trained": "metad2a.training.trained",
    "check": "search",
    "load_dataset": "metad2a.datasets",
    "predict": "metad2a.prediction",
    "refine": "search",
    "search": "search",
    "suggest": "metad2a.suggestion",
    "train": "metad2a.training.train",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that ``import metad2a`` is instant.

    Raises:
        HiddenPackageError: a file of the user's own hides the package that the name lives in.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'metad2a' has no attribute {name!r}")
    import importlib

    from metad2a._packages import reach

    home = _HOMES[name]
    module = importlib.import_module(home) if home.startswith("metad2a.") else reach(home)
    found = getattr(module, name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(set(globals()) | set(__all__))
