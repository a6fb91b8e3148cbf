"""Whether a model folder is what it says: files, checksum, tensors, answers and stated figures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metad2a.errors import ArtifactError
from metad2a.model.artifact import DIGEST_KEY, read_config
from metad2a.model.card import contradictions, stated
from metad2a.model.golden import compare
from metad2a.model.metad2a import MetaD2A


@dataclass(frozen=True)
class Verification:
    """What was found in a model folder."""

    folder: Path
    problems: tuple[str, ...]
    """What differs from what it should be, one line or list each; none if all is well."""
    weights_sha256: str | None = None
    """Digest of the weights; None where they could not be loaded."""
    gaps: dict[str, float] | None = None
    """Largest difference from the golden answers, by dataset and figure, in points of accuracy."""
    figures: dict[str, float] | None = None
    """Measured figures that the card's head states (:data:`metad2a.model.card.FIGURES`)."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-ready; a difference that is not finite becomes None."""
        gaps = {
            name: gap if math.isfinite(gap) else None for name, gap in (self.gaps or {}).items()
        }
        return {
            "folder": str(self.folder),
            "ok": not self.problems,
            "problems": list(self.problems),
            "weights_sha256": self.weights_sha256,
            "gaps": gaps,
            "figures": self.figures or {},
        }


def verify(folder: Path) -> Verification:
    """Load a model folder strictly, let it answer its golden questions, and read its card."""
    try:
        model = MetaD2A.from_pretrained(folder)
    except ArtifactError as error:
        return Verification(folder, (str(error),))
    gaps, problems = compare(model)
    return Verification(
        folder,
        (*problems, *contradictions(model.card)),
        read_config(folder)[DIGEST_KEY],
        gaps,
        stated(model.card),
    )
