"""Import torchvision even beside a torch build that its compiled operators do not fit.

A CPU-only torch next to the package index's torchvision fails at ``import torchvision`` with
"operator torchvision::nms does not exist" (pytorch/vision issues 9077 and 9085). Declaring the
two schemas that the import looks up is enough: transforms, datasets and models then work, the box
operators and ``torchvision.io`` do not, and nothing here needs them.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_kept: list[Any] = []
"""The library object; the schemas vanish with it."""


def torchvision() -> ModuleType:
    """Return the torchvision package, repaired if its import needs it.

    Raises:
        ImportError: torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if _kept or "operator torchvision::nms does not exist" not in str(error):
            raise
    import torch

    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        library.define(schema)
    _kept.append(library)
    return importlib.import_module("torchvision")


def state() -> str:
    """Return torchvision's version and whether it had to be repaired, for people to read."""
    try:
        version = str(torchvision().__version__)
    except (ImportError, RuntimeError) as error:
        return f"not usable: {' '.join(str(error).split())[:200]}"
    if _kept:
        return f"{version}, repaired: its compiled operators do not fit this torch and stay unused"
    return version
