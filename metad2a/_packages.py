"""The packages beside this one, ``search`` and ``database``, whose names others may have taken."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from metad2a.errors import HiddenPackageError


def reach(name: str) -> ModuleType:
    """Import a package that is installed beside ``metad2a``.

    Args:
        name: ``"search"`` or ``"database"``.

    Raises:
        HiddenPackageError: something else of that name comes first in Python's path.
    """
    found = _found(name)
    if found is None:
        raise HiddenPackageError(
            f"The package {name!r} that comes with metad2a is not installed here. "
            "Install metad2a again."
        )
    if found != Path(__file__).resolve().parents[1] / name / "__init__.py":
        shown = found.parent if found.name == "__init__.py" else found
        raise HiddenPackageError(
            f"{str(shown)!r} hides the package {name!r} that comes with metad2a, as Python looks "
            f"in its folder first. Rename it, or run from another folder, or run 'python -P', "
            "which does not look there."
        )
    return importlib.import_module(name)


def _found(name: str) -> Path | None:
    """Return the file that ``import name`` gives or has given; of a bare folder, the folder."""
    module = sys.modules.get(name)
    # What is not yet imported is only looked for: a user's own file must not run.
    spec = importlib.util.find_spec(name) if module is None else getattr(module, "__spec__", None)
    if spec is None:
        file = getattr(module, "__file__", None)
        return Path(file).resolve() if file else None
    if spec.origin is not None and spec.has_location:
        return Path(spec.origin).resolve()
    return next((Path(place).resolve() for place in spec.submodule_search_locations or ()), None)
