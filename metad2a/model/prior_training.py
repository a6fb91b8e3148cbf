"""Meta-training, part one: the prior over architectures, from training-free scores.

The label is the rank sum of all scores and the parameter count, by logarithms of ranks (after
AZ-NAS, Lee and Ham, CVPR 2024): a cell that is last in anything is nowhere near the top. No score
is chosen or weighted by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from metad2a.model.predictor import CLASSES, Predictor
from metad2a.model.records import Record
from metad2a.spaces import Architecture, SearchSpace

EPOCHS = 40
BATCH = 512
PEAK_LR = 4e-3
BAG = 0.9
"""Share of the architectures that each member sees."""


@dataclass(frozen=True)
class PriorLabels:
    """Labels of n architectures: int (n, slots), float32 (n,) and (n, protocols), normal scores."""

    architectures: np.ndarray
    quality: np.ndarray
    scores: np.ndarray


def ranks(values: np.ndarray) -> np.ndarray:
    """Return average ranks of float (n,), divided by n + 1, so that they lie inside 0..1."""
    order = np.argsort(values, kind="stable")
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    place = np.repeat(first + (counts + 1) / 2, counts)
    out = np.empty(len(values))
    out[order] = place
    return out / (len(values) + 1)


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return float (n,) mapped to a standard normal distribution by rank."""
    share = torch.from_numpy(ranks(values))
    normal: np.ndarray = torch.special.ndtri(share).numpy()
    return normal


def rank_sum(
    space: SearchSpace, found: Mapping[Architecture, Mapping[str, float]], protocols: Sequence[str]
) -> PriorLabels:
    """Join the scores of one task's architectures to their labels.

    Args:
        space: gives the parameter counts.
        found: score by protocol of each architecture; a missing score ranks last.
        protocols: names of the training-free protocols.
    """
    cells = space.as_array(list(found))
    columns = [np.array([one.get(name, -np.inf) for one in found.values()]) for name in protocols]
    params = space.costs(cells, CLASSES)[:, 0].astype(float)
    total = sum(np.log(ranks(column)) for column in [*columns, params])
    return PriorLabels(
        cells,
        normal_scores(np.asarray(total)).astype(np.float32),
        np.stack([normal_scores(column) for column in columns], 1).astype(np.float32),
    )


def by_task(
    space: SearchSpace, records: Sequence[Record], protocols: Sequence[str]
) -> dict[str, dict[Architecture, dict[str, float]]]:
    """Group the scores of ``protocols`` by task and architecture, over seeds by their mean."""
    sums: dict[str, dict[Architecture, dict[str, list[float]]]] = {}
    for r in records:
        if r.space == space.name and r.protocol in protocols:
            cell = space.canonical(space.parse(r.architecture))
            one = sums.setdefault(r.task, {}).setdefault(cell, {})
            one.setdefault(r.protocol, []).append(r.value)
    return {
        task: {
            cell: {name: float(np.mean(values)) for name, values in one.items()}
            for cell, one in cells.items()
        }
        for task, cells in sums.items()
    }


def fit_prior(
    predictor: Predictor,
    space: SearchSpace,
    labels: PriorLabels,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train every member's prior on the labels, each on its own bag of architectures."""
    costs = torch.from_numpy(space.costs(labels.architectures, CLASSES))
    logs = costs.double().log()
    predictor.cost_centre.copy_(logs.mean(0))
    predictor.cost_scale.copy_(logs.std(0).clamp_min(1e-3))
    scaled = predictor.standardised_costs(costs)
    quality, scores = torch.from_numpy(labels.quality), torch.from_numpy(labels.scores)
    total = len(predictor.priors) * EPOCHS
    for member, prior in enumerate(predictor.priors):
        rng = np.random.default_rng([seed, member])
        bag = rng.permutation(len(quality))[: max(2, round(BAG * len(quality)))]
        steps = EPOCHS * -(-len(bag) // BATCH)
        optimiser = torch.optim.AdamW(prior.parameters(), lr=PEAK_LR, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=steps)
        prior.train()
        for epoch in range(EPOCHS):
            for rows in np.array_split(rng.permutation(bag), -(-len(bag) // BATCH)):
                index = torch.from_numpy(rows)
                graphs = space.graphs(labels.architectures[rows])
                _, q, s = prior(graphs, scaled[index])
                loss = F.mse_loss(q, quality[index]) + 0.3 * F.mse_loss(s, scores[index])
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
            progress(member * EPOCHS + epoch + 1, total)
        prior.eval()
