"""What every table of the model stands beside: five baselines that cost next to nothing.

Random; the parameter count; the architecture that is best on average; what was best on the nearest
dataset; and the sum of a task's level and an architecture's effect. The last three are ridge
regressions on the choices of each decision, since no two tasks were trained on the same cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from metad2a.model.meta_training import MetaData

RIDGE = 3.0


@dataclass(frozen=True)
class Baselines:
    """Scores for ranking, and logit accuracies, float (n,) each, of the judged trainings."""

    ranking: dict[str, np.ndarray]
    level: dict[str, np.ndarray]


def one_hot(architectures: np.ndarray, choices: Sequence[int]) -> np.ndarray:
    """Map int (n, slots) to float (n, sum of choices): of each slot, a column for each choice."""
    columns = [np.eye(count)[architectures[:, slot]] for slot, count in enumerate(choices)]
    return np.concatenate(columns, axis=1)


def ridge(x: np.ndarray, y: np.ndarray, strength: float = RIDGE) -> np.ndarray:
    """Return float (features,), the weights of a ridge regression without intercept."""
    weights: np.ndarray = np.linalg.solve(x.T @ x + strength * np.eye(x.shape[1]), x.T @ y)
    return weights


def fit(data: MetaData, kept: list[int], held: list[int], seed: int) -> Baselines:
    """Fit all baselines on the tasks ``kept`` and apply them to the trainings of ``held``."""
    known, judged = data.trainings.of_tasks(kept), data.trainings.of_tasks(held)
    cells = data.space.as_array(data.cells)
    x = one_hot(cells, [len(decision.values) for decision in data.space.decisions])
    params = np.log(data.space.costs(cells, 10)[:, 0].astype(float))
    task, cell, value = (t.numpy() for t in (known.task, known.cell, known.value))
    own, at = judged.task.numpy(), judged.cell.numpy()
    means = np.array(
        [value[task == i].mean() if (task == i).any() else 0.0 for i in range(len(kept))]
    )
    effect = value - means[task]
    average = x @ ridge(x[cell], effect)

    statistics = np.stack([data.tasks[t].redraws[0].statistics.numpy() for t in (*kept, *held)])
    statistics = (statistics - statistics.mean(0)) / (statistics.std(0) + 1e-6)
    old, new = statistics[: len(kept)], statistics[len(kept) :]
    nearest = ((new[:, None] - old[None]) ** 2).sum(-1).argmin(1)
    names = np.array([data.tasks[t].dataset for t in kept])
    by_task = np.zeros((len(held), len(cells)))
    for i, near in enumerate(nearest):
        rows = np.isin(task, np.flatnonzero(names == names[near]))
        by_task[i] = x @ ridge(x[cell[rows]], effect[rows])
    with_one = np.column_stack([old, np.ones(len(old))])
    level = np.column_stack([new, np.ones(len(new))]) @ ridge(with_one, means, 1.0)
    rng = np.random.default_rng(seed)
    return Baselines(
        {
            "random": rng.random(len(at)),
            "parameters": params[at],
            "best on average": average[at],
            "nearest dataset": by_task[own, at],
            "additive": level[own] + average[at],
        },
        {
            "best on average": means.mean() + average[at],
            "nearest dataset": means[nearest][own] + by_task[own, at],
            "additive": level[own] + average[at],
        },
    )
