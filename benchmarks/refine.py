"""What refining is worth beside training what was suggested, in the same time.

Of each dataset networks are suggested once. Then the first of them is trained, ``train`` chooses
for itself, ``refine`` trains the suggestions in turn, and it searches by one method after another;
each for the same minutes, from reading to judging. Rows are kept in a file, so that a run that was
stopped goes on.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _report import ROOT, need, parser, publish, run, table

from metad2a import Suggestions, refine, suggest, train

DATASETS = ("rsscn7", "flowers_5", "playing_cards_53", "trashnet", "dtd10", "clothing")
FIRST = "the first suggestion, trained"
Way = Callable[[Suggestions, float, int], Any]
WAYS: dict[str, Way] = {
    FIRST: lambda found, minutes, seed: train(found[0], minutes=minutes, seed=seed),
    "`train`": lambda found, minutes, seed: train(found.dataset, minutes=minutes, seed=seed),
    "`refine`": lambda found, minutes, seed: refine(found, minutes=minutes, seed=seed),
    **{
        f"`refine` by {method}": lambda found, minutes, seed, method=method: refine(
            found, method, minutes, seed
        )
        for method in ("sandwich", "spos", "random")
    },
}


def main() -> None:
    """Run what is missing, and print and publish the table."""
    arguments = parser(__doc__ or "")
    arguments.add_argument("--minutes", type=float, default=3.0)
    arguments.add_argument("--datasets", nargs="+", default=list(DATASETS), metavar="NAME")
    arguments.add_argument("--ways", nargs="+", default=list(WAYS), metavar="WAY")
    arguments.add_argument("--seeds", type=int, default=3, metavar="N")
    arguments.add_argument(
        "--rows", type=Path, default=ROOT / "build" / "refine.jsonl", metavar="FILE"
    )
    args = arguments.parse_args()
    args.rows.parent.mkdir(parents=True, exist_ok=True)
    rows: dict[tuple[str, str, int], float] = {}
    if args.rows.exists():
        for line in args.rows.read_text().splitlines():
            row = json.loads(line)
            if row["minutes"] == args.minutes:
                rows[row["dataset"], row["way"], row["seed"]] = row["accuracy"]
    for name in args.datasets:
        for seed in range(args.seeds):
            missing = [way for way in args.ways if (name, way, seed) not in rows]
            if not missing:
                continue
            data = need(args.shared, f"data/{name}")
            found = suggest(data, minutes=args.minutes, seed=seed)
            for way in missing:
                made = WAYS[way](found, args.minutes, seed)
                row = {
                    "dataset": name,
                    "way": way,
                    "seed": seed,
                    "minutes": args.minutes,
                    "accuracy": made.accuracy,
                    "network": made.network.architecture,
                    "seconds": made.seconds,
                }
                rows[name, way, seed] = made.accuracy
                with args.rows.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(f"{name}, seed {seed}: {way}: {made.accuracy:.1f} %", file=sys.stderr)
    lines = []
    for way in args.ways:
        means = [
            [rows[name, way, seed] for seed in range(args.seeds) if (name, way, seed) in rows]
            for name in args.datasets
        ]
        first = [
            [rows[name, FIRST, seed] for seed in range(args.seeds) if (name, FIRST, seed) in rows]
            for name in args.datasets
        ]
        above = sum(
            np.mean(mine) > np.mean(its)
            for mine, its in zip(means, first, strict=True)
            if mine and its
        )
        every = f"{np.mean([np.mean(one) for one in means]):.1f}" if all(means) else "–"
        cells = [f"{np.mean(one):.1f}" if one else "–" for one in means]
        lines.append([way, every, "" if way == FIRST else str(above), *cells])
    publish(
        f"refine {args.minutes:g}",
        f"Refining for {args.minutes:g} minutes, beside training",
        [
            f"Test accuracy in percent, mean over seeds ({args.seeds}); *above*: on how many datasets it is "
            "above the first suggestion that was trained for as long.",
            table(["way", "mean", "above", *args.datasets], lines),
        ],
    )


if __name__ == "__main__":
    run(main)
