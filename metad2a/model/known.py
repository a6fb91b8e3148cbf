"""The datasets that a model learnt from, and how near another dataset lies to them.

Distances are those of ``db similar``: root mean square differences of embeddings whose entries have
mean 0 and deviation 1 over the datasets learnt from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from metad2a.model.description import Description
    from metad2a.model.predictor import Predictor
    from metad2a.model.records import Record
    from metad2a.spaces import SearchSpace

NEAREST = 3
"""Neighbours that are named, and over which a dataset's distance from all is averaged."""
USUAL = 95
"""Percentage of the known datasets that lie nearer to their neighbours than what is called far.

Neighbours of all families count. Between families alone the yardstick is so long that pure noise is
seldom far; by this one it mostly is, and so are the families whose accuracies were predicted worst
when they were left out (hands, objects)."""
FEWEST = 10
"""Known datasets from which on it is said what is far; a percentile of fewer means nothing."""


@dataclass(frozen=True)
class KnownDataset:
    """A dataset that the model learnt from."""

    name: str
    family: str
    best_architecture: str
    """The space's string form of what did best on it under the model's protocol."""
    best_accuracy: float
    """Its mean accuracy over the dataset's tasks, in percent."""
    embedding: tuple[float, ...]
    """See :func:`embed`."""


@dataclass(frozen=True)
class Known:
    """A dataset that the model learnt from, as another dataset's neighbour."""

    name: str
    family: str
    distance: float
    best_architecture: str
    best_accuracy: float
    """In percent."""
    protocol: str
    """Under which the accuracy was measured."""


@dataclass(frozen=True)
class Neighbourhood:
    """Where a dataset lies among those that the model learnt from.

    ``distance`` is its mean distance from the ``nearest``, and ``usual`` what :data:`USUAL` percent
    of the ``known`` datasets keep to among themselves; None where too little is known.
    """

    nearest: tuple[Known, ...] = ()
    known: int = 0
    distance: float | None = None
    usual: float | None = None

    @property
    def far(self) -> bool:
        """Whether the dataset lies farther from all than they lie from one another."""
        return self.distance is not None and self.usual is not None and self.distance > self.usual

    @property
    def warning(self) -> str | None:
        """What to make of a dataset that is far; None for one that is not."""
        if not self.far:
            return None
        return (
            f"This dataset lies far from all {self.known} datasets that the model learnt from "
            f"({self.distance:.2f}, mean of the nearest {len(self.nearest)}; {USUAL} % of them "
            f"lie within {self.usual:.2f} of one another). Take the accuracies as a rough "
            "guess, and train the first candidates for a short while before you choose."
        )

    def lines(self) -> list[str]:
        """Return what people read: a line for each neighbour, and the warning."""
        head = (
            [
                f"Nearest of the {self.known} datasets that the model learnt from, and what did "
                "best there:"
            ]
            if self.nearest
            else []
        )
        rows = [
            f"  {one.name} ({one.family}, distance {one.distance:.2f}): "
            f"{one.best_accuracy:.1f} % by {one.best_architecture}"
            for one in self.nearest
        ]
        return head + rows + ([self.warning] if self.warning else [])

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "nearest": [asdict(one) for one in self.nearest],
            "far": self.far,
            "distance": self.distance,
            "usual_distance": self.usual,
            "warning": self.warning,
        }


def embed(predictor: Predictor, description: Description) -> np.ndarray:
    """Return float64 (members * embedding,): where a model's set encoders put a dataset."""
    import torch

    with torch.no_grad():
        parts = [
            side.centre(one)  # type: ignore[operator]
            for side, one in zip(predictor.sides, predictor.embed([description]), strict=True)
        ]
    embedding: np.ndarray = torch.cat(parts, dim=1)[0].double().numpy()
    return embedding


def neighbourhood(
    known: Sequence[KnownDataset], embedding: np.ndarray, protocol: str
) -> Neighbourhood:
    """Look for a dataset's neighbours.

    Args:
        known: what the model learnt from.
        embedding: float64, of :func:`embed`.
        protocol: the model's.
    """
    if not known:
        return Neighbourhood()
    places = np.array([one.embedding for one in known])
    away = _distances(embedding[None], places)[0]
    order = away.argsort(kind="stable")[:NEAREST]
    nearest = tuple(
        Known(
            one.name, one.family, float(away[i]), one.best_architecture, one.best_accuracy, protocol
        )
        for i in order
        for one in [known[i]]
    )
    usual = None
    if len(known) >= FEWEST:
        # The nearest column of all is each dataset's distance from itself.
        among = np.sort(_distances(places, places), axis=1)[:, 1 : NEAREST + 1].mean(1)
        usual = float(np.percentile(among, USUAL))
    return Neighbourhood(nearest, len(known), float(away[order].mean()), usual)


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return float (n, m) root mean square differences of float (n, d) and (m, d) rows."""
    squares = (
        (first**2).mean(1)[:, None] + (second**2).mean(1) - 2 * first @ second.T / first.shape[1]
    )
    apart: np.ndarray = np.sqrt(np.maximum(squares, 0))
    return apart


def winners(
    records: Sequence[Record], space: SearchSpace, protocol: str
) -> dict[str, tuple[str, float]]:
    """Return what did best on each dataset: architecture string and mean accuracy, 0..1.

    As in ``db top``, architectures are ranked by the mean over tasks of what each had above the
    mean of the task, as each was measured on tasks of its own, some easier than others.
    """
    values: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in records:
        if one.space == space.name and one.protocol == protocol:
            cells = values.setdefault(one.dataset, {}).setdefault(one.task, defaultdict(list))
            cells[one.architecture].append(one.value)
    found = {}
    for dataset, tasks in values.items():
        above: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for cells in tasks.values():
            means = {cell: float(np.mean(seeds)) for cell, seeds in cells.items()}
            middle = float(np.mean(list(means.values())))
            for cell, mean in means.items():
                above[cell].append((mean - middle, mean))
        ranked = {cell: tuple(np.mean(pairs, axis=0)) for cell, pairs in above.items()}
        best = max(sorted(ranked), key=ranked.__getitem__)
        found[dataset] = (best, float(ranked[best][1]))
    return found
