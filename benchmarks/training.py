"""``metad2a train`` for some minutes, beside constant plans that have the same time.

The command chooses network, resolution and recipe for the time and the dataset; a constant plan is
one network with one rate for every dataset, by the same loop, batches and crops. Under a limit the
constant plans are the whole network at the largest resolution that fits. Every run is of the same
sides of the dataset. Rows are kept in a file, so that a run that was stopped goes on.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT, need, parser, publish, required, run, table

DATASETS = (
    "playing_cards_53",
    "caltech101",
    "rsscn7",
    "trashnet",
    "plantvillage15",
    "chars74k_good",
    "flowers_5",
    "pacs_photo",
)
TRAIN = "metad2a train"
FROZEN = "whole, 224 px, frozen"
PLANS: dict[str, tuple[int, int, dict[str, Any]]] = {
    FROZEN: (7, 224, {"rate": 0.0}),
    "whole, 128 px, 5e-4": (7, 128, {"rate": 5e-4}),
    "whole, 128 px, 2e-3": (7, 128, {"rate": 2e-3}),
    "stages 1-6, 96 px, 2e-3": (6, 96, {"rate": 2e-3}),
    "stages 1-5, 64 px, 2e-3": (5, 64, {"rate": 2e-3}),
    "whole, 128 px, random head, moving, 1e-3": (
        7,
        128,
        {"rate": 1e-3, "closed_form": False, "batch_norm": "moving"},
    ),
}
"""Stages, resolution and what differs from the recipe; all weights have one rate, and the classifier
ends as it was trained."""
SHRUNK = {"frozen": {"rate": 0.0}, "1e-3": {"rate": 1e-3}, "4e-3": {"rate": 4e-3}}
"""What is done with the whole network under a limit."""


def plans(limits: dict[str, int]) -> dict[str, tuple[int, int, dict[str, Any]]]:
    """Return the constant plans: the whole network shrunk by resolution alone, under a limit."""
    from metad2a.spaces import SPACES

    if not limits:
        return PLANS
    space = SPACES.get("efficientnet_lite")
    wholes = [one for one in space.anchors() if space.stages(one) == 7]
    fits = space.feasible(np.asarray(wholes), 10, **limits)
    fitting = [space.resolution(one) for one, fit in zip(wholes, fits, strict=True) if fit]
    return {
        f"whole, {resolution} px, {name}": (7, resolution, changes)
        for resolution in fitting[-1:]
        for name, changes in SHRUNK.items()
    }


def ours(data: Path, minutes: float, limits: dict[str, int]) -> dict[str, Any]:
    """Run the command and return what it says, with the seconds that it took in all."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "metad2a", "train", str(data), "--json"]
        command += ["--out", str(Path(folder) / "model"), "--minutes", str(minutes)]
        for name, limit in limits.items():
            command += [f"--{name.replace('_', '-')}", str(limit)]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, Any] = json.loads(done.stdout)
        found["whole"] = time.perf_counter() - start
    return found


def constant(data: Path, minutes: float, plan: tuple[int, int, dict[str, Any]]) -> dict[str, Any]:
    """Spend the same time on a constant plan; it knows its steps from a timed beginning."""
    from metad2a.datasets import load_dataset
    from metad2a.datasets.batches import Batches
    from metad2a.protocol import FINE_TUNE
    from metad2a.spaces import SPACES
    from metad2a.training.device import plan as device_plan
    from metad2a.training.evaluate import evaluate
    from metad2a.training.loop import Normalisation, Training, closed_form
    from metad2a.training.sides import split

    start = time.perf_counter()
    stages, resolution, changes = plan
    recipe = dataclasses.replace(FINE_TUNE, wide=10**9, sums_kept=False, **changes)
    space, place, normal = SPACES.get("efficientnet_lite"), device_plan("cpu"), Normalisation()
    dataset = load_dataset(data)
    sides = split(dataset, 0)
    train = Batches(dataset, np.sort(np.concatenate([sides.train, sides.choice])), resolution)
    test = Batches(dataset, sides.test, resolution)
    network = space.build(space.whole(stages, resolution), len(dataset.classes), pretrained=True)
    network = place.place(network)
    if recipe.closed_form:
        closed_form(network, train, place, normal)
    before = time.perf_counter()
    found = evaluate(network, test, place, normal)
    judging = time.perf_counter() - before
    epochs = 0.0
    if recipe.rate:
        made = Training(network, train, recipe, 10**6, place, normal, 0, False)
        made.step()
        first = time.perf_counter()
        for _ in range(5):
            made.step()
        each = (time.perf_counter() - first) / 5
        left = 60 * minutes - (time.perf_counter() - start) - judging
        made.steps = made.done + max(1, int(left / each))
        while made.done < made.steps:
            made.step()
        epochs = made.epochs
        found = evaluate(made.averaged, test, place, normal)
    return {
        "accuracy": found.accuracy,
        "epochs": epochs,
        "seconds": time.perf_counter() - start,
    }


def main() -> None:
    """Run what is missing, and print and publish the table."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--minutes", type=float, default=1.0)
    arguments.add_argument("--datasets", nargs="+", default=list(DATASETS), metavar="NAME")
    arguments.add_argument("--plans", nargs="+", metavar="PLAN", help="default: all")
    arguments.add_argument("--max-macs", type=int, metavar="N")
    arguments.add_argument("--max-params", type=int, metavar="N")
    arguments.add_argument(
        "--rows", type=Path, default=ROOT / "build" / "training.jsonl", metavar="FILE"
    )
    args = arguments.parse_args()
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    limits = {name: value for name in ("max_macs", "max_params") if (value := getattr(args, name))}
    constants = plans(limits)
    condition = {"minutes": args.minutes, **limits}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if args.rows.exists():
        for line in args.rows.read_text().splitlines():
            row = json.loads(line)
            if row["condition"] == condition:
                rows[row["dataset"], row["plan"]] = row
    for name in args.datasets:
        data = need(args.shared, f"data/{name}")
        for plan in args.plans or [TRAIN, *constants]:
            if (name, plan) in rows:
                continue
            made = (
                ours(data, args.minutes, limits)
                if plan == TRAIN
                else constant(data, args.minutes, constants[plan])
            )
            recipe = made.pop("plan", None)
            row = {"dataset": name, "plan": plan, "condition": condition, **made, "recipe": recipe}
            rows[name, plan] = row
            with args.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{name}: {plan}: {made['accuracy']:.1f} %", file=sys.stderr)
    told = "".join(f", at most {value:,} {name[4:]}" for name, value in limits.items())
    title = f"Training for {args.minutes:g} minutes{told}, beside constant plans"
    publish(
        " ".join(["training", *(str(value) for value in condition.values())]),
        title,
        [
            report(rows, args.datasets, list(constants)),
            *reached(rows, args.datasets, list(constants), limits, args.minutes),
        ],
    )


def reached(
    rows: dict[tuple[str, str], dict[str, Any]],
    datasets: list[str],
    constants: list[str],
    limits: dict[str, int],
    minutes: float,
) -> list[str]:
    """Return the table of what must be reached, where there are plans and all were run."""
    every = [(name, plan) for name in datasets for plan in (TRAIN, *constants)]
    if not constants or not all(pair in rows for pair in every):
        return []

    def accuracies(plan: str) -> np.ndarray:
        return np.array([rows[name, plan]["accuracy"] for name in datasets])

    mine, plans_ = accuracies(TRAIN), np.array([accuracies(plan) for plan in constants])
    best = float(mine.mean() - plans_.mean(1).max())
    if limits:
        return [required([("above the best shrunk network, mean", best, 5, "", True)])]
    figures = [
        (
            "below the best constant plan, largest",
            float((plans_.max(0) - mine).max()),
            2,
            "",
            False,
        ),
        ("above the best single constant plan, mean", best, 1.5, "", True),
    ]
    if minutes >= 5:
        above = mine - accuracies(FROZEN)
        figures += [
            ("above the frozen network, mean", float(above.mean()), 8, "", True),
            ("below the frozen network, largest", float((-above).max()), 1, "", False),
        ]
    return [required(figures)]


def report(
    rows: dict[tuple[str, str], dict[str, Any]], datasets: list[str], constants: list[str]
) -> str:
    """Return the table: a row a plan, a column a dataset, accuracies in percent."""
    lines = []
    for plan in (TRAIN, *constants):
        found = [rows.get((name, plan)) for name in datasets]
        known = [row["accuracy"] for row in found if row]
        if not known:
            continue
        cells = [
            "–" if row is None else f"{row['accuracy']:.1f} ({row['epochs']:.1f})" for row in found
        ]
        mean = f"{np.mean(known):.1f}" if len(known) == len(datasets) else "–"
        lines.append([plan, mean, *cells])
    chosen = [
        [
            name,
            row["network"]["architecture"],
            f"{row['recipe']['rate']:g}",
            f"{row['predicted']:.1f}" if row.get("predicted") is not None else "–",
            f"{row['accuracy']:.1f}",
            f"{row['whole']:.0f}",
        ]
        for name in datasets
        if (row := rows.get((name, TRAIN))) is not None
    ]
    text = "Test accuracy in percent, epochs in brackets.\n\n" + table(
        ["plan", "mean", *datasets], lines
    )
    if chosen:
        text += "\n\nWhat the command chose, and what it took with the saved folder:\n\n" + table(
            ["dataset", "network", "rate", "predicted", "reached", "seconds"], chosen
        )
    return text


if __name__ == "__main__":
    run(main)
