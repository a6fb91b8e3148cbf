"""How well a performance model predicts families of datasets that it has not seen.

Every training is predicted without any of its family, and so do simpler ways; what is reported is
what is said of strangers' images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metad2a.errors import InputError
from metad2a.model.performance import (
    DATASET,
    FEATURES,
    GIVEN,
    HALF_WIDTH,
    MARKS,
    NETWORK,
    RECIPE,
    Forecast,
    LeftOut,
    Problem,
    Row,
    conformal,
    percent,
)
from metad2a.spaces import SPACES

MODEL = "model"
"""The model's name among the ways of predicting."""
Fitter = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""A way of regression: float64 (n, :data:`FEATURES`), (n,) and (m, :data:`FEATURES`) to (m,)."""


@dataclass(frozen=True)
class Judged:
    """How a way of predicting does on families of datasets that it has not seen."""

    name: str
    error: float
    """Mean absolute error of the accuracy, in points, mean over tasks."""
    concordance: float
    """Share of a task's pairs of networks in the right order, 0..1, mean over tasks."""
    within_band: float
    """The same of pairs within a factor of 2 in multiply-adds; NaN where there are none."""
    regret: float
    """Points lost by taking a task's first instead of its best, mean over tasks."""
    coverage: float
    """Share of results inside the 90 % interval; NaN where there is none."""
    width: float
    """Median width of the interval, in points; NaN where there is none."""


def predictions(learnt: LeftOut, others: Mapping[str, Fitter] | None = None) -> dict[str, Forecast]:
    """Predict every training without any of its family, and so do simpler ways.

    Hyperparameters are learnt without the family too, and intervals from what the others were off by
    when they were left out (Vovk, "Cross-conformal predictors", 2015). The simpler ways: the counts of
    the dataset and the network (one list of networks for all, with a level), the sum of a part of
    the dataset and one of the network (ridge regression), ridge regression on all features, the
    dataset with the nearest landmarks, and the model itself with another dataset described.

    Args:
        learnt: of n trainings.
        others: further ways of regression, by name.

    Returns:
        Of each way, by name, what it says of the rows; intervals are NaN but for :data:`MODEL`.
    """
    problem, models = learnt.problem, learnt.without
    n = len(problem.y)
    scaled = problem.scaled(models, 0)
    found: dict[str, np.ndarray] = {}
    half = np.zeros(n)
    columns = {name: i for i, name in enumerate(FEATURES)}
    marks = [columns[name] for name in (*MARKS, *DATASET[3:-1])]
    blind = [columns[name] for name in (*DATASET[:3], *NETWORK, *RECIPE)]
    summed = [columns[name] for name in (*DATASET, *MARKS, *NETWORK, *RECIPE)]
    whole = list(range(len(FEATURES)))
    for family, model in models.items():
        kept, held = (
            np.flatnonzero(problem.family != family),
            np.flatnonzero(problem.family == family),
        )
        model.factors = {0: _factor_without(family, scaled)}
        x, y, asked = problem.x[kept], problem.y[kept], problem.x[held]
        strange = _with_marks_of_another(problem, held, kept)
        mean, deviation = model.distances(asked)
        half[held] = HALF_WIDTH * model.factor * deviation
        answers = {MODEL: mean, "another dataset described": model.distances(strange)[0]}
        answers["counts and network"] = _ridge(x, y, asked, blind)
        answers["dataset + network"] = _ridge(x, y, asked, summed)
        answers["ridge regression"] = _ridge(x, y, asked, whole)
        answers["nearest dataset"] = _nearest(
            problem, kept, held, marks, answers["counts and network"]
        )
        for name, way in (others or {}).items():
            answers[name] = way(x, y, asked)
        for name, values in answers.items():
            found.setdefault(name, np.zeros(n))[held] = values
    unknown = np.full(n, math.nan)
    return {
        name: Forecast(
            percent(values + problem.chance),
            percent(values + problem.chance - width),
            percent(values + problem.chance + width),
        )
        for name, values in found.items()
        for width in (half if name == MODEL else unknown,)
    }


def judge(rows: Sequence[Row], said: Mapping[str, Forecast]) -> list[Judged]:
    """Return how well ways of predicting do, by what each says of the rows."""
    cost = np.log2(multiply_adds(rows))
    truth = np.array([100 * row.value for row in rows])
    # An interval never reaches 0 or 100: half an image is added to either side, as in learning.
    images = np.array([row.judged for row in rows])
    within = (truth * images + 50) / (images + 1)
    judged = []
    for name, one in said.items():
        known = np.isfinite(one.low)
        inside = (within >= one.low) & (within <= one.high)
        judged.append(
            Judged(
                name,
                *_within_tasks(rows, one.mean, truth, cost),
                coverage=float(inside[known].mean()) if known.any() else math.nan,
                width=float(np.median((one.high - one.low)[known])) if known.any() else math.nan,
            )
        )
    return judged


@dataclass(frozen=True)
class Known:
    """How the model does on families left out, once some results of a task are known."""

    count: int
    """Results known; what is judged are the same other results of the task for every count."""
    error: float
    """Mean absolute error of the accuracy, in points, mean over tasks."""
    moved: float
    """The same of what is said without results, moved by what it is off by at them on average."""
    concordance: float
    """Share of a task's pairs of networks in the right order, 0..1, mean over tasks."""
    coverage: float
    """Share of results inside the 90 % interval."""
    width: float
    """Median width of the interval, in points."""


def judge_given(rows: Sequence[Row], learnt: LeftOut, draws: int = 5) -> list[Known]:
    """Predict trainings of families left out from results of their own task, and without any.

    Args:
        rows: trainings; a task that has no more than the most results that are given is passed over.
        learnt: of the same.
        draws: of the results of each task that are given.

    Raises:
        InputError: no task has more trainings than the most results that are given.
    """
    problem, models = learnt.problem, learnt.without
    task = problem.groups[:, 1]
    if np.bincount(task).max() <= max(GIVEN):
        raise InputError(
            f"No task has more than {max(GIVEN)} trainings, so that some could be given and others "
            f"judged; the most is {np.bincount(task).max()}. Add trainings."
        )
    scaled = {count: problem.scaled(models, count) for count in GIVEN}
    truth = np.array([100 * row.value for row in rows])
    found: dict[int, list[tuple[float, float, float]]] = {count: [] for count in GIVEN}
    inside: dict[int, list[np.ndarray]] = {count: [] for count in GIVEN}
    widths: dict[int, list[np.ndarray]] = {count: [] for count in GIVEN}
    for family, model in models.items():
        model.factors = {count: _factor_without(family, scaled[count]) for count in GIVEN}
        for number in np.unique(task[problem.family == family]):
            mine = np.flatnonzero(task == number)
            if len(mine) <= max(GIVEN):
                continue
            for draw in range(draws):
                order = np.random.default_rng([draw, int(number)]).permutation(mine)
                asked, chance = order[max(GIVEN) :], problem.chance[mine[0]]
                plain = model.distances(problem.x[mine])[0]
                for count in GIVEN:
                    known = order[:count]
                    knowing = problem.knowing(model, known)
                    mean, deviation = knowing.distances(problem.x[asked])
                    half = HALF_WIDTH * knowing.factor * deviation
                    low, high = mean - half, mean + half
                    off = (problem.y[mine] - plain)[np.isin(mine, known)].mean() if count else 0.0
                    moved = model.distances(problem.x[asked])[0] + off
                    said = percent(mean + chance)
                    found[count].append(
                        (
                            float(np.abs(said - truth[asked]).mean()),
                            float(np.abs(percent(moved + chance) - truth[asked]).mean()),
                            _concordance(said, truth[asked]),
                        )
                    )
                    inside[count].append((problem.y[asked] >= low) & (problem.y[asked] <= high))
                    widths[count].append(percent(high + chance) - percent(low + chance))
    return [
        Known(
            count,
            error=float(error),
            moved=float(moved),
            concordance=float(order),
            coverage=float(np.concatenate(inside[count]).mean()),
            width=float(np.median(np.concatenate(widths[count]))),
        )
        for count in GIVEN
        for error, moved, order in [np.nanmean(np.array(found[count]), axis=0)]
    ]


def _factor_without(family: int, scaled: tuple[np.ndarray, np.ndarray]) -> float:
    """Return by how much intervals must be wider, as all other families tell."""
    residuals, of = scaled
    return conformal(residuals[of != family], of[of != family])


def _concordance(said: np.ndarray, truth: np.ndarray, counted: np.ndarray | bool = True) -> float:
    """Return the share of the ``counted`` pairs in the right order, 0..1; NaN where none differ."""
    above = (truth[:, None] > truth[None]) & counted
    right = (np.sign(said[:, None] - said[None]) + 1) / 2
    return float(right[above].mean()) if above.any() else math.nan


def table(judged: Sequence[Judged]) -> str:
    """Return judgements as a Markdown table."""
    lines = [
        "| families left out | error, points | concordance in a task | within a factor 2 of MACs "
        "| regret of the first, points | inside the 90 % interval | its width, points |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in judged:
        cells = [f"{one.error:.1f}", f"{one.concordance:.3f}", f"{one.within_band:.3f}"]
        cells += [f"{one.regret:.1f}", f"{100 * one.coverage:.0f} %", f"{one.width:.0f}"]
        lines.append(
            " | ".join(
                ["| " + one.name, *(c.replace("nan %", "").replace("nan", "") for c in cells)]
            )
            + " |"
        )
    return "\n".join(lines)


def by_task(rows: Sequence[Row]) -> list[np.ndarray]:
    """Return int64 places of the rows of each task."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.task, []).append(place)
    return [np.array(mine) for mine in places.values()]


def multiply_adds(rows: Sequence[Row]) -> np.ndarray:
    """Return float64 (n,): the networks' multiply-adds for one image."""
    found = []
    for row in rows:
        space = SPACES.get(row.space)
        found.append(space.cost(space.parse(row.architecture), row.classes).macs)
    return np.array(found, dtype=np.float64)


def _within_tasks(
    rows: Sequence[Row], said: np.ndarray, truth: np.ndarray, cost: np.ndarray
) -> tuple[float, float, float, float]:
    """Return error, concordance, concordance within a factor of 2 of ``cost`` and regret.

    ``cost`` is the logarithm to base 2, as the others float64 (n,).
    """
    errors, order, band, regrets = [], [], [], []
    for mine in by_task(rows):
        s, t, m = said[mine], truth[mine], cost[mine]
        errors.append(np.abs(s - t).mean())
        regrets.append(t.max() - t[s.argmax()])
        order.append(_concordance(s, t))
        band.append(_concordance(s, t, np.abs(m[:, None] - m[None]) <= 1))
    if np.isnan(band).all():
        band = [np.nan]
        return float(np.mean(errors)), float(np.nanmean(order)), math.nan, float(np.mean(regrets))
    return (
        float(np.mean(errors)),
        float(np.nanmean(order)),
        float(np.nanmean(band)),
        float(np.mean(regrets)),
    )


def _ridge(x: np.ndarray, y: np.ndarray, asked: np.ndarray, columns: list[int]) -> np.ndarray:
    """Regress on some columns, with the penalty of least leave-one-out error."""
    a, b = x[:, columns], asked[:, columns]
    centre, scale = a.mean(0), a.std(0) + 1e-9
    a, b = (a - centre) / scale, (b - centre) / scale
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    target = u.T @ (y - y.mean())
    best, weights = math.inf, np.zeros(len(columns))
    for penalty in 10.0 ** np.arange(-2, 5):
        shrunk = s**2 / (s**2 + penalty)
        leverage = 1 / len(y) + (u**2) @ shrunk
        off = (y - y.mean() - u @ (shrunk * target)) / (1 - leverage)
        if (off**2).mean() < best:
            best, weights = float((off**2).mean()), vt.T @ (s / (s**2 + penalty) * target)
    found: np.ndarray = b @ weights + y.mean()
    return found


def _nearest(
    problem: Problem, kept: np.ndarray, held: np.ndarray, marks: list[int], base: np.ndarray
) -> np.ndarray:
    """Return a base prediction with the level that the task of the nearest landmarks had above it."""
    x, task = problem.x[:, marks], problem.groups[:, 1]
    scale = x[kept].std(0) + 1e-9
    columns = [FEATURES.index(name) for name in (*DATASET[:3], *NETWORK, *RECIPE)]
    fitted = _ridge(problem.x[kept], problem.y[kept], problem.x[kept], columns)
    above = problem.y[kept] - fitted
    tasks = np.unique(task[kept])
    firsts = np.array([kept[task[kept] == t][0] for t in tasks])
    levels = np.array([above[task[kept] == t].mean() for t in tasks])
    apart = (((x[held][:, None] - x[firsts][None]) / scale) ** 2).sum(2)
    found: np.ndarray = base + levels[apart.argmin(1)]
    return found


def _with_marks_of_another(problem: Problem, held: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return features of held rows with the landmarks of a task of another family.

    Counts stay; the landmark nearest to a network is that of the other task's at the network of the
    same place, or what it has nearest by cost.
    """
    x: np.ndarray = problem.x[held].copy()
    task = problem.groups[:, 1]
    others = np.unique(task[kept])
    dataset = [FEATURES.index(name) for name in (*DATASET[3:-1], *MARKS)]
    near, tuned = FEATURES.index("near"), FEATURES.index("near_tuned")
    place = [FEATURES.index(name) for name in ("log2_resolution", "stage")]
    for number, own in enumerate(np.unique(task[held])):
        rows = np.flatnonzero(task[held] == own)
        other = kept[task[kept] == others[(7 * number + 3) % len(others)]]
        x[rows[:, None], dataset] = problem.x[other[0], dataset]
        apart = ((x[rows][:, None, place] - problem.x[other][None][:, :, place]) ** 2).sum(2)
        taken = problem.x[other[apart.argmin(1)], near]
        x[rows, tuned] = np.where(x[rows, tuned] != 0, taken, 0)
        x[rows, near] = taken
    return x
