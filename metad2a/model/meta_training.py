"""Meta-training as a whole: records and described tasks in, a trained model and its figures out.

Validation leaves one family of datasets out at a time: no dataset of the judged family, nor a
relative of it, is seen by the prior, by the dataset sides or by the calibration that judges it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metad2a.errors import InputError
from metad2a.model import baselines
from metad2a.model.dataset_training import Rows, fit_sides, logit, predict_rows
from metad2a.model.description import Description
from metad2a.model.predictor import HALF_WIDTH, Predictor, PredictorConfig, prior_inputs
from metad2a.model.prior_training import PriorLabels, by_task, fit_prior, rank_sum
from metad2a.model.records import Record
from metad2a.spaces import Architecture, SearchSpace

ACCURACY = "standalone-v1"
"""The protocol under which users see their accuracy."""
WHOLE = 500
"""A task with so many scored architectures teaches the prior."""
FEWEST = 16
"""Architectures a task must have for its ranking to be learnt."""
LEVEL = 0.9
"""Coverage that the intervals aim at."""


@dataclass(frozen=True)
class MetaTask:
    """A task as meta-training sees it; ``redraws`` are descriptions of several image samples."""

    key: str
    name: str
    dataset: str
    family: str
    test_images: int
    redraws: tuple[Description, ...]


@dataclass(frozen=True)
class MetaData:
    """Everything that is learnt from, numbered: tasks, cells, and rows that join them."""

    space: SearchSpace
    tasks: Sequence[MetaTask]
    cells: list[Architecture]
    trainings: Rows
    scores: Rows
    wholes: dict[str, dict[Architecture, dict[str, float]]]
    """Scores of the tasks that teach the prior."""
    protocols: tuple[str, ...]


def assemble(space: SearchSpace, records: Sequence[Record], tasks: Sequence[MetaTask]) -> MetaData:
    """Number records and tasks.

    Raises:
        InputError: no task's whole space was scored, or trainings are of fewer than 2 families.
    """
    counts = Counter((r.task, r.protocol) for r in records if r.kind == "score")
    protocols = tuple(sorted({protocol for (_, protocol), n in counts.items() if n >= WHOLE}))
    number = {task.key: i for i, task in enumerate(tasks)}
    scored = by_task(space, records, protocols)
    # Of a task that is not described the family is unknown, so it could not be held out.
    wholes = {key: cells for key, cells in scored.items() if key in number and len(cells) >= WHOLE}
    if not wholes:
        raise InputError(
            f"No task has training-free scores of {WHOLE} architectures or more, so the prior has "
            "nothing to learn from. Build one: metad2a db build --tasks 1 --plan "
            f"training_free=7000 (the most found is {max(counts.values(), default=0)})."
        )
    trained = [
        r for r in records if r.space == space.name and r.protocol == ACCURACY and r.task in number
    ]
    families = {tasks[number[r.task]].family for r in trained}
    if len(families) < 2:
        raise InputError(
            f"The trainings under {ACCURACY!r} on the {len(tasks)} tasks are of "
            f"{len(families)} families of datasets; 2 are needed, so that one can be "
            "left out. Build more: metad2a db build --plan standalone=6."
        )
    cells: dict[Architecture, int] = {}

    def cell(architecture: Architecture) -> int:
        return cells.setdefault(architecture, len(cells))

    test = np.array([tasks[number[r.task]].test_images for r in trained])
    values, variance = logit(np.array([r.value for r in trained]), test)
    trainings = _rows(
        [number[r.task] for r in trained],
        [cell(space.canonical(space.parse(r.architecture))) for r in trained],
        values,
        variance,
    )
    place, own, value = [], [], []
    for key, found in scored.items():
        if key in number and key not in wholes and len(found) >= FEWEST:
            labels = rank_sum(space, found, protocols)
            place += [number[key]] * len(found)
            own += [cell(one) for one in found]
            value += labels.quality.tolist()
    scores = _rows(place, own, np.array(value), np.zeros(len(value)))
    return MetaData(space, tasks, list(cells), trainings, scores, wholes, protocols)


def _rows(task: list[int], cell: list[int], value: np.ndarray, variance: np.ndarray) -> Rows:
    return Rows(
        torch.tensor(task, dtype=torch.long),
        torch.tensor(cell, dtype=torch.long),
        torch.tensor(value, dtype=torch.float32),
        torch.tensor(variance, dtype=torch.float32),
    )


def train_prior(
    data: MetaData,
    seed: int,
    members: int,
    without: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predictor:
    """Train the priors on the wholly scored tasks of all families but ``without``."""
    family = {task.key: task.family for task in data.tasks}
    used = [found for key, found in data.wholes.items() if family.get(key) != without]
    if not used:
        raise InputError(
            f"Every wholly scored task is of the family {without!r}, so it cannot be "
            "judged apart. Score the whole space on a task of another family too."
        )
    torch.manual_seed(seed)
    predictor = Predictor(PredictorConfig(len(data.space.node_features), data.protocols, members))
    pooled: dict[Architecture, list[np.ndarray]] = {}
    for found in used:
        labels = rank_sum(data.space, found, data.protocols)
        for one, quality, scores in zip(found, labels.quality, labels.scores, strict=True):
            pooled.setdefault(one, []).append(np.append(quality, scores))
    merged = np.stack([np.mean(rows, axis=0) for rows in pooled.values()]).astype(np.float32)
    fit_prior(
        predictor,
        data.space,
        PriorLabels(data.space.as_array(list(pooled)), merged[:, 0], merged[:, 1:]),
        seed,
        progress,
    )
    predictor.priors.requires_grad_(False)
    return predictor


def cell_priors(predictor: Predictor, data: MetaData) -> list[tuple[Tensor, Tensor]]:
    """Return what the priors say of every cell that the rows number."""
    return predictor.prior(*prior_inputs(data.space, data.space.as_array(data.cells)))


def train_sides(
    predictor: Predictor,
    data: MetaData,
    tasks: Sequence[int],
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train the dataset sides on some tasks."""
    redraws = [
        [data.tasks[t].redraws[i] for t in tasks]
        for i in range(min(len(data.tasks[t].redraws) for t in tasks))
    ]
    fit_sides(
        predictor,
        redraws,
        cell_priors(predictor, data),
        data.trainings.of_tasks(tasks),
        data.scores.of_tasks(tasks),
        seed,
        progress,
    )


@dataclass
class Judgement:
    """Predictions for trainings of families that were left out, all aligned with the trainings."""

    mean: np.ndarray
    """float (n,), logit."""
    between: np.ndarray
    """float (n,), variance between members, logit."""
    ranking: dict[str, np.ndarray]
    """float (n,) each: the model's and the baselines' scores, for ranking within a task."""
    level: dict[str, np.ndarray]
    """float (n,) each: logit accuracies of the model and of the baselines that give one."""


def judge(
    data: MetaData,
    everywhere: Predictor,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Judgement:
    """Predict every training by a model that has seen nothing of its family.

    Args:
        data: everything.
        everywhere: priors of :func:`train_prior` on all families, which serve wherever the judged
            family had no part in them; their dataset sides are trained anew for each family.
        seed: of everything.
        progress: told of families done, of all.
    """
    members = len(everywhere.priors)
    count = len(data.trainings.value)
    out = Judgement(np.zeros(count), np.zeros(count), {}, {})
    families = sorted({task.family for task in data.tasks})
    whole_families = {t.family for t in data.tasks if t.key in data.wholes}
    for done, family in enumerate(families):
        held = [i for i, task in enumerate(data.tasks) if task.family == family]
        kept = [i for i, task in enumerate(data.tasks) if task.family != family]
        rows = np.flatnonzero(np.isin(data.trainings.task.numpy(), held))
        if not len(rows):
            continue
        predictor = (
            train_prior(data, seed, members, without=family)
            if family in whole_families
            else everywhere
        )
        train_sides(predictor, data, kept, seed)
        priors = cell_priors(predictor, data)
        judged = data.trainings.of_tasks(held)
        descriptions = [data.tasks[t].redraws[0] for t in held]
        out.mean[rows], out.between[rows] = (
            x.numpy() for x in predict_rows(predictor, descriptions, priors, judged)
        )
        shifted = descriptions[1:] + descriptions[:1]
        shuffled, _ = predict_rows(predictor, shifted, priors, judged)
        quality = torch.stack([q for _, q in priors]).mean(0)[judged.cell].numpy()
        found = baselines.fit(data, kept, held, seed)
        for name, values in {
            "model": out.mean[rows],
            "features shuffled": shuffled.numpy(),
            "prior alone": quality,
            **found.ranking,
        }.items():
            out.ranking.setdefault(name, np.zeros(count))[rows] = values
        for name, values in {
            "model": out.mean[rows],
            "features shuffled": shuffled.numpy(),
            **found.level,
        }.items():
            out.level.setdefault(name, np.zeros(count))[rows] = values
        progress(done + 1, len(families))
    return out


def calibrate(residual: np.ndarray, between: np.ndarray) -> tuple[float, float]:
    """Return noise and width factor so that intervals cover :data:`LEVEL` of residuals.

    Args:
        residual: float (n,), logit accuracy less prediction, on families left out.
        between: float (n,), variance between members.
    """
    noise = float(np.sqrt(max(np.mean(residual**2 - between), 0.05**2)))
    scaled = np.abs(residual) / np.sqrt(noise**2 + between)
    rank = min(1.0, np.ceil((len(scaled) + 1) * LEVEL) / len(scaled))
    return noise, float(np.quantile(scaled, rank)) / HALF_WIDTH
