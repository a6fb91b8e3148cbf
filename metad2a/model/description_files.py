"""Descriptions kept as files: what the model sees of a dataset, worked out once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from metad2a._files import new_file
from metad2a.model.description import STATISTICS, Description


def description_file(folder: Path, name: str) -> Path:
    """Return the file of a description; other statistics are another file."""
    form = hashlib.sha256(",".join(STATISTICS).encode()).hexdigest()[:8]
    return folder / f"{name}-{form}.safetensors"


def save_description(path: Path, description: Description) -> None:
    """Write a file, whole or not at all, whoever else writes it now.

    Raises:
        ArtifactError: it cannot be written.
    """
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as part:
        save_file(
            {
                "features": description.features,
                "labels": description.labels,
                "statistics": description.statistics,
            },
            part,
        )


def load_description(path: Path) -> Description:
    """Read a file that is there."""
    from safetensors.torch import load_file

    return Description(**load_file(path))
