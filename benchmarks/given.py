"""Results on a dataset, taken into what is expected of its other networks, beside starting anew.

First TransNAS-Bench-101: a task is left out, some of its cells' results are drawn, and all other
cells are ranked. What a Gaussian process must know beside the model (how far a dataset's slope and
taste go) is learnt from the other six tasks. Then our own trainings, families left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
from _nasbench import SPACE, spearman
from _report import need, number, parser, publish, required, run, table
from scipy.optimize import minimize
from scipy.special import expit, logit
from scipy.stats import rankdata
from sklearn.ensemble import GradientBoostingRegressor

from database.importers import IMPORTERS
from metad2a.meta_training import rows as trainings
from metad2a.meta_training.judge import judge_given
from metad2a.model import results
from metad2a.model.baselines import one_hot
from metad2a.model.metad2a import MetaD2A, packaged
from metad2a.model.performance import LeftOut
from metad2a.model.predictor import prior_inputs
from metad2a.model.records import read_records

COUNTS = (5, 10, 20)
DRAWS = 10
"""Of the results that are given, for each task and count."""
LEARNT = 40
"""Cells of a task in each of the samples by which the deviations are learnt."""
SAMPLES = 3
TABLE = 2_000
"""Images that are said to have judged a cell of the table: its results have next to no noise."""
SPREAD = 0.3
"""Deviation of a task's logit accuracies over cells, to which scores are brought."""
NAMES = ("STEEPER", "SLOPE", "SMOOTH", "LENGTH", "NOISE")
SHIPPED = ", ".join(f"{name} {getattr(results, name):g}" for name in NAMES)


@dataclass(frozen=True)
class Cells:
    """n networks as the model sees them on a usual dataset, and what others go by."""

    seen: results.Seen
    plain: np.ndarray
    """float64 (n, features): operations one-hot."""
    told: np.ndarray
    """The same with prediction, parameters and MACs: all that the model knows at hand."""


def cells_of(model: MetaD2A, cells: np.ndarray) -> Cells:
    """Describe int (n, slots) cells; the dataset is in the middle of those that were learnt from."""
    predictor = model.predictor
    priors = predictor.prior(*prior_inputs(SPACE, cells))
    middle = [side.centre.running_mean[None] for side in predictor.sides]  # type: ignore[operator, union-attr, index]
    mean = predictor(middle, priors)[0][0].double().numpy()
    seen = results.Seen(
        100 * expit(mean),
        np.mean([quality.double().numpy() for _, quality in priors], axis=0),
        np.concatenate([hidden.double().numpy() for hidden, _ in priors], axis=1),
    )
    plain = one_hot(cells, [len(decision.values) for decision in SPACE.decisions])
    few = np.column_stack([mean, np.log(SPACE.costs(cells, 10).astype(float))])
    return Cells(seen, plain, np.hstack([plain, 3 * (few - few.mean(0)) / few.std(0)]))


# -- the ways --------------------------------------------------------------------------------

Way = Callable[[Cells, np.ndarray, np.ndarray], np.ndarray]
"""Cells, the numbers of those that are known and what they reached (percent) to scores of all."""


def ours(cells: Cells, known: np.ndarray, reached: np.ndarray) -> np.ndarray:
    """Return what is shipped."""
    judged = np.full(len(known), TABLE)
    return results.conditioned(cells.seen, cells.seen[known], reached, judged)[0]


def process(features: str) -> Way:
    """Return a Gaussian process on the results alone, its hyperparameters by marginal likelihood."""

    def way(cells: Cells, known: np.ndarray, reached: np.ndarray) -> np.ndarray:
        x, y = getattr(cells, features), logit(np.clip(reached / 100, 1e-3, 1 - 1e-3))
        y = (y - y.mean()) / (y.std() + 1e-9)
        squares = ((x[known][:, None] - x[known][None]) ** 2).sum(2)
        best, chosen = -np.inf, (1.0, 0.1)
        for length in (0.7, 1.0, 1.5, 2.5, 4.0, 8.0):
            for noise in (0.01, 0.03, 0.1, 0.3, 1.0):
                inner = np.exp(-squares / (2 * length**2)) + noise * np.eye(len(y))
                value = float(-y @ np.linalg.solve(inner, y) - np.linalg.slogdet(inner)[1])
                if value > best:
                    best, chosen = value, (length, noise)
        length, noise = chosen
        inner = np.exp(-squares / (2 * length**2)) + noise * np.eye(len(y))
        across = ((x[:, None] - x[known][None]) ** 2).sum(2)
        found: np.ndarray = np.exp(-across / (2 * length**2)) @ np.linalg.solve(inner, y)
        return found

    return way


def boosting(features: str) -> Way:
    """Return gradient boosting on the results alone."""

    def way(cells: Cells, known: np.ndarray, reached: np.ndarray) -> np.ndarray:
        x = getattr(cells, features)
        made = GradientBoostingRegressor(
            n_estimators=60, max_depth=2, subsample=0.8, random_state=0
        )
        found: np.ndarray = made.fit(x[known], reached).predict(x)
        return found

    return way


WAYS: Mapping[str, Way] = {
    "**the model, given the results**": ours,
    "Gaussian process, operations": process("plain"),
    "Gaussian process, operations, prediction and costs": process("told"),
    "gradient boosting, operations": boosting("plain"),
    "gradient boosting, operations, prediction and costs": boosting("told"),
}


# -- what is learnt --------------------------------------------------------------------------


Sample = tuple[results.Seen, np.ndarray, np.ndarray]
"""Networks of one task, what they reached (percent), and images that judged them."""


def likelihood(seen: results.Seen, reached: np.ndarray, judged: np.ndarray) -> float:
    """Return the logarithm of the marginal likelihood of results, but for a constant."""
    values, noise = results.results_as_logits(reached, judged)
    inner = results.covariance(seen, seen) + np.diag(noise)
    off = values - seen.mean
    return float(-0.5 * off @ np.linalg.solve(inner, off) - 0.5 * np.linalg.slogdet(inner)[1])


def learn(samples: list[Sample]) -> dict[str, float]:
    """Return the deviations that make results most likely, and put them in place."""

    def loss(logs: np.ndarray) -> float:
        put(dict(zip(NAMES, np.exp(np.clip(logs, -5, 3)), strict=True)))
        return -sum(likelihood(*one) for one in samples)

    start = np.log([getattr(results, name) for name in NAMES])
    best = minimize(loss, start, method="Nelder-Mead", options={"maxfev": 160, "xatol": 0.03})
    found = dict(zip(NAMES, np.exp(np.clip(best.x, -5, 3)).tolist(), strict=True))
    put(found)
    return found


def put(values: Mapping[str, float]) -> None:
    """Let the process have these deviations."""
    for name, value in values.items():
        setattr(results, name, float(value))


# -- the table -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Published:
    """The table: cells that differ, each once; values of the 4,096 rows, and how they are meant."""

    cells: Cells
    place: np.ndarray
    """int (4096,): of each row's cell."""
    connected: np.ndarray
    """bool (4096,)."""
    values: dict[str, np.ndarray]
    """float64 (4096,) each: an accuracy 0..1 or a score, by task."""
    kinds: dict[str, str]


def published(path: Path, model: MetaD2A) -> Published:
    """Read the table as ``metad2a db import`` does."""
    tables = IMPORTERS.get("transnasbench101").tables(path)
    names = {row["task"]: row["name"].split("-")[1] for row in tables["tasks"]}
    values: dict[str, list[float]] = {name: [] for name in names.values()}
    kinds: dict[str, str] = {}
    strings: list[str] = []
    for row in tables["evaluations"]:
        name = names[row["task"]]
        if name == next(iter(values)):
            strings.append(row["architecture"])
        values[name].append(row["value"])
        kinds[name] = row["kind"]
    own = SPACE.as_array(strings)
    same = SPACE.as_array([SPACE.canonical(tuple(one)) for one in own.tolist()])
    distinct, place = np.unique(same, axis=0, return_inverse=True)
    return Published(
        cells_of(model, distinct),
        place.reshape(-1),
        SPACE.connected(own),
        {name: np.array(found) for name, found in values.items()},
        kinds,
    )


def percent(found: Published, task: str, rows: np.ndarray) -> np.ndarray:
    """Return what is known of rows in percent.

    A score has no chance level and no end; it is brought to a spread that is usual of accuracies.
    """
    values = found.values[task][rows]
    if found.kinds[task] == "accuracy":
        return 100 * np.clip(values, 1e-3, 1 - 1e-3)
    scaled = (values - values.mean()) / (values.std() + 1e-12)
    brought: np.ndarray = 100 * expit(SPREAD * scaled)
    return brought


def drawn(found: Published, count: int, *seed: int) -> np.ndarray:
    """Return int (count,) rows of different cells that are connected."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(found.connected))
    _, first = np.unique(found.place[order], return_index=True)
    return order[np.sort(first)[:count]]


def sample(found: Published, task: str, *seed: int) -> Sample:
    rows = drawn(found, LEARNT, *seed)
    return found.cells.seen[found.place[rows]], percent(found, task, rows), np.full(LEARNT, TABLE)


def left_out(found: Published) -> tuple[list[list[str]], dict[str, float], list[dict[str, float]]]:
    """Return the rows of the table, the means after 5, 10 and 20 results, and what was learnt."""
    tasks = list(found.values)
    at: dict[tuple[str, int], list[float]] = {}
    learnt = []
    for number_, task in enumerate(tasks):
        truth = found.values[task]
        alone = found.cells.seen.accuracy[found.place]
        at.setdefault(("prediction alone", 0), []).append(spearman(alone, truth))
        taught = [rankdata(values) for name, values in found.values.items() if name != task]
        taught_mean = np.mean(taught, axis=0)
        at.setdefault(("mean rank on the other six", 0), []).append(spearman(taught_mean, truth))
        others = [
            sample(found, one, 1, i, j)
            for i, one in enumerate(tasks)
            if one != task
            for j in range(SAMPLES)
        ]
        learnt.append(learn(others))
        for count in COUNTS:
            for name, way in WAYS.items():
                values = []
                for draw in range(DRAWS):
                    rows = drawn(found, count, 2, number_, draw)
                    rest = np.setdiff1d(np.arange(len(truth)), rows)
                    score = way(found.cells, found.place[rows], percent(found, task, rows))
                    values.append(spearman(score[found.place[rest]], truth[rest]))
                at.setdefault((name, count), []).append(float(np.nanmean(values)))
    every = [sample(found, one, 1, i, j) for i, one in enumerate(tasks) for j in range(SAMPLES)]
    learnt.append(learn(every))
    rows_ = [
        [name, str(count), *(number(value) for value in values), number(float(np.mean(values)))]
        for (name, count), values in sorted(at.items(), key=lambda item: item[0][1])
    ]
    means = {f"{name} {count}": float(np.mean(values)) for (name, count), values in at.items()}
    return rows_, means, learnt


# -- our own trainings -----------------------------------------------------------------------

ASSETS = Path(str(resources.files("metad2a"))) / "assets" / "database"


def own_cells(model: MetaD2A) -> list[list[str]]:
    """Return rows: error and interval of trainings of cells after 2 and 5 results, as shipped."""
    rows = [r for r in read_records(ASSETS / "evaluations.parquet") if r.protocol == model.protocol]
    sizes = {
        row["task"]: len(row["test"])
        for row in trainings.read_rows(ASSETS / "tasks.parquet", ("task", "test"))
    }
    every = cells_of(
        model, SPACE.as_array([SPACE.canonical(SPACE.parse(r.architecture)) for r in rows])
    )
    value = np.array([100 * r.value for r in rows])
    judged = np.array([sizes[r.task] for r in rows])
    task = np.array([r.task for r in rows])
    # An interval never reaches 0 or 100: half an image is added to either side, as in learning.
    within = (value * judged + 50) / (judged + 1)
    lines = []
    for count in (2, 5):
        told: list[np.ndarray] = []
        for name in np.unique(task):
            mine = np.flatnonzero(task == name)
            for draw in range(len(mine)):
                order = np.roll(mine, draw)
                known, asked = order[:count], order[count:]
                mean, low, high = results.conditioned(
                    every.seen[asked], every.seen[known], value[known], judged[known]
                )
                inside = (low <= within[asked]) & (within[asked] <= high)
                told.append(np.stack([np.abs(mean - value[asked]), inside, high - low]))
        error, inside, width = np.concatenate(told, axis=1)
        lines.append(
            [
                str(count),
                number(float(error.mean()), 1),
                f"{100 * float(inside.mean()):.0f} %",
                number(float(np.median(width)), 0),
            ]
        )
    return lines


def own_pieces() -> tuple[list[list[str]], int, list[float]]:
    """Return the same of networks with pretrained weights, how many trainings, and errors, widths."""
    rows = trainings.packaged_rows()
    judged = judge_given(rows, LeftOut.of(rows))
    told = [
        [
            str(one.count),
            number(one.error, 1),
            number(one.moved, 1),
            number(one.concordance),
            f"{100 * one.coverage:.0f} %",
            number(one.width, 0),
        ]
        for one in judged
    ]
    return told, len(rows), [judged[-1].width, judged[0].error, judged[-1].error]


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    model = packaged()
    pieces, trained, (width, before, after) = own_pieces()
    found = published(need(args.shared, "bench/transnasbench101_micro.csv.gz"), model)
    cells = own_cells(model)
    rows, means, learnt = left_out(found)
    every = ", ".join(f"{name} {value:.2f}" for name, value in learnt[-1].items())
    first = next(iter(WAYS))
    best = max((name for name in WAYS if name != first), key=lambda name: means[f"{name} 5"])
    publish(
        "given",
        "Results on a dataset, given to the model",
        [
            f"TransNAS-Bench-101: {len(found.place):,} cells on seven tasks. One task is left out; "
            "so many of its cells' results are drawn (connected cells, "
            f"{DRAWS} draws), and Spearman is over all other rows, mean of the draws. The prediction "
            "is that for a usual dataset, since the tasks' images are not public. How far slope and "
            "taste of a dataset go from it is learnt from the other six tasks; all seven give "
            f"{every}; {SHIPPED} is shipped (`metad2a/model/results.py` says why). Gaussian process and boosting start anew from "
            "the results, with hyperparameters by marginal likelihood, and the best of several "
            "settings.",
            table(["", "results", *found.values, "mean"], rows),
            f"Our own trainings of cells ({json.dumps(model.protocol)}), by the same prediction and "
            "what is shipped: error in points, and the 90 % interval. Without results the model's "
            "card says 6.8 points, and a width of 49.",
            table(["results", "error, points", "inside the interval", "its width, points"], cells),
            f"Networks with pretrained weights, families left out ({trained} trainings; tasks with "
            "more than 5 of them; the same others are judged whatever is given). *Moved*: what is "
            "said without results, moved by what it is off by at them.",
            table(
                [
                    "results",
                    "error, points",
                    "the same, moved",
                    "concordance",
                    "inside the interval",
                    "its width, points",
                ],
                pieces,
            ),
            required(
                [
                    ("width after 5 results, pretrained", width, 10, " points", False),
                    ("error after 5 results over that before", after / before, 1, "", False),
                    (
                        f"Spearman after 5 results, above {best}",
                        means[f"{first} 5"] - means[f"{best} 5"],
                        0,
                        "",
                        True,
                    ),
                    (
                        f"Spearman after 20 results, above {best}",
                        means[f"{first} 20"] - means[f"{best} 20"],
                        0,
                        "",
                        True,
                    ),
                ]
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
