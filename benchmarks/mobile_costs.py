"""Costs of the mobile spaces: against hooks on the modules, and against once-for-all's table."""

from __future__ import annotations

import csv
import gzip
import time
from pathlib import Path

import numpy as np
from _report import need, parser, publish, required, run, table

from metad2a.spaces import SPACES
from metad2a.spaces.base import Cost
from metad2a.spaces.counting import count

MEMBERS = 500
QUERIED = 2_000
BUILT = 20


def table_rows(path: Path) -> tuple[int, int, int]:
    """Return how many rows there are, and of how many parameters and MACs come out as printed."""
    space = SPACES.get("mobilenetv3")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    members = [space.parse(f"r{r['r']}-d{r['d']}-ks{r['ks']}-e{r['e']}") for r in rows]
    printed = np.array([(int(r["params"]), int(r["macs"])) for r in rows])
    same = space.costs(np.array(members), 1000) == printed
    return len(rows), int(same[:, 0].sum()), int(same[:, 1].sum())


def main() -> None:
    arguments = parser(__doc__).parse_args()
    path = need(arguments.shared, "bench/ofa_mbv3w10_imagenet.csv.gz")
    lines, required_figures = [], []
    for name in ("efficientnet_lite", "mobilenetv3"):
        space, rng = SPACES.get(name), np.random.default_rng(0)
        members = [space.sample(rng) for _ in range(MEMBERS)]
        costs = space.costs(np.array(members), 10).tolist()
        equal = sum(
            Cost(*cost) == count(space.build(one, 10), space.resolution(one))
            for one, cost in zip(members, costs, strict=True)
        )
        many = np.array([space.sample(rng) for _ in range(QUERIED)])
        begun = time.perf_counter()
        space.costs(many, 10)
        queried = time.perf_counter() - begun
        begun = time.perf_counter()
        for one in members[:BUILT]:
            space.build(one, 10, pretrained=True)
        built = (time.perf_counter() - begun) / BUILT
        least = space.smallest(10)
        lines.append(
            (
                name,
                f"{equal} of {MEMBERS}",
                f"{least.params:,}",
                f"{least.macs:,}",
                f"{1000 * queried:.1f}",
                f"{1000 * built:.0f}",
            )
        )
        required_figures += [
            (f"{name}: members whose costs are those of hooks", equal, MEMBERS, "", True),
            (f"{name}: costs of {QUERIED:,} members", queried, 1.0, " s", False),
            (f"{name}: building a pretrained member", built, 1.0, " s", False),
        ]
    rows, params, macs = table_rows(path)
    required_figures += [
        ("rows of once-for-all's table with its parameters", params, rows, "", True),
        ("rows of once-for-all's table with its MACs", macs, rows, "", True),
    ]
    publish(
        "mobile_costs",
        "Costs of the mobile spaces",
        [
            f"{MEMBERS} random members of each space, built and run once with hooks on every "
            "convolution and linear layer, against what `cost` says without building anything; "
            f"10 classes. Then milliseconds for the costs of {QUERIED:,} members, and for building "
            f"one with pretrained weights (mean of {BUILT}).",
            table(
                (
                    "space",
                    "as hooks count",
                    "least parameters",
                    "least MACs",
                    "costs, ms",
                    "a network, ms",
                ),
                lines,
            ),
            f"Of the {rows:,} networks that once-for-all publishes (width 1.0, 224 px, 1,000 "
            f"classes), parameters come out as printed for {params:,} and MACs for {macs:,}: widths "
            "are whole multiples of the channels, squeeze-and-excitation has a quarter rounded to "
            "8, with biases, and counts in both; batch norms count two parameters a channel.",
            required(required_figures),
        ],
    )


if __name__ == "__main__":
    run(main)
