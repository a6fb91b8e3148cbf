"""What the page's tests expect of networks, in the place of what is measured and was learnt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np


class Outlook:
    """Finds larger pictures better up to 96 px, and networks that are trained better than frozen."""

    def predict(
        self,
        landmarks: Any,
        space: Any,
        architectures: Any,
        recipes: Any,
        classes: int,
        images: int,
    ) -> SimpleNamespace:
        """Return percent, float64 (n,) each."""
        mean = np.array(
            [
                50 + 30 * min(space.resolution(a), 96) / 96 + 5 * (recipe.rate > 0)
                for a, recipe in zip(architectures, recipes, strict=True)
            ]
        )
        return SimpleNamespace(mean=mean, low=mean - 9, high=np.minimum(mean + 9, 100), note="")

    def means(self, *asked: Any) -> np.ndarray:
        """Return the means alone."""
        found: np.ndarray = self.predict(*asked).mean
        return found

    def given(self, *_: Any) -> Outlook:
        """Expect what was expected, whatever was measured."""
        return self


def described(dataset: Any, indices: Any, seed: int = 0) -> tuple[Any, Any]:
    """Return landmarks, without running a network, and the report on what was read."""
    from metad2a.datasets import draw
    from metad2a.model.landmarks import MAX_CLASSES, RESOLUTIONS, STAGES, Landmarks, per_class

    classes = len(dataset.classes)
    sample = draw(dataset, seed, per_class(classes), MAX_CLASSES, indices=indices)
    landmarks = Landmarks(
        accuracy=np.full((len(RESOLUTIONS), len(STAGES)), 0.8),
        count=len(sample.images),
        classes=classes,
        sampled=classes,
        guess=1 / classes,
        images=len(indices),
        largest=1 / classes,
        balance=1.0,
        side=round(float(np.median(sample.sizes.min(1)))),
        gray=False,
        flip_loss=0.0,
        chirality=0.5,
        growth=0.3,
        between=0.2,
        alike=-0.4,
    )
    return landmarks, sample.report


def put_in_place(setattr: Any = setattr) -> None:
    """Let suggestions and trainings of this process take no time, and end after two epochs."""
    from metad2a.model import landmarks, performance
    from metad2a.training import plan

    setattr(performance, "packaged", Outlook)
    setattr(landmarks, "described", described)
    setattr(plan, "EPOCHS", (0.5, 2.0))
    for name in ("pace", "usual_pace"):
        setattr(plan, name, lambda *_: 3e9)
