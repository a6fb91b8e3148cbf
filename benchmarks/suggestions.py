"""What is said of networks on families of datasets that the model has not seen.

Every measured training is predicted without its family. Then, of the trainings of a task: how far
predicted accuracies are off, whether the network that is called enough is, and what the first
suggestion under a limit reaches beside a constant list of networks, one drawn at random and the
best; and how networks rank that once-for-all published. With ``--data`` and ``--labels`` the packaged model answers for trainings measured elsewhere.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from _report import need, number, parser, publish, run, table
from tqdm import tqdm

from database.importers import IMPORTERS
from metad2a.errors import InputError
from metad2a.meta_training.judge import (
    MODEL,
    Fitter,
    by_task,
    judge,
    multiply_adds,
    predictions,
)
from metad2a.meta_training.judge import table as judged_table
from metad2a.meta_training.rows import packaged_rows
from metad2a.model.performance import Forecast, LeftOut, Row, packaged
from metad2a.protocol import FINE_TUNE, PROBE

LIMITS = (4e6, 15e6, 50e6, 150e6, float("inf"))
"""Most multiply-adds."""
POOL = 4
"""Fewest trainings of a task among which is chosen."""
ENOUGH = 2.0
"""Points below the best that are enough."""
CALLED = (2.0, 1.0, 0.5)
"""Points below the best expected within which a network is called enough. The best of many
expectations is too good to be true, and what is the cheapest of many, more so."""
NATURAL = "caltech101"
"""Images of things, as ImageNet has them."""


def boosting(leaves: int) -> Fitter:
    """Return gradient boosting on all features: 300 trees of so many leaves."""

    def fit(x: np.ndarray, y: np.ndarray, asked: np.ndarray) -> np.ndarray:
        from sklearn.ensemble import HistGradientBoostingRegressor

        trees = HistGradientBoostingRegressor(
            learning_rate=0.05,
            max_iter=300,
            max_leaf_nodes=leaves,
            min_samples_leaf=8,
            l2_regularization=1.0,
            random_state=0,
        )
        found: np.ndarray = trees.fit(x, y).predict(asked)
        return found

    return fit


def elsewhere(data: Path, labels: Path) -> list[Row]:
    """Read trainings measured elsewhere, and look at their datasets.

    Args:
        data: folder of the datasets, each as ``load_dataset`` takes it.
        labels: CSV file, or JSON lines, with ``dataset``, ``architecture`` and ``accuracy``
            (percent), and where it was trained ``rate``, ``epochs`` and ``frozen_stages``.

    Raises:
        InputError: a row cannot be read.
    """
    from metad2a.datasets import load_dataset
    from metad2a.model.landmarks import of_dataset
    from metad2a.training.sides import split

    text = labels.read_text(encoding="utf-8")
    if labels.suffix == ".csv":
        listed: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
    else:
        listed = [json.loads(line) for line in text.splitlines() if line.strip()]
    found: list[Row] = []
    of: dict[str, dict[str, Any]] = {}
    for number_, one in enumerate(tqdm(listed, unit="row", delay=2), start=1):
        try:
            name, value = str(one["dataset"]), float(one["accuracy"]) / 100
            rate, epochs = float(one.get("rate") or 0), float(one.get("epochs") or 0)
            stages = int(one.get("frozen_stages") or 0)
            architecture = str(one["architecture"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"Row {number_} of {str(labels)!r} is {one!r}: {error!r}. It needs dataset, "
                "architecture and accuracy, and for trained networks rate and epochs."
            ) from error
        if name not in of:
            dataset = load_dataset(data / name)
            sides = split(dataset, 0)
            known = np.sort(np.concatenate([sides.train, sides.choice]))
            of[name] = {
                "dataset": name,
                "family": name,
                "task": name,
                "landmarks": of_dataset(dataset, known, 0),
                "space": "efficientnet_lite",
                "classes": len(dataset.classes),
                "images": len(sides.train),
                "judged": len(sides.test),
            }
        recipe = PROBE.recipe
        if rate:
            recipe = dataclasses.replace(FINE_TUNE, rate=rate, epochs=epochs, frozen_stages=stages)
        found.append(Row(**of[name], architecture=architecture, recipe=recipe, value=value))
    return found


def packaged_says(rows: Sequence[Row]) -> Forecast:
    """Return what the packaged model says of trainings."""
    from metad2a.spaces import SPACES

    said = np.zeros((3, len(rows)))
    for mine in by_task(rows):
        one, space = rows[mine[0]], SPACES.get(rows[mine[0]].space)
        answer = packaged().predict(
            one.landmarks,
            space,
            [space.canonical(space.parse(rows[i].architecture)) for i in mine],
            [rows[i].recipe for i in mine],
            one.classes,
            one.images,
        )
        said[:, mine] = answer.mean, answer.low, answer.high
    return Forecast(*said)


def once_for_all(table_: Path, rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return Spearman's correlations with once-for-all's published accuracies on ImageNet, over half
    of its networks: of what the packaged model says on natural images, and beside it."""
    from scipy.stats import spearmanr
    from sklearn.ensemble import HistGradientBoostingRegressor

    from metad2a.model.performance import describe_networks
    from metad2a.protocol import fine_tune
    from metad2a.spaces import SPACES

    space = SPACES.get("mobilenetv3")
    evaluations = list(IMPORTERS.get("once-for-all").tables(table_)["evaluations"])
    networks = [space.parse(row["architecture"]) for row in evaluations]
    truth = np.array([row["value"] for row in evaluations])
    distinct = sorted(set(networks))
    order = np.random.default_rng(0).permutation(len(distinct))
    held = {distinct[place] for place in order[: len(distinct) // 2]}
    asked = np.array([one in held for one in networks])
    x = np.hstack([describe_networks(space, networks, 1000), np.array(networks)])
    natural = next(row for row in rows if row.dataset == NATURAL)
    mine = [one for one, is_asked in zip(networks, asked, strict=True) if is_asked]
    said = packaged().predict(
        natural.landmarks,
        space,
        mine,
        [fine_tune(5e-4, 8).recipe] * len(mine),
        natural.classes,
        natural.images,
    )
    trees = HistGradientBoostingRegressor(random_state=0).fit(x[~asked], truth[~asked])
    found = {
        f"what the packaged model says of them on {NATURAL}": said.mean,
        "multiply-adds alone": x[asked, 0],
        "gradient boosting that has learnt from the other half": trees.predict(x[asked]),
    }
    return [
        (name, number(float(spearmanr(values, truth[asked])[0]))) for name, values in found.items()
    ]


def enough(
    rows: Sequence[Row], said: np.ndarray, cost: np.ndarray, within: float
) -> tuple[float, float]:
    """Return the share of tasks where the cheapest that is called enough is within 3 points of the
    best, and the median of its cost over that of the truly cheapest.

    What is expected ``within`` so many points of the best expected is called enough.
    """
    truth = np.array([100 * row.value for row in rows])
    near, dear = [], []
    for mine in by_task(rows):
        if len(mine) < POOL:
            continue
        s, t, c = said[mine], truth[mine], cost[mine]
        called, true = s >= s.max() - within, t >= t.max() - ENOUGH
        taken = int(np.where(called, c, np.inf).argmin())
        near.append(t[taken] >= t.max() - 3)
        dear.append(c[taken] / c[true].min())
    return 100 * float(np.mean(near)), float(np.median(dear))


def first(
    rows: Sequence[Row], said: np.ndarray, cost: np.ndarray, limit: float
) -> tuple[float, int]:
    """Return the mean accuracy of the first of each task under a limit, and how many tasks."""
    truth = np.array([100 * row.value for row in rows])
    taken = []
    for mine in by_task(rows):
        fits = mine[cost[mine] <= limit]
        if len(fits) >= POOL:
            taken.append(truth[fits[said[fits].argmax()]])
    return (float(np.mean(taken)) if taken else float("nan")), len(taken)


def main() -> None:
    """Predict, judge, publish."""
    out = parser(__doc__ or "")
    out.add_argument("--data", type=Path, metavar="DIR", help="folder of datasets")
    out.add_argument("--labels", type=Path, metavar="FILE", help="trainings measured on them")
    args = out.parse_args()
    if (args.data is None) != (args.labels is None):
        out.error("--data and --labels belong together: datasets, and trainings measured on them")
    if args.data is not None:
        rows, ofa = elsewhere(args.data, args.labels), []
        said = {MODEL: packaged_says(rows)}
    else:
        rows = packaged_rows()
        others = {f"gradient boosting, {n} leaves": boosting(n) for n in (4, 12)}
        bar = tqdm(unit="family", delay=2)

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        said = predictions(LeftOut.of(rows, progress=progress), others)
        bar.close()
        published = need(args.shared, "bench/ofa_mbv3w10_imagenet.csv.gz")
        ofa = [
            "Once-for-all's published accuracies on ImageNet (`mobilenetv3`), over half of its networks:",
            table(("", "Spearman"), once_for_all(published, rows)),
        ]
    report(rows, said, "" if args.data is None else f"-{args.data.name}", ofa)


def report(
    rows: Sequence[Row], said: dict[str, Forecast], suffix: str, more: Sequence[str]
) -> None:
    """Print and write the tables, and ``more`` after them."""
    cost = multiply_adds(rows)
    truth = np.array([100 * row.value for row in rows])
    families = {row.family for row in rows}
    tasks = [mine for mine in by_task(rows) if len(mine) >= POOL]
    facts = (
        f"{len(rows)} trainings of {len({row.task for row in rows})} tasks, {len(families)} "
        f"families; choices are made in the {len(tasks)} tasks with {POOL} or more."
    )
    sufficient = [
        (name, *(_called(*enough(rows, one.mean, cost, within)) for within in CALLED))
        for name, one in said.items()
    ]
    header = ["accuracy of the first", *(_limit(limit) for limit in LIMITS)]
    chosen = {name: one.mean for name, one in said.items()}
    lines = [
        (name, *(number(first(rows, mean, cost, limit)[0], 1) for limit in LIMITS))
        for name, mean in chosen.items()
    ]
    lines.append(("best of the task", *_best(rows, truth, cost)))
    lines.append(("one at random", *_random(rows, truth, cost)))
    lines.append(("tasks", *(first(rows, truth, cost, limit)[1] for limit in LIMITS)))
    publish(
        f"suggestions{suffix}",
        "What is said of networks on strangers' images",
        [
            facts,
            judged_table(judge(rows, said)),
            "Enough: the cheapest that is predicted within so many points of the best. Share of tasks "
            "where it is truly within 3 points of the best, and the median of its cost over that of "
            f"the cheapest that truly is within {ENOUGH:g}.",
            table(("enough", *(f"within {within:g}" for within in CALLED)), sufficient),
            table(header, lines),
            *more,
        ],
    )


def _called(share: float, cost: float) -> str:
    return f"{share:.1f} %, {cost:.1f} times"


def _limit(limit: float) -> str:
    return "no limit" if np.isinf(limit) else f"{limit / 1e6:g}M MACs"


def _best(rows: Sequence[Row], truth: np.ndarray, cost: np.ndarray) -> list[str]:
    return [number(first(rows, truth, cost, limit)[0], 1) for limit in LIMITS]


def _random(rows: Sequence[Row], truth: np.ndarray, cost: np.ndarray) -> list[str]:
    found = []
    for limit in LIMITS:
        fits = [mine[cost[mine] <= limit] for mine in by_task(rows)]
        means = [truth[mine].mean() for mine in fits if len(mine) >= POOL]
        found.append(number(float(np.mean(means)) if means else float("nan"), 1))
    return found


if __name__ == "__main__":
    run(main)
