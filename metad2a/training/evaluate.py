"""What a network gets right: accuracy, balanced accuracy, confusion matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from metad2a.training.loop import Normalisation, evaluating, passed

if TYPE_CHECKING:
    from metad2a.datasets.batches import Batches
    from metad2a.training.device import DevicePlan


@dataclass(frozen=True)
class Evaluation:
    """Answers on labelled images. ``confusion``: int64 (classes, classes), a row a true class."""

    confusion: np.ndarray

    @property
    def images(self) -> int:
        """How many images were judged."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """Percent of the images that are right."""
        return 100 * float(np.trace(self.confusion)) / max(1, self.images)

    @property
    def balanced_accuracy(self) -> float:
        """Mean over the classes that have images of the percent that are right."""
        counts = self.confusion.sum(1)
        present = counts > 0
        return 100 * float((np.diag(self.confusion)[present] / counts[present]).mean())


def evaluate(
    network: Any, batches: Batches, place: DevicePlan, normal: Normalisation
) -> Evaluation:
    """Judge a network, which has a linear ``classifier``, by images."""
    predicted: list[Tensor] = []
    with evaluating(network) as looking:
        for images, _, _ in batches.epoch(passed(batches.resolution)):
            with place.autocast():
                predicted.append(looking(normal(images)).argmax(1).cpu())
    return confused(torch.cat(predicted), batches.labels.cpu(), network.classifier.out_features)


def confused(predicted: Tensor, labels: Tensor, classes: int) -> Evaluation:
    """Count int64 (n,) answers against int64 (n,) labels."""
    cells = torch.bincount(labels * classes + predicted, minlength=classes**2)
    return Evaluation(cells.reshape(classes, classes).numpy())
