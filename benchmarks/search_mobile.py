"""Every search method among networks that begin pretrained, at one number of training images.

Each search fine-tunes shared weights on the training side of a dataset for the same number of images
that pass forward and backward (counted once for each path), under one limit on multiply-adds, on three
seeds. The network that it returns is trained alone, by one recipe, and judged by the dataset's own test
side, which no search has seen. Runs are kept in ``build/`` and not repeated.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT, cores, need, number, parser, publish, run, table

SPACE = "efficientnet_lite"
METHODS = (
    "random",
    "evolution",
    "sandwich",
    "spos",
    "fairnas",
    "proxylessnas",
    "mdenas",
    "darts",
    "dropnas",
    "spos+curriculum",
    "fairnas+curriculum",
    "darts+curriculum",
    "dropnas+curriculum",
)
DATASETS = ("rsscn7", "sign_language_digits")
SEEDS = (0, 1, 2)
IMAGES, SIDE, MACS = 2_000, 64, 10_000_000
RECIPE = {"rate": 2e-3, "epochs": 4}
FEW = {"evaluator": "batch", "population": 20, "generations": 5}
OPTIONS = {"spos": FEW, "fairnas": FEW, "sandwich": {"population": 8, "generations": 2}}
"""Settings of methods that judge children after their training, so that this takes no longer than it."""
Row = dict[str, Any]


def one(method: str, dataset: str, seed: int, images: int, shared: Path) -> Row:
    """Conduct one search, and train what it found."""
    from metad2a.datasets import load_dataset
    from metad2a.protocol import fine_tune
    from metad2a.spaces import SPACES
    from search import search
    from search.data import TaskImages, training_side
    from search.labellers.finetune import FineTuned

    space = SPACES.get(SPACE)
    with load_dataset(need(shared, f"data/{dataset}")) as opened:
        options = {
            f"{host}.{key}": value
            for host in method.split("+")
            for key, value in OPTIONS.get(host, {}).items()
        }
        start = time.perf_counter()
        found = search(
            opened,
            SPACE,
            method,
            seed=seed,
            device="cpu",
            max_macs=MACS,
            images=images,
            resolution=SIDE,
            options=options,
        )
        seconds = time.perf_counter() - start
        train = training_side(opened)
        test = np.setdiff1d(np.arange(len(opened)), train)
        task = TaskImages(opened, train, test, np.arange(len(opened.classes)))
        labeller = FineTuned(fine_tune(**RECIPE))
        (trained,) = labeller.measure(task, space, [space.parse(found.architecture)], seed)
    return {
        "method": method,
        "dataset": dataset,
        "seed": seed,
        "images": images,
        "network": found.architecture,
        "macs": found.cost.macs,
        "seen": found.images,
        "seconds": seconds,
        "accuracy": 100 * trained.value,
    }


def measured(names: list[str], datasets: list[str], images: int, shared: Path) -> list[Row]:
    """Return the rows of all runs, of which those that are kept are not repeated."""
    kept = ROOT / "build" / "search_mobile.jsonl"
    kept.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    done = {(row["method"], row["dataset"], row["seed"], row["images"]): row for row in rows}
    for seed in SEEDS:
        for dataset in datasets:
            for name in names:
                key = (name, dataset, seed, images)
                if key in done:
                    continue
                done[key] = row = one(*key, shared)
                with kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(
                    f"{name:<20} {dataset:<22} seed {seed}  {row['accuracy']:.1f} %  "
                    f"{row['seconds']:.0f} s  {row['network']}",
                    flush=True,
                )
    return [
        done[name, dataset, seed, images]
        for name in names
        for dataset in datasets
        for seed in SEEDS
    ]


def spread(values: list[float]) -> str:
    """Return mean and standard deviation."""
    return f"{np.mean(values):.1f} ± {np.std(values):.1f}"


def line(name: str, rows: list[Row], datasets: list[str]) -> tuple[str, ...]:
    """Return a method's line: accuracies, and what they are above random search, seed by seed."""
    mine = {(row["dataset"], row["seed"]): row for row in rows if row["method"] == name}
    random = {(row["dataset"], row["seed"]): row for row in rows if row["method"] == "random"}
    cells = [
        spread([row["accuracy"] for (of, _), row in mine.items() if of == dataset])
        for dataset in datasets
    ]
    above = [row["accuracy"] - random[key]["accuracy"] for key, row in mine.items()]
    error = np.std(above, ddof=1) / np.sqrt(len(above))
    verdict = "" if np.mean(above) + 2 * error >= 0 else "**below random search**"
    return (
        name,
        *cells,
        number(np.nan) if name == "random" else f"{np.mean(above):+.1f} ± {error:.1f}",
        f"{np.mean([row['macs'] for row in mine.values()]) / 1e6:.1f}",
        f"{np.mean([row['seen'] for row in mine.values()]):,.0f}",
        f"{np.mean([row['seconds'] for row in mine.values()]):.0f}",
        verdict,
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--datasets", nargs="+", default=list(DATASETS))
    args = arguments.parse_args()
    rows = measured(list(METHODS), args.datasets, args.images, args.shared)
    header = ("method", *args.datasets, "above random", "MACs, M", "images", "seconds", "")
    publish(
        "search_mobile",
        "Search methods among pretrained networks",
        [
            f"Space `{SPACE}`. Budget: {args.images:,} training images for every method, at {SIDE} px, networks of at "
            f"most {MACS / 1e6:.0f}M multiply-adds. What was found is trained by `{recipe_name()}` and judged by the "
            "dataset's own test side, in percent; mean and standard deviation of three seeds. *Above random*: seed by "
            "seed, mean and standard error over all. `random` is random search at the same budget: short trainings, "
            f"each alone. Seconds of a search: on one of {cores()} cores, beside other work.",
            table(header, [line(name, rows, args.datasets) for name in METHODS]),
        ],
    )


def recipe_name() -> str:
    """Return the protocol's name."""
    from metad2a.protocol import fine_tune

    return fine_tune(**RECIPE).name


if __name__ == "__main__":
    run(main)
