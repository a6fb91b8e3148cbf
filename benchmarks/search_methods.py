"""Every search method on NAS-Bench-201 and CIFAR-10, at one number of training images.

Each search trains on CIFAR-10 images for the same number of images that pass forward and backward
(counted once for each path), on three seeds. The cell that it returns is looked up in the
benchmark's table; its scores are held against the table over 1,000 random cells. CIFAR-10 judges
here: no method's setting was chosen by it. Runs are kept in ``build/`` and not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from _nasbench import SPACE, NasBench, kendall, load
from _naswot import compare
from _report import ROOT, cores, need, number, parser, publish, required, run, table

METHODS = (
    "spos",
    "fairnas",
    "darts",
    "darts2",
    "proxylessnas",
    "pdarts",
    "dropnas",
    "mdenas",
    "sswp",
    "naswot",
    "random",
    "evolution",
)
WRAPPED = (
    "spos+curriculum",
    "fairnas+curriculum",
    "proxylessnas+curriculum",
    "darts+curriculum",
    "dropnas+curriculum",
    "spos+pwsnas",
    "fairnas+pwsnas",
    "proxylessnas+pwsnas",
    "darts+pwsnas",
    "pdarts+pwsnas",
    "dropnas+pwsnas",
    "darts+lpt",
    "darts2+lpt",
    "dropnas+curriculum+pwsnas",
)
SEEDS = (0, 1, 2)
IMAGES = 10_000
LOADED = 1_250
SIDE = 16
CELLS = 1_000
ONE_SHOT = ("spos", "fairnas")
EVOLUTION = {"evaluator": "batch", "population": 20, "generations": 10}
NASWOT_LIMIT = 0.95
NASWOT_CELLS = 300
Row = dict[str, Any]


def one(job: tuple[str, int, int, Path]) -> Row:
    """Conduct one search and hold it against the table."""
    method, seed, images, shared = job
    import torch

    from metad2a.datasets import load_dataset
    from search.data import search_task
    from search.searching import Search

    torch.set_num_threads(1)
    bench = load(shared)
    with load_dataset(need(shared, "data/cifar10")) as dataset:
        data = search_task(dataset, SIDE, seed, LOADED)
    start = time.perf_counter()
    options = {
        f"{host}.{key}": value
        for host in ONE_SHOT
        if host in method.split("+")
        for key, value in EVOLUTION.items()
    }
    found = Search(data, SPACE.name, method, seed=seed, images=images, options=options).conduct()
    result, seconds = found.result(), time.perf_counter() - start
    rows = np.random.default_rng(0).choice(len(bench.strings), CELLS, replace=False)
    cells = [tuple(cell) for cell in bench.cells[rows].tolist()]
    scores = np.asarray(found.composed.method.score(found.run, cells))
    tau = kendall(scores, bench.truth[rows]) if np.isfinite(scores).sum() > CELLS / 2 else np.nan
    return {
        "method": method,
        "seed": seed,
        "images": images,
        "accuracy": accuracy(bench, result),
        "tau": float(tau),
        "seconds": seconds,
        "seen": result.images,
        "cell": result.architecture,
        "width": result.width,
        "depth": result.depth,
        "params": result.cost.params,
    }


def accuracy(bench: NasBench, result: Any) -> float:
    """Return the true test accuracy of the cell that was returned, in percent."""
    return float(bench.truth_of(SPACE.as_array([result.architecture]))[0])


def collect(jobs: Iterable[tuple[str, int, int, Path]], workers: int, kept: Path) -> list[Row]:
    """Run the jobs that are not kept yet, in processes of one thread each."""
    kept.parent.mkdir(exist_ok=True)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["method"], row["seed"], row["images"]) for row in rows}
    wanted = list(jobs)
    left = [job for job in wanted if job[:3] not in done]
    os.environ["OMP_NUM_THREADS"] = "1"
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=4) as pool:
        for row in pool.imap_unordered(one, left):
            rows.append(row)
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{row['method']:<28} seed {row['seed']}  {row['accuracy']:.2f} %  tau "
                f"{row['tau']:.3f}  {row['seconds']:.0f} s",
                flush=True,
            )
    keys = {job[:3] for job in wanted}
    return [row for row in rows if (row["method"], row["seed"], row["images"]) in keys]


def spread(rows: list[Row], key: str, digits: int = 2) -> str:
    """Return mean and standard deviation over the seeds."""
    values = [row[key] for row in rows]
    if not np.isfinite(values).all():
        return number(np.nan)
    return f"{np.mean(values):.{digits}f} ± {np.std(values):.{digits}f}"


def line(name: str, rows: list[Row]) -> tuple[str, ...]:
    """Return a method's line of the table."""
    return (
        name,
        spread(rows, "accuracy"),
        f"{min(r['accuracy'] for r in rows):.2f}",
        spread(rows, "tau", 3),
        f"{np.mean([r['seconds'] for r in rows]):.0f}",
        f"{np.mean([r['seen'] for r in rows]):,.0f}",
        f"{np.mean([r['width'] for r in rows]):.2f}",
        f"{np.mean([r['depth'] for r in rows]):.1f}",
        f"{np.mean([r['params'] for r in rows]) / 1e6:.2f}",
    )


def baselines(bench: NasBench) -> list[tuple[str, ...]]:
    """Return the lines of a random cell and of the parameter count."""
    rows = np.random.default_rng(0).choice(len(bench.strings), CELLS, replace=False)
    params = SPACE.costs(bench.cells, 10)[:, 0]
    largest = bench.truth[params == params.max()]
    dash = number(np.nan)
    return [
        (
            "*a random cell*",
            f"{bench.truth.mean():.2f} ± {bench.truth.std():.2f}",
            f"{bench.truth.min():.2f}",
            dash,
            "0",
            "0",
            dash,
            dash,
            f"{params.mean() / 1e6:.2f}",
        ),
        (
            "*most parameters*",
            f"{largest.mean():.2f}",
            f"{largest.min():.2f}",
            number(kendall(params[rows].astype(float), bench.truth[rows])),
            "0",
            "0",
            dash,
            dash,
            f"{params.max() / 1e6:.2f}",
        ),
    ]


def added(rows: dict[str, list[Row]]) -> list[tuple[str, ...]]:
    """Return what each wrapper adds to its method, seed by seed."""
    lines = []
    for name in WRAPPED:
        host, _, wrapper = name.partition("+")
        if name not in rows or host not in rows:
            continue
        by_seed = {row["seed"]: row for row in rows[host]}
        gains = {
            key: np.array([row[key] - by_seed[row["seed"]][key] for row in rows[name]])
            for key in ("accuracy", "tau", "seconds")
        }
        lines.append(
            (
                host,
                wrapper,
                *(
                    f"{gains[key].mean():+.{digits}f} ± {gains[key].std():.{digits}f}"
                    for key, digits in (("accuracy", 2), ("tau", 3))
                ),
                f"{gains['seconds'].mean():+.0f}",
            )
        )
    return lines


def formula(shared: Path) -> list[str]:
    """Return the paragraph and the table of our NASWOT beside the published one."""
    return [
        f"NASWOT against the published column `c10_naswot`, Spearman over {NASWOT_CELLS} random "
        "cells. The column counts every ReLU that runs, the paper's code and ours those that the "
        "backward pass reaches; in cells whose operations are all used the two are the same formula.",
        required(
            [
                (name, compare(shared, NASWOT_CELLS, used), NASWOT_LIMIT, "", True)
                for name, used in (
                    ("same formula (cells whose operations are all used)", True),
                    ("all cells", False),
                )
            ]
        ),
    ]


def main() -> None:
    arguments: argparse.ArgumentParser = parser(__doc__)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--only", nargs="+", metavar="METHOD", help="leave the others out")
    args = arguments.parse_args()
    bench = load(args.shared)
    names = [n for n in (*METHODS, *WRAPPED) if args.only is None or n in args.only]
    jobs = [(name, seed, args.images, args.shared) for seed in SEEDS for name in names]
    found = collect(jobs, args.workers, ROOT / "build" / "search_methods.jsonl")
    rows = {name: [row for row in found if row["method"] == name] for name in names}
    header = (
        "method",
        "true accuracy, %",
        "worst",
        "Kendall tau",
        "seconds",
        "images",
        "width",
        "depth",
        "parameters, M",
    )
    usual = args.images == IMAGES
    publish(
        "search_methods" if usual else f"search_methods {args.images}",
        "Search methods on NAS-Bench-201" + ("" if usual else f", {args.images:,} images"),
        [
            f"Budget: {args.images:,} training images for every method, of {LOADED:,} CIFAR-10 images "
            f"at {SIDE} px (a fifth of them held out), supernets of {SPACE.search_macro['channels']} "
            f"channels and {SPACE.search_macro['cells']} cell a stage; three seeds, mean and standard "
            f"deviation. True accuracy: the table's, after 200 epochs. Tau: of the method's scores at "
            f"the end over {CELLS:,} random cells; random and evolution score only what they trained. "
            f"SPOS and FairNAS judge children on one batch and evolve {EVOLUTION['population']} of "
            f"them for {EVOLUTION['generations']} generations. Seconds: on one of {cores()} cores, "
            f"{args.workers} searches at a time, beside other work: compare them loosely. "
            "`random` is random search at the same budget: short trainings, each alone. Width and "
            "depth: Shu et al., ICLR 2020. A mixture step of DARTS costs several times a path's at the "
            "same count of images.",
            table(header, [*baselines(bench), *(line(name, rows[name]) for name in names)]),
            "What a wrapper adds to its method at the same budget, seed by seed:",
            table(("method", "wrapper", "accuracy, points", "tau", "seconds"), added(rows)),
            *(formula(args.shared) if "naswot" in names else ()),
        ],
    )


if __name__ == "__main__":
    run(main)
