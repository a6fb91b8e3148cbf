"""What adapted weights are worth, on families of datasets that adaptation has not seen.

Reads the file that ``metad2a meta adapt`` wrote with the families of :data:`DATASETS` left out. What was
measured is kept in ``build/adapted.jsonl``, row by row, and not measured again; Ctrl-C ends it early.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from _report import ROOT, need, number, parser, publish, run, table

from database.tasks import UPRIGHT, family_of
from metad2a.datasets import load_dataset
from metad2a.meta_training.adapt import Reweighted, adapted
from metad2a.protocol import fine_tune
from metad2a.spaces.efficientnet_lite import SPACE, EfficientNetLite
from metad2a.spaces.pretrained import inherit
from search.data import TaskImages
from search.labellers.finetune import FineTuned

DATASETS = ("rsscn7", "flowers_5", "chars74k_good", "pacs_photo")
SIDE, TRAIN, TEST = 64, 320, 250
KINDS = {
    "expansion 4": ((4,), (5,)),
    "expansion 3": ((3,), (5,)),
    "expansion 2": ((2,), (5,)),
    "kernel 3": ((6,), (3,)),
    "all drawn": ((2, 3, 4, 6), (3, 5)),
}
"""What expansions and kernels are drawn from; stages (4 to 7) and blocks are drawn for all."""
EACH = 4
WHOLE, BLOCKS = "full width", "blocks left out alone"
FULL = (
    "r48-s5-d1111-e6666-k55",
    "r48-s5-d2222-e66666666-k5555",
    "r64-s3-d11-e66-k5",
    "r64-s4-d111-e666-k5",
    "r64-s5-d1111-e6666-k55",
    "r64-s5-d2222-e66666666-k5555",
    "r64-s6-d11111-e66666-k555",
    "r64-s6-d22222-e6666666666-k555555",
)
"""Networks of full width, which the narrow ones must beat at equal cost."""
SHORT = FULL[4:]
"""Of these, the ones that adaptation might serve too."""
BEFORE, AFTER = "parent", "adapted"
RECIPE = fine_tune(2e-3, 4)


class Throughout(Reweighted):
    """Adapted weights where nothing is cut inside, too."""

    def start(self, network) -> None:
        """Give a network its part of the adapted weights."""
        inherit(network, self.weights())


@dataclass(frozen=True)
class Row:
    """What a network reached on a dataset, as fractions 0..1 of its test images."""

    dataset: str
    kind: str
    network: str
    weights: str
    probe: float
    tuned: float


def drawn() -> dict[str, list[str]]:
    """Return networks that are cut inside, by the kind of cut."""
    rng, found = np.random.default_rng(0), {}
    for kind, (expansions, kernels) in KINDS.items():
        found[kind] = []
        while len(found[kind]) < EACH:
            one = list(SPACE.sample(rng))
            one[0] = SPACE.decisions[0].values.index(SIDE)
            one[SPACE.stages_slot] = int(rng.integers(1, len(SPACE.depths)))
            for block in SPACE.blocks:
                for slot, choices in (
                    (block.expansion_slot, expansions),
                    (block.kernel_slot, kernels),
                ):
                    if slot is not None:
                        one[slot] = SPACE.decisions[slot].values.index(int(rng.choice(choices)))
            text = SPACE.format(SPACE.canonical(tuple(one)))
            if text not in found[kind]:
                found[kind].append(text)
    return found


def jobs() -> Iterator[list[tuple[str, str, str, str]]]:
    """Yield passes of (dataset, kind, network, weights); after each one every network is judged once more."""
    cut = [(kind, texts[place]) for place in range(EACH) for kind, texts in drawn().items()]
    for turn in range(len(DATASETS)):
        found = []
        for place, (kind, network) in enumerate(cut):
            dataset = DATASETS[(place + turn) % len(DATASETS)]
            found += [(dataset, kind, network, weights) for weights in (BEFORE, AFTER)]
        if turn == 0:
            found += [(name, WHOLE, network, BEFORE) for name in DATASETS for network in FULL]
        for place, network in enumerate(SHORT):
            found.append((DATASETS[(place + turn) % len(DATASETS)], BLOCKS, network, AFTER))
        yield sorted(found, key=lambda job: DATASETS.index(job[0]))


def task(shared: Path, name: str) -> TaskImages:
    """Return some hundred images of a dataset, of all its classes."""
    dataset, rng = load_dataset(str(need(shared, f"data/{name}"))), np.random.default_rng(0)
    train, test = (rng.permutation(np.flatnonzero(dataset.split == part)) for part in (0, 1))
    classes = np.arange(len(dataset.classes))
    flip = family_of(name) not in UPRIGHT
    return TaskImages(dataset, train[:TRAIN], test[:TEST], classes, flip=flip)


def measured(
    images: TaskImages, job: tuple[str, str, str, str], spaces: dict[str, EfficientNetLite]
) -> Row:
    dataset, kind, network, weights = job
    space = spaces[BLOCKS if kind == BLOCKS else weights]
    (found,) = FineTuned(RECIPE).measure(images, space, [space.parse(network)], seed=0)
    # A training's curve begins with the frozen network: what `probe-v1` measures.
    return Row(dataset, kind, network, weights, found.curve[0], found.value)


# -- the section -----------------------------------------------------------------------------


def difference(values: Sequence[float]) -> str:
    """Write the mean of differences in points, with its standard error."""
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{100 * np.mean(values):+.1f} ± {number(100 * error, 1)}"


def pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Yield kind, row before and row after of what was measured with both weights."""
    before = {(row.dataset, row.network): row for row in rows if row.weights == BEFORE}
    for row in rows:
        if row.weights == AFTER and (row.dataset, row.network) in before:
            yield row.kind, before[row.dataset, row.network], row


def by(group: Callable[[str, Row], str], rows: Sequence[Row]) -> list[list[str]]:
    """Return a table's rows: means before and after, and their differences, by group."""
    found = defaultdict(list)
    for kind, old, new in pairs(rows):
        found[group(kind, old)].append((old, new))
    lines = []
    for name, both in found.items():
        line = [name, str(len(both))]
        for field in ("probe", "tuned"):
            old, new = ([getattr(pair[i], field) for pair in both] for i in (0, 1))
            line += [f"{100 * np.mean(old):.1f}", f"{100 * np.mean(new):.1f}"]
            line += [difference(np.subtract(new, old))]
        lines.append(line)
    return lines


def at_equal_cost(rows: Sequence[Row]) -> list[list[str]]:
    """Compare cut networks with one of full width that costs no more, by kind: the best on average."""
    macs = {row.network: SPACE.cost(SPACE.parse(row.network), 2).macs for row in rows}
    means = {
        one: np.mean([row.tuned for row in rows if row.kind == WHOLE and row.network == one])
        for one in FULL
    }
    found: dict[str, list[tuple[Row, Row, Row]]] = defaultdict(list)
    for kind, old, new in pairs(rows):
        rivals = [
            row
            for row in rows
            if row.dataset == new.dataset
            and row.kind == WHOLE
            and macs[row.network] <= 1.02 * macs[new.network]
        ]
        if kind in KINDS and rivals:
            found[kind].append((old, new, max(rivals, key=lambda row: means[row.network])))
    found["all"] = [one for several in found.values() for one in several]
    lines = []
    for kind, threes in found.items():
        mean = np.mean([macs[new.network] for _, new, _ in threes]) / 1e6
        rival = np.mean([macs[full.network] for _, _, full in threes]) / 1e6
        line = [kind, str(len(threes)), f"{mean:.1f}M", f"{rival:.1f}M"]
        for field in ("probe", "tuned"):
            for place in (0, 1):
                gaps = [getattr(t[place], field) - getattr(t[2], field) for t in threes]
                line.append(difference(gaps))
        lines.append(line)
    return lines


def section(rows: Sequence[Row]) -> list[str]:
    kept = ("cut", "of", "probe, parent", "adapted", "difference")
    columns = (*kept, "tuned, parent", "adapted", "difference")
    order = (*KINDS, WHOLE, BLOCKS)
    rows = sorted(rows, key=lambda row: (order.index(row.kind), DATASETS.index(row.dataset)))
    cut = [row for row in rows if row.kind != BLOCKS]
    every = by(lambda kind, row: "**all that are cut inside**", cut)
    return [
        f"Test accuracy in percent of `probe-v1` and of `{RECIPE.name}`, {TRAIN} training and up to "
        f"{TEST} test images of each of {', '.join(DATASETS)}, whose families adaptation has not seen. "
        f"{EACH * len(KINDS)} networks at {SIDE} px, drawn at random, {EACH} of each kind; 4 to 7 stages, and "
        "any number of blocks. Differences with standard errors over pairs of network and dataset.",
        table(
            columns,
            by(lambda kind, row: kind, cut)
            + every
            + by(lambda kind, row: kind, [row for row in rows if row.kind in (WHOLE, BLOCKS)]),
        ),
        "The same by dataset, without those of which blocks alone were left out:",
        table(columns, sorted(by(lambda kind, row: row.dataset, cut))),
        "**At equal cost.** Points above the network of full width, with the parent's weights, "
        "that costs no more and is the best on average when tuned (the first stages, of one block or two each): "
        + ", ".join(f"`{name}`" for name in FULL)
        + ".",
        table(
            (
                "cut",
                "of",
                "multiply-adds",
                "full width",
                "probe, parent",
                "probe, adapted",
                "tuned, parent",
                "tuned, adapted",
            ),
            at_equal_cost(rows),
        ),
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument(
        "--weights",
        type=Path,
        default=ROOT / "build" / "adapted.safetensors",
        metavar="FILE",
        help="what `metad2a meta adapt` wrote (default: build/adapted.safetensors)",
    )
    args = arguments.parse_args()
    weights = adapted(args.weights)
    spaces = {BEFORE: SPACE, AFTER: Reweighted(weights), BLOCKS: Throughout(weights)}
    kept = ROOT / "build" / "adapted.jsonl"
    kept.parent.mkdir(exist_ok=True)
    lines = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    rows = [Row(**json.loads(line)) for line in lines]
    tasks = {name: task(args.shared, name) for name in DATASETS}
    known = {(row.dataset, row.kind, row.network, row.weights) for row in rows}
    missing = [job for turn in jobs() for job in turn if job not in known]
    with contextlib.suppress(KeyboardInterrupt):  # What there is is published.
        for job in missing:
            rows.append(measured(tasks[job[0]], job, spaces))
            with kept.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(rows[-1])) + "\n")
    publish("adapted", "Weights adapted to be cut", section(rows))


if __name__ == "__main__":
    run(main)
