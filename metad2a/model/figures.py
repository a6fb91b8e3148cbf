"""Figures of a judgement: coverage, error and within-task ranking, the model beside baselines."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from metad2a.model.meta_training import Judgement, MetaData, calibrate
from metad2a.model.predictor import HALF_WIDTH


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``concordance``: share of a task's pairs in the right order, mean over tasks (0..1);
    ``regret``: accuracy lost by taking its first instead of the best, mean over tasks, in points;
    ``error``: mean absolute error of the accuracy, in points; None where it predicts none.
    """

    name: str
    concordance: float
    regret: float
    error: float | None


@dataclass(frozen=True)
class Figures:
    """What a judgement reached on families left out."""

    trainings: int
    tasks: int
    families: int
    coverage: float
    """Share of trainings inside the 90 % interval, calibrated on the other families."""
    by_family: dict[str, float]
    width: float
    """Median width of the interval, in points."""
    rows: tuple[Row, ...]

    def to_dict(self) -> dict[str, object]:
        """Return everything, JSON-ready."""
        return asdict(self)

    def table(self) -> str:
        """Return the rows as a Markdown table."""
        lines = [
            "| on families left out | concordance within a task | regret of the first, points "
            "| mean absolute error, points |",
            "|---|---|---|---|",
        ]
        for row in self.rows:
            error = "" if row.error is None else f"{row.error:.1f}"
            lines.append(f"| {row.name} | {row.concordance:.3f} | {row.regret:.2f} | {error} |")
        return "\n".join(lines)


def percent(logits: np.ndarray) -> np.ndarray:
    """Map logits to accuracies in percent."""
    shares: np.ndarray = 100 / (1 + np.exp(-np.asarray(logits, dtype=float)))
    return shares


def summarise(data: MetaData, judgement: Judgement) -> Figures:
    """Work out all figures."""
    task, value = data.trainings.task.numpy(), data.trainings.value.numpy()
    truth = percent(value)
    family = np.array([data.tasks[t].family for t in task])
    residual = value - judgement.mean
    inside, width = np.zeros(len(value), dtype=bool), np.zeros(len(value))
    for name in np.unique(family):
        here = family == name
        noise, factor = calibrate(residual[~here], judgement.between[~here])
        half = HALF_WIDTH * factor * np.sqrt(noise**2 + judgement.between[here])
        inside[here] = np.abs(residual[here]) <= half
        width[here] = percent(judgement.mean[here] + half) - percent(judgement.mean[here] - half)
    rows = []
    for name, score in judgement.ranking.items():
        right, regret = zip(
            *(_within(score[task == t], truth[task == t]) for t in np.unique(task)), strict=True
        )
        level = judgement.level.get(name)
        error = None if level is None else float(np.abs(percent(level) - truth).mean())
        rows.append(Row(name, float(np.nanmean(right)), float(np.mean(regret)), error))
    return Figures(
        trainings=len(value),
        tasks=len(np.unique(task)),
        families=len(np.unique(family)),
        coverage=float(inside.mean()),
        by_family={str(n): float(inside[family == n].mean()) for n in np.unique(family)},
        width=float(np.median(width)),
        rows=tuple(rows),
    )


def _within(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return concordance (ties of the truth left out, ties of the score half) and regret."""
    above = truth[:, None] > truth[None]
    gap = np.sign(score[:, None] - score[None])[above]
    concordance = float(((gap + 1) / 2).mean()) if len(gap) else float("nan")
    return concordance, float(truth.max() - truth[score.argmax()])
