"""Time of every query of ``metad2a db``, and size of the file, with 100,000 evaluations.

The rows are made up, but are such as a build stores: real tasks and architectures, every constraint
in force, a fifth of all rows on one dataset, and a curve of 12 readings in one row of five.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from _report import publish, required, run, table
from sqlalchemy import Connection, select

from database import Store, Task, status
from database.exchange.rows import stored_rows
from database.reading.datasets import datasets, top
from database.reading.page import page
from database.reading.status import progress
from database.reading.verify import verify
from database.schema import (
    ARCHITECTURES,
    BUILDS,
    DATASETS,
    EVALUATIONS,
    JOBS,
    PROTOCOLS,
    SOURCES,
    TASKS,
)
from metad2a.spaces import SPACES

ROWS = 100_000
SETS, OF_THE_LARGEST = 50, 200
TASK_COUNT, CELLS = 1_000, 20
NAMES = {
    "standalone-v1": "accuracy",
    "naswot-v1": "score",
    "synflow-v1": "score",
    "expressivity-v1": "score",
    "jacobian-v1": "score",
}
LIMIT_MS, LIMIT_MB = 50, 200


def numbers(rng: np.random.Generator, most: int, size: int) -> tuple[int, ...]:
    return tuple(np.sort(rng.choice(most, size, replace=False)).tolist())


def fill(store: Store, rng: np.random.Generator) -> None:
    """Write all rows in one transaction, the largest table in one statement."""
    space = SPACES.get("nasbench201")
    distinct = space.listed()
    prints = [rng.bytes(32).hex() for _ in range(SETS)]
    others = rng.integers(1, SETS, TASK_COUNT - OF_THE_LARGEST).tolist()
    owners = [0] * OF_THE_LARGEST + others
    with store.writing() as connection:
        source = connection.scalar(select(SOURCES.c.id))
        connection.execute(
            DATASETS.insert(),
            [
                {
                    "id": i,
                    "fingerprint": one,
                    "name": f"dataset-{i:02d}",
                    "family": f"family-{i % 8}",
                    "form": "folder",
                    "images": 10_000,
                    "classes": 20,
                    "resolution": 32,
                }
                for i, one in enumerate(prints)
            ],
        )
        connection.execute(
            PROTOCOLS.insert(),
            [
                {"id": i, "name": name, "kind": kind, "description": f"The labeller {name}."}
                for i, (name, kind) in enumerate(NAMES.items())
            ],
        )
        connection.execute(
            ARCHITECTURES.insert(),
            [
                {"id": i, "space": space.name, "canonical": space.format(tuple(cell))}
                for i, cell in enumerate(distinct.tolist())
            ],
        )
        for number, owner in enumerate(owners):
            images = int(np.exp(rng.uniform(*np.log((200, 2000)))))
            task = Task(
                f"dataset-{owner:02d}-{number:04d}",
                prints[owner],
                numbers(rng, 20, 10),
                numbers(rng, 8_000, images),
                numbers(rng, 2_000, 300),
                16,
            )
            connection.execute(
                TASKS.insert().values(
                    id=number,
                    key=task.key,
                    dataset_id=owner,
                    name=task.name,
                    definition=task.definition(),
                    n_train=images,
                    n_test=300,
                    n_classes=10,
                )
            )
        connection.execute(
            EVALUATIONS.insert(),
            [
                {
                    "task_id": number,
                    "architecture_id": cell,
                    "protocol_id": protocol,
                    "source_id": source,
                    "kind": kind,
                    "seed": 0,
                    "value": rng.random(),
                    "seconds": 60 * rng.random(),
                    "curve": rng.random(12).tolist() if kind == "accuracy" else [],
                    "device": "cpu",
                    "versions": "metad2a 0.1.0, torch 2.13.0+cpu",
                    "created": datetime.now(UTC),
                }
                for number in range(TASK_COUNT)
                for cell in rng.choice(len(distinct), CELLS, replace=False).tolist()
                for protocol, kind in enumerate(NAMES.values())
            ],
        )
        fill_build(connection, rng)


def fill_build(connection: Connection, rng: np.random.Generator) -> None:
    """Write a build of 100,000 jobs, three quarters of them done and some in hand."""
    now = datetime.now(UTC)
    connection.execute(
        BUILDS.insert().values(
            id=0, key="k", name="plan", plan={}, datasets={}, driver="host/1/a", created=now
        )
    )
    fraction = rng.random(ROWS)
    base = {
        "build_id": 0,
        "seed": 0,
        "tries": 0,
        "owner": None,
        "lease_until": None,
        "ended": None,
        "seconds": None,
    }
    done = {"state": "done", "seconds": 1.0}
    leased = {"state": "leased", "owner": "host/1/a", "lease_until": now + timedelta(hours=1)}
    connection.execute(
        JOBS.insert(),
        [
            base
            | {
                "task_id": number % TASK_COUNT,
                "labeller": ("standalone", "naswot")[number % 2],
                "architectures": f"cell {number // TASK_COUNT}",
            }
            | (
                done | {"ended": now - timedelta(seconds=number)}
                if one < 0.75
                else leased
                if one < 0.76
                else {"state": "open"}
            )
            for number, one in enumerate(fraction)
        ],
    )


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def milliseconds(call: Callable[[], object]) -> tuple[float, float]:
    """Return what a call took by the clock, and of the processor: less where others use it too."""
    start = time.process_time()
    wall = seconds(call)
    return 1000 * wall, 1000 * (time.process_time() - start)


def measure(store: Store, repeats: int, rng: np.random.Generator) -> list[tuple[str, np.ndarray]]:
    """Return float (repeats, 2) of every query, each repeat on a dataset or task drawn anew."""
    with store.reading() as connection:
        names: Sequence[str] = connection.scalars(select(DATASETS.c.name)).all()
        keys: Sequence[str] = connection.scalars(select(TASKS.c.key)).all()
    queries: dict[str, Callable[[], object]] = {
        "`status`": lambda: status(store),
        "`datasets`": lambda: datasets(store),
        "`top`, one protocol": lambda: top(store, str(rng.choice(names)), "standalone-v1"),
        "`top`, all protocols": lambda: top(store, str(rng.choice(names))),
        "`top`, all protocols, a fifth of all rows": lambda: top(store, names[0]),
        "what a build has done on a task": lambda: store.measured(
            str(rng.choice(keys)), "standalone-v1", 0
        ),
        "`status`, of the builds": lambda: progress(store),
    }
    found = []
    for name, call in queries.items():
        call()  # imports, and the first reading of the file
        found.append((name, np.array([milliseconds(call) for _ in range(repeats)])))
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument(
        "--repeats", type=int, default=200, metavar="N", help="calls of each query (default: 200)"
    )
    args = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        with Store(path) as store:
            filling = seconds(lambda: fill(store, np.random.default_rng(0)))
        opening = seconds(lambda: Store(path, create=False).close())
        with Store(path, create=False) as store:
            found = measure(store, args.repeats, np.random.default_rng(1))
            rows, size = status(store)["evaluations"], store.size() / 1e6
            faults: list[object] = []
            passes = [
                ("opening, with the check of the file", opening),
                ("`verify`", seconds(lambda: faults.extend(verify(store)))),
                ("`page`", seconds(lambda: page(store, path.with_suffix(".html")))),
                (
                    "reading all evaluations for an export",
                    seconds(lambda: sum(1 for _ in stored_rows(store, "evaluations"))),
                ),
                ("filling", filling),
            ]
    worst = max(float(np.percentile(times[:, 0], 95)) for _, times in found)
    publish(
        "database_queries",
        "Queries of the database",
        [
            f"{rows:,} evaluations under {len(NAMES)} protocols, of {TASK_COUNT:,} tasks on {SETS} "
            f"datasets, a fifth of them on one, and a build of {ROWS:,} jobs, in an SQLite file of "
            f"{size:.1f} MB in which `verify` finds {len(faults)} faults. Milliseconds of "
            f"{args.repeats} calls of each query in one process, the file in the system's cache; the "
            "last column is the 95th percentile of the processor's own time.",
            table(
                ["query", "median, ms", "95th percentile, ms", "of the processor, ms"],
                [
                    [
                        name,
                        *(
                            f"{np.percentile(times[:, clock], share):.1f}"
                            for clock, share in ((0, 50), (0, 95), (1, 95))
                        ),
                    ]
                    for name, times in found
                ],
            ),
            "What reads the whole file, once:",
            table(["", "seconds"], [[name, f"{taken:.1f}"] for name, taken in passes]),
            required(
                [
                    ("slowest query, 95th percentile", worst, LIMIT_MS, " ms", False),
                    (f"file with {ROWS:,} evaluations", size * ROWS / rows, LIMIT_MB, " MB", False),
                ]
            ),
        ],
    )


if __name__ == "__main__":
    run(main)
