"""The generator on CIFAR-10: what it draws, and what drawing is worth beside scoring everything."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from _baselines import evaluations
from _nasbench import PICKS, SPACE, NasBench, load, picks
from _report import need, number, parser, publish, run, table

from metad2a import MetaD2A, load_dataset
from metad2a.datasets import ImageDataset
from metad2a.errors import InputError
from metad2a.model.description import Description, describe
from metad2a.model.meta_training import ACCURACY
from metad2a.result import CANDIDATES
from metad2a.spaces import Architecture

LIMITS = (None, 600_000, 300_000)
"""Most parameters, for the ten classes of CIFAR-10."""
DRAWN = 1000
CLASSES = 10
_BATCH = 128


@dataclass(frozen=True)
class Case:
    """One dataset described by one seed's sample, under one limit."""

    description: Description
    seed: int
    limit: int | None

    def feasible(self, cells: np.ndarray) -> np.ndarray:
        """Return bool (n,): connected, and within the limit."""
        good: np.ndarray = SPACE.connected(cells) & SPACE.feasible(cells, CLASSES, self.limit)
        return good


def generated(case: Case, model: MetaD2A) -> tuple[np.ndarray, np.ndarray]:
    """Generate as ``suggest`` does, and predict."""
    cells = model.generate_described(case.description, CANDIDATES, case.seed, CLASSES, case.limit)
    return cells, model.predict_described(case.description, cells).mean


def everything(case: Case, model: MetaD2A) -> tuple[np.ndarray, np.ndarray]:
    """Predict one cell of every isomorphism class."""
    cells = SPACE.as_array(sorted({SPACE.canonical(cell) for cell in SPACE.enumerate()}))
    cells = cells[case.feasible(cells)]
    return cells, model.predict_described(case.description, cells).mean


def at_random(case: Case, model: MetaD2A, budget: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw and predict batches until the seconds are spent; a batch that is late does not count."""
    start = time.perf_counter()
    rng = np.random.default_rng(case.seed)
    found: dict[Architecture, float] = {}
    while True:
        drawn = dict.fromkeys(
            SPACE.canonical(tuple(cell))
            for cell in rng.integers(len(SPACE.operations), size=(_BATCH, SPACE.slots)).tolist()
        )
        cells = SPACE.as_array([cell for cell in drawn if cell not in found])
        cells = cells[case.feasible(cells)]
        mean = model.predict_described(case.description, cells).mean
        if time.perf_counter() - start > budget and found:
            return SPACE.as_array(list(found)), np.array(list(found.values()))
        found.update(zip(map(tuple, cells.tolist()), mean.tolist(), strict=True))


def fresh() -> MetaD2A:
    """Load the model, so that nothing predicted before makes the next prediction cheaper."""
    return MetaD2A.from_pretrained(None)


def timed(
    way: Callable[..., tuple[np.ndarray, np.ndarray]], *arguments: object
) -> tuple[np.ndarray, np.ndarray, float]:
    start = time.perf_counter()
    cells, score = way(*arguments)
    return cells, score, time.perf_counter() - start


def compare(dataset: ImageDataset, bench: NasBench, seeds: int) -> list[list[str]]:
    """Return the rows of the second table."""
    results: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    descriptions = [describe(dataset, seed)[0] for seed in range(seeds)]
    everything(Case(descriptions[0], 0, None), fresh())  # what any first call in a process loads
    for limit in LIMITS:
        text = "none" if limit is None else f"{limit / 1e6:.1f}M parameters"
        for seed, description in enumerate(descriptions):
            case = Case(description, seed, limit)
            ways = {"generate, then predict": timed(generated, case, fresh())}
            budget = ways["generate, then predict"][2]
            ways["random, then predict, at equal time"] = timed(at_random, case, fresh(), budget)
            ways["score all cells"] = timed(everything, case, fresh())
            allowed = ways["score all cells"][0]
            ways["random, nothing predicted"] = (allowed, np.zeros(len(allowed)), 0.0)
            ways["best possible"] = (allowed, bench.truth_of(allowed), 0.0)
            for way, (cells, score, spent) in ways.items():
                results[text, way].append([len(cells), spent, *picks(score, bench.truth_of(cells))])
    return [
        [text, way, f"{mean[0]:,.0f}", number(mean[1], 2), *(number(m, 2) for m in mean[2:])]
        for (text, way), rows in results.items()
        for mean in [np.mean(rows, axis=0)]
    ]


def drawn_well(
    name: str, strings: list[str], limit: int | None, known: list[set[Architecture]]
) -> list[str]:
    """Return a row of the first table: validity, uniqueness, novelty against each known set."""
    cells = []
    for text in strings:
        try:
            cells.append(SPACE.parse(text))
        except InputError:
            continue
    array = SPACE.as_array(cells)
    valid = SPACE.connected(array) & SPACE.feasible(array, CLASSES, limit)
    distinct = {SPACE.canonical(tuple(cell)) for cell in array[valid].tolist()}
    shares = [
        valid.sum() / len(strings),
        len(distinct) / max(valid.sum(), 1),
        *(len(distinct - cells) / max(len(distinct), 1) for cells in known),
    ]
    return [name, f"{len(strings):,}", *(f"{share:.1%}" for share in shares)]


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--seeds",
        type=int,
        default=5,
        metavar="N",
        help="seeds that are averaged over (default: 5)",
    )
    args = arguments.parse_args()
    if args.seeds < 1:
        raise InputError(f"--seeds {args.seeds} must be 1 or more.")
    bench = load(args.shared)
    known = [
        {SPACE.canonical(SPACE.parse(row["architecture"])) for row in evaluations(protocol)}
        for protocol in ("", ACCURACY)
    ]
    with load_dataset(need(args.shared, "data/cifar10")) as dataset:
        model = fresh()
        first = [
            drawn_well(
                "generated" + ("" if limit is None else f", at most {limit / 1e6:.1f}M"),
                model.generate(dataset, DRAWN, max_params=limit),
                limit,
                known,
            )
            for limit in LIMITS
        ]
        rng = np.random.default_rng(0)
        chance = [SPACE.format(SPACE.sample(rng)) for _ in range(DRAWN)]
        first += [
            drawn_well("drawn at random", chance, None, known),
            drawn_well("drawn at random, at most 0.3M", chance, LIMITS[-1], known),
        ]
        second = compare(dataset, bench, args.seeds)
    publish(
        "generator",
        "The generator on CIFAR-10",
        [
            f"{DRAWN:,} cells drawn for CIFAR-10 (seed 0). Valid: of the space, connected and within "
            "the limit. Distinct: share of the valid ones that are not isomorphic to one another. New: "
            f"share of the distinct ones without any row in the package's evaluations "
            f"({len(known[0]):,} cells), and without a stand-alone training there ({len(known[1]):,} "
            "cells). Where the builder has scored the whole space, nothing can be without any row.",
            table(["", "cells", "valid", "distinct", "new: no row", "new: never trained"], first),
            f"True accuracy in percent of the first choice and of the best of the first 5 and 30, mean "
            f"over {args.seeds} seeds of image sample and drawing. Every way starts from the described "
            "dataset and a freshly loaded model; limits are for 10 classes. Ties and random choices "
            "are the mean of 200 orders.",
            table(
                [
                    "limit",
                    "way",
                    "cells",
                    "seconds",
                    *("first" if k == 1 else f"best of {k}" for k in PICKS),
                ],
                second,
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
