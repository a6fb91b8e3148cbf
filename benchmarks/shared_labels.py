"""Whether shared weights and searches rank networks as trainings of their own do, task by task.

Reads a database that ``metad2a db build`` filled by ``plans/shared.toml`` or ``plans/shared_cells.toml``, and writes nothing
into it. What does not agree with the trainings must teach nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _report import ROOT, number, parser, publish, run, table
from scipy.stats import kendalltau

from database.exchange.rows import stored_rows
from database.store import Store
from metad2a.errors import InputError
from metad2a.protocol import PROBE, STANDALONE, fine_tune
from metad2a.spaces import SPACES

RECIPE = fine_tune(2e-3, 4).name
"""Of the trainings of ``plans/shared.toml``."""
COST = "multiply-adds"
"""A source that looks at no image: what it ranks as well, nobody has to measure."""
FEWEST = 3
"""Networks of a task that a source and trainings must share."""
TASKS = 6
"""Of which a source must be defined to teach: the standard error of two is luck."""


@dataclass(frozen=True)
class Task:
    """What was measured on one task: by source and architecture, and by trainings of their own."""

    dataset: str
    space: str
    values: Mapping[str, Mapping[str, float]]
    reached: Mapping[str, float]
    macs: Mapping[str, float]

    @property
    def others(self) -> set[str]:
        """The trained networks that no search found."""
        found = {one for source, by in self.values.items() if "@" in source for one in by}
        return set(self.reached) - found

    def tau(self, source: str) -> float:
        """Return Kendall's tau-b of a source with the trainings, NaN where it is not defined."""
        told = self.values.get(source, {})
        if source == COST:  # Of the networks that shared weights and probes are asked for.
            told = {one: self.macs[one] for one in self.others}
        both = sorted(told.keys() & self.reached.keys())
        if len(both) < FEWEST:
            return math.nan
        return float(
            kendalltau([told[one] for one in both], [self.reached[one] for one in both]).statistic
        )


def is_source(protocol: str) -> bool:
    """Whether it is asked of a protocol if it ranks as trainings do: shared weights, searches, probes."""
    return protocol.startswith("supernet-") or "@" in protocol or protocol == PROBE.name


def tasks_of(store: Store, recipe: str) -> list[Task]:
    """Return the tasks with shared weights or a search, and trainings: of pretrained spaces by ``recipe``."""
    values: dict[tuple[str, str, str, int], dict[str, dict[str, float]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for row in stored_rows(store, "evaluations"):
        key = row["space"], row["dataset"], row["task"], row["classes"]
        values[key][row["protocol"]][row["architecture"]] = row["value"]
    found = []
    for (name, dataset, _, classes), own in sorted(values.items()):
        told = {source: by for source, by in own.items() if is_source(source)}
        reached = own.get(trained_by(name, recipe))
        if reached and told.keys() - {PROBE.name}:
            space = SPACES.get(name)
            macs = {one: float(space.cost(space.parse(one), classes).macs) for one in reached}
            found.append(Task(dataset, name, told, reached, macs))
    return found


def trained_by(space: str, recipe: str) -> str:
    """Return the protocol of trainings in a space."""
    return recipe if SPACES.get(space).pretrained else STANDALONE.name


@dataclass(frozen=True)
class Mean:
    """A mean over tasks, its standard error, and of how many it is."""

    mean: float
    error: float
    tasks: int

    @property
    def clear(self) -> bool:
        """Whether it lies above 0 by two standard errors, on enough tasks."""
        return self.tasks >= TASKS and self.mean > 2 * self.error


def mean_of(values: Sequence[float]) -> Mean:
    """Return the mean of what is defined; of fewer than two its error is not."""
    known = np.array([value for value in values if not math.isnan(value)])
    if len(known) < 2:
        return Mean(float(known.mean()) if len(known) else math.nan, math.nan, len(known))
    error = float(known.std(ddof=1) / math.sqrt(len(known)))
    return Mean(float(known.mean()), error, len(known))


def verdict(source: str, found: Mean, cost: Mean) -> str:
    """Say in a sentence whether a source may teach, and whether it is worth more than ``cost``."""
    told = f"`{source}`: {number(found.mean, 2)} ± {number(found.error, 2)}, tasks: {found.tasks}"
    if not found.clear:
        return f"{told}. Not above 0 by two standard errors on {TASKS} tasks or more: **it teaches nothing**."
    less = found.mean <= cost.mean
    rest = f" It ranks no better than {COST}, which are free." if less else ""
    return f"{told}. It ranks as trainings do to that extent, and may teach.{rest}"


def finds(tasks: Sequence[Task], search: str) -> tuple[list[float], list[float]]:
    """Return by task how much better a search's finds are than other networks, and their cost.

    Accuracies are of trainings, in points; the cost is a quotient of mean multiply-adds.
    """
    better, dearer = [], []
    for task in tasks:
        own = task.values.get(search, {}).keys() & task.reached.keys()
        if own and task.others:
            gain = mean_at(task.reached, own) - mean_at(task.reached, task.others)
            better.append(100 * gain)
            dearer.append(mean_at(task.macs, own) / mean_at(task.macs, task.others))
    return better, dearer


def mean_at(values: Mapping[str, float], names: set[str]) -> float:
    return float(np.mean([values[one] for one in sorted(names)]))


def section(space: str, tasks: Sequence[Task], recipe: str) -> list[str]:
    """Return the tables and sentences of one space."""
    sources = [*sorted({source for task in tasks for source in task.values}), COST]
    taus = {source: [task.tau(source) for task in tasks] for source in sources}
    means = {source: mean_of(values) for source, values in taus.items()}
    rows: list[list[object]] = [
        [task.dataset, len(task.reached), *(number(taus[source][place], 2) for source in sources)]
        for place, task in enumerate(tasks)
    ]
    rows.append(["**mean**", "", *(number(means[source].mean, 2) for source in sources)])
    rows.append(["standard error", "", *(number(means[source].error, 2) for source in sources)])
    parts = [
        f"Space `{space}`: Kendall's tau-b with the accuracies of `{trained_by(space, recipe)}` of the same networks of a task, {FEWEST} or "
        f"more; a dash where it is not defined. `{COST}` looks at no image, and ranks the networks that no search found.",
        table(["task of", "trained", *(f"`{source}`" for source in sources)], rows),
        "\n".join(f"* {verdict(source, means[source], means[COST])}" for source in sources[:-1]),
    ]
    found = []
    for search in (source for source in sources if source.endswith("-score")):
        better, dearer = finds(tasks, search)
        if better:
            gain = mean_of(better)
            told = f"{number(gain.mean, 1)} ± {number(gain.error, 1)}"
            found.append([f"`{search}`", gain.tasks, told, number(float(np.mean(dearer)), 2)])
    if found:
        header = ("finds of", "tasks", "points above the others", "times their multiply-adds")
        parts.append(table(header, found))
    return parts


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument(
        "--database",
        type=Path,
        default=ROOT / "build" / "finetune.sqlite",
        metavar="FILE",
        help="that was built (default: build/finetune.sqlite)",
    )
    arguments.add_argument(
        "--recipe",
        default=RECIPE,
        help=f"of the trainings in pretrained spaces (default: {RECIPE})",
    )
    args = arguments.parse_args()
    with Store(args.database, create=False) as store:
        tasks = tasks_of(store, args.recipe)
    if not tasks:
        raise InputError(
            f"{str(args.database)!r} has no task with shared weights and trainings by {args.recipe!r}. Build it with "
            "`metad2a db build plans/shared.toml`."
        )
    parts = []
    for space in sorted({task.space for task in tasks}):
        parts += section(space, [task for task in tasks if task.space == space], args.recipe)
    publish("shared_labels", "Shared weights and searches as labels", parts)


if __name__ == "__main__":
    run(main)
