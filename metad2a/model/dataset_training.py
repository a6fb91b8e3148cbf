"""Meta-training, part two: what a dataset makes of the prior, from stand-alone trainings.

Loss of a member, over a batch of tasks: the Gaussian likelihood of the trainings' logit accuracies
(with the binomial variance of a finite test side), a pairwise logistic ranking loss between the
trainings of one task, and the same between the training-free rank sums of one task, which holds the
dataset's own taste near the prior where no training speaks; so does a penalty on its square.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from metad2a.model.description import Description
from metad2a.model.predictor import DatasetSide, Predictor

STEPS = 120
TASKS = 24
"""Tasks a step."""
IMAGES = 8
"""Images of each class that a step looks at, drawn anew."""
PEAK_LR = 5e-3
WEIGHT_DECAY = 0.05
RANKING = 0.3
"""Weight of the ranking loss between trainings."""
HOLDING = 0.3
"""Weight of the ranking loss between training-free rank sums."""
OWN = 2.0
"""Weight of the squared deviation from the prior: single trainings are mostly noise, so a dataset's
own taste must be shown by many of them."""
NOISE = 0.5
"""Deviation of a logit accuracy that training assumes beside the binomial one."""


@dataclass(frozen=True)
class Rows:
    """Measurements under one protocol: int64 (n,) ``task`` and ``cell``, float32 (n,) ``value``.

    ``variance``: float32 (n,), what the finite test side adds to a logit accuracy; 0 for scores.
    """

    task: Tensor
    cell: Tensor
    value: Tensor
    variance: Tensor

    def of_tasks(self, tasks: Sequence[int]) -> Rows:
        """Return the rows of some tasks, renumbered in the order of ``tasks``."""
        most = int(self.task.max()) if len(self.task) else 0
        number = torch.full((max(*tasks, most) + 1,), -1)
        number[list(tasks)] = torch.arange(len(tasks))
        keep = number[self.task] >= 0
        return Rows(number[self.task[keep]], self.cell[keep], self.value[keep], self.variance[keep])

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Return int64 (p,) row numbers of better and worse, every pair within a task."""
        same = self.task[:, None] == self.task[None]
        above = self.value[:, None] > self.value[None]
        better, worse = torch.nonzero(same & above, as_tuple=True)
        return better, worse


def logit(accuracy: np.ndarray, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return logit and binomial variance of float (n,) accuracies on int (n,) test images.

    Half a hit and half a miss are added, so that 0 and 1 stay finite.
    """
    share = (accuracy * images + 0.5) / (images + 1)
    return np.log(share / (1 - share)), 1 / ((images + 1) * share * (1 - share))


def fit_sides(
    predictor: Predictor,
    redraws: Sequence[Sequence[Description]],
    priors: list[tuple[Tensor, Tensor]],
    trainings: Rows,
    scores: Rows,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train every member's dataset side; the priors stay as they are.

    Args:
        predictor: its priors are trained.
        redraws: one description a task, for each of several draws of the images.
        priors: hidden states and qualities of the cells that the rows number, a member each.
        trainings: logit accuracies.
        scores: training-free rank sums.
        seed: of weights, dropout, and the tasks and images of each step.
        progress: told of steps done, of all.
    """
    predictor.inputs.fit([one for draw in redraws for one in draw])
    batches = [predictor.inputs(draw) for draw in redraws]
    known = trainings.task.unique()
    total = STEPS * len(predictor.sides)
    for member, module in enumerate(predictor.sides):
        side: DatasetSide = module  # type: ignore[assignment]
        torch.manual_seed(1000 * seed + member)
        random = torch.Generator().manual_seed(1000 * seed + member)
        side.load_state_dict(DatasetSide(side.config).state_dict())
        with torch.no_grad():
            side.level.bias.fill_(float(trainings.value.mean()))
        hidden, quality = priors[member]
        optimiser = torch.optim.AdamW(side.parameters(), lr=PEAK_LR, weight_decay=WEIGHT_DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=STEPS)
        side.train()
        for step in range(STEPS):
            tasks = known[torch.randperm(len(known), generator=random)[:TASKS]]
            batch = batches[(step + member) % len(batches)]
            seen = torch.randperm(batch.images.shape[2], generator=random)[:IMAGES]
            loss = _loss(
                side,
                side.encoder(batch.part(tasks, seen)),
                hidden,
                quality,
                trainings.of_tasks(tasks.tolist()),
                scores.of_tasks(tasks.tolist()),
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
            progress(member * STEPS + step + 1, total)
        side.eval()


def _loss(
    side: DatasetSide,
    embedding: Tensor,
    hidden: Tensor,
    quality: Tensor,
    trainings: Rows,
    scores: Rows,
) -> Tensor:
    value, total = _at(side, embedding, hidden, quality, trainings)
    variance = NOISE**2 + trainings.variance
    loss = (0.5 * (value - trainings.value) ** 2 / variance).mean()
    loss = loss + OWN * ((total - quality[trainings.cell]) ** 2).mean()
    better, worse = trainings.pairs()
    if len(better):
        loss = loss + RANKING * F.softplus(total[worse] - total[better]).mean()
    higher, lower = scores.pairs()
    if len(higher):
        _, held = _at(side, embedding, hidden, quality, scores)
        loss = loss + HOLDING * F.softplus(held[lower] - held[higher]).mean()
    return loss


def _at(
    side: DatasetSide, embedding: Tensor, hidden: Tensor, quality: Tensor, rows: Rows
) -> tuple[Tensor, Tensor]:
    """Return logit accuracies and qualities (n,) at the (task, cell) pairs of ``rows``."""
    value, total = side(
        embedding[rows.task], hidden[rows.cell][:, None], quality[rows.cell][:, None]
    )
    return value[:, 0], total[:, 0]


def predict_rows(
    predictor: Predictor,
    descriptions: Sequence[Description],
    priors: list[tuple[Tensor, Tensor]],
    rows: Rows,
) -> tuple[Tensor, Tensor]:
    """Return mean logit accuracy and variance between members, float (n,), at ``rows``."""
    with torch.no_grad():
        members = torch.stack(
            [
                _at(side, embedding, hidden, quality, rows)[0]  # type: ignore[arg-type]
                for side, embedding, (hidden, quality) in zip(
                    predictor.sides, predictor.embed(descriptions), priors, strict=True
                )
            ]
        )
    return members.mean(0), members.var(0, correction=0)
