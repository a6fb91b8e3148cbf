"""Label quality: what the builder measures of a cell, against the published CIFAR-10 accuracies.

Every label is what the labellers of ``metad2a db build`` yield for a task of 2,000 training and 500
test images of CIFAR-10 (10 classes, 32 px), for cells drawn at random from all 15,625.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from _nasbench import SPACE, TRUTH, load, picks, spearman
from _report import cores, need, number, parser, publish, run, table
from tqdm import tqdm

from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.model.prior_training import rank_sum, ranks
from metad2a.spaces import Architecture
from search.data import TaskData, load_task
from search.labellers.base import LABELLERS, Measurement

TRAIN, TEST, SIDE = 2000, 500, 32
SUPERNET_CELLS, TRAINED_CELLS = 100, 24
BANDS = (0, 88, 90, 92, 93)
FOUR = ("naswot-v1", "synflow-v1", "expressivity-v1", "progressivity-v1")
LABEL = "**log-rank sum of six scores and parameters (the label)**"
Found = dict[str, dict[Architecture, float]]
_task: TaskData


def cifar10_task(shared: Path) -> TaskData:
    with load_dataset(need(shared, "data/cifar10")) as dataset:
        rng = np.random.default_rng(0)
        train, test = (
            np.sort(rng.permutation(np.flatnonzero(dataset.split == side))[:size])
            for side, size in ((0, TRAIN), (1, TEST))
        )
        return load_task(dataset, train, test, np.arange(len(dataset.classes)), SIDE)


def start(shared: Path) -> None:
    """Make a worker process ready: one thread, and the task in memory."""
    global _task  # noqa: PLW0603  (the pool's way to hand data over once)
    torch.set_num_threads(1)
    _task = cifar10_task(shared)


def work(labeller: str, cells: list[Architecture]) -> list[Measurement]:
    return list(LABELLERS.get(labeller).measure(_task, SPACE, cells, seed=0))


def measure(
    shared: Path, plan: dict[str, tuple[list[Architecture], int]]
) -> dict[str, tuple[Found, float]]:
    """Run labellers on all cores.

    Args:
        shared: where CIFAR-10 is.
        plan: cells of each labeller, and how many of them one process does at a time.

    Returns:
        By labeller the values by protocol and cell, and the seconds of one thread a cell.
    """
    out = {}
    with ProcessPoolExecutor(cores(), get_context("spawn"), start, (shared,)) as pool:
        parts = {
            labeller: [
                pool.submit(work, labeller, cells[i : i + chunk])
                for i in range(0, len(cells), chunk)
            ]
            for labeller, (cells, chunk) in plan.items()
        }
        for labeller, futures in parts.items():
            found: Found = {protocol.name: {} for protocol in LABELLERS.get(labeller).protocols}
            seconds = 0.0
            for future in tqdm(futures, desc=labeller, unit="part"):
                for m in future.result():
                    found[m.protocol][m.architecture] = m.value
                    seconds += m.seconds
            out[labeller] = found, seconds / len(plan[labeller][0])
    return out


def column(found: Found, name: str, cells: Sequence[Architecture]) -> np.ndarray:
    """Return float64 (n,); what a cell has no value for ranks last."""
    return np.array([found[name].get(cell, -np.inf) for cell in cells])


def row(name: str, score: np.ndarray, truth: np.ndarray, seconds: float = np.nan) -> list[str]:
    return [
        name,
        str(len(score)),
        *(number(spearman(score, truth, band)) for band in BANDS),
        number(picks(score, truth, (1,))[0], 2),
        number(seconds, 2),
    ]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--cells", type=int, default=1000, metavar="N", help="cells drawn (default: 1000)"
    )
    args = arguments.parse_args()
    bench = load(args.shared)
    need(args.shared, "data/cifar10")
    if not 1 <= args.cells <= len(bench.strings):
        raise InputError(f"--cells {args.cells} must be 1 to {len(bench.strings)}.")
    rows = np.random.default_rng(0).choice(len(bench.strings), args.cells, replace=False)
    truth = bench.truth[rows]
    # As in the database, isomorphic cells share the label of their representative.
    own = [tuple(bench.cells[i].tolist()) for i in bench.canonical[rows]]
    distinct = list(dict.fromkeys(own))
    some, few = own[:SUPERNET_CELLS], own[:TRAINED_CELLS]
    measured = measure(
        args.shared,
        {  # the longest first, so that no core waits for it
            "supernet": (list(dict.fromkeys(some)), len(some)),  # one supernet judges all
            "standalone": (list(dict.fromkeys(few)), 1),
            "training_free": (distinct, 16),
        },
    )
    free, free_seconds = measured["training_free"]
    names = sorted(free)
    scored = {cell: {n: free[n][cell] for n in names if cell in free[n]} for cell in distinct}
    position = {cell: i for i, cell in enumerate(distinct)}
    label = rank_sum(SPACE, scored, names).quality[[position[cell] for cell in own]]
    params = bench.columns["params_c10"][rows]
    values = {name: column(free, name, own) for name in names}
    plain = sum((ranks(v) for v in values.values()), ranks(params))
    four = np.sum([ranks(values[name]) for name in FOUR], axis=0)
    score_seconds = free_seconds / len(names)
    out = [
        row("parameter count", params, truth, 0),
        *(row(name, values[name], truth, score_seconds) for name in names),
        row(LABEL, label, truth, free_seconds),
        row("plain rank sum of the same seven", plain, truth, free_seconds),
        row(
            "plain rank sum of NASWOT, synflow, expressivity, progressivity",
            four,
            truth,
            len(FOUR) * score_seconds,
        ),
        *(
            row(f"published column `{name}`", bench.columns[name][rows], truth)
            for name in ("c10_naswot", "c10_synflow", "c10_test12")
        ),
    ]
    for cells, labeller in ((some, "supernet"), (few, "standalone")):
        found, seconds = measured[labeller]
        n = len(cells)
        out += [
            row(f"parameter count, on {n} of them", params[:n], truth[:n], 0),
            row(f"the label, on the same {n}", label[:n], truth[:n], free_seconds),
        ]
        out += [
            row(f"`{name}`, on the same {n}", column(found, name, cells), truth[:n], seconds)
            for name in found
        ]
    counts = ", ".join(f"{(truth > band).sum()} above {band} %" for band in BANDS[1:])
    publish(
        "labels",
        "Label quality on CIFAR-10",
        [
            f"Spearman correlation with `{TRUTH}` over {len(rows)} random cells ({counts}), and the "
            f"true accuracy of the cell that each label ranks first; the best of these cells has "
            f"{truth.max():.2f} %. Seconds are of one thread, for one cell; a supernet's training is "
            "shared out over its cells, and its two labels come together. A correlation of fewer than "
            "10 cells is not given; on few cells it is coarse.",
            table(
                [
                    "label",
                    "cells",
                    "all",
                    *(f"above {band} %" for band in BANDS[1:]),
                    "accuracy of its first, %",
                    "seconds",
                ],
                out,
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
