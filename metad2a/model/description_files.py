"""Descriptions kept as files: what the model sees of a dataset, worked out once."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from metad2a.model.description import STATISTICS, Description


def description_file(folder: Path, name: str) -> Path:
    """Return the file of a description; other statistics are another file."""
    form = hashlib.sha256(",".join(STATISTICS).encode()).hexdigest()[:8]
    return folder / f"{name}-{form}.safetensors"


def save_description(path: Path, description: Description) -> None:
    """Write a file, whole or not at all, whoever else writes it now."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        part = Path(folder) / path.name
        save_file({"features": description.features, "labels": description.labels,
                   "statistics": description.statistics}, part)
        part.replace(path)


def load_description(path: Path) -> Description:
    """Read a file that is there."""
    from safetensors.torch import load_file

    return Description(**load_file(path))
