"""Many processes that work off the jobs of one file."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from _builds import PATIENCE, rows

from database import Job, Jobs, Store, draw_tasks
from database.jobs.queue import register
from database.plan import parse_plan
from metad2a.datasets import load_dataset
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

PROCESSES, SHARE = 8, 200


def write(place: Path, build: int, owner: str, start: Barrier, done: Any) -> None:
    """Claim and finish jobs until none is left; report how many, and the seconds."""
    space = SPACES.get("nasbench201")
    with Store(place, create=False) as store:
        jobs, count = Jobs(store, build), 0
        start.wait(PATIENCE)
        began = time.monotonic()
        while claimed := jobs.claim(owner, 1, 60):
            for job in claimed:
                row = Measurement("quick-v1", space.parse(job.architectures[0]), job.seed, 0.5, 0.1)
                count += (
                    jobs.finish(
                        owner, job, [row], space=space, device="cpu", versions="v", seconds=0.1
                    )
                    is not None
                )
        done.put((count, time.monotonic() - began))


def many_writers(folder: Path) -> tuple[int, int, float]:
    """Return how many jobs were done by all, how many rows there are, and the seconds."""
    space, total = SPACES.get("nasbench201"), PROCESSES * SHARE
    place = folder / "shared.sqlite"
    dataset = load_dataset(folder / "data" / "noise")
    task = draw_tasks(dataset, 1, 0)[0]
    with Store(place) as store:
        store.add_dataset(dataset, "noise", 16)
        store.add_task(task)
        store.add_protocol(Protocol("quick-v1", "accuracy", "Made up."))
        plan = parse_plan(
            {
                "tasks": {"count": 1},
                "methods": [{"name": "spread", "architectures": total, "protocols": ["quick"]}],
            },
            "shared",
            folder,
        )
        build = register(store, plan, {}, "nobody/0/0")
        cells = space.listed()[:total].tolist()
        Jobs(store, build).enqueue(
            Job(task.key, "quick", (space.format(tuple(cell)),), 0) for cell in cells
        )
    context = multiprocessing.get_context("spawn")
    start, done = context.Barrier(PROCESSES), context.Queue()
    children = [
        context.Process(target=write, args=(place, build, f"owner {number}", start, done))
        for number in range(PROCESSES)
    ]
    for child in children:
        child.start()
    ended = [done.get(timeout=PATIENCE) for _ in children]
    for child in children:
        child.join()
    return sum(count for count, _ in ended), len(rows(place)), max(took for _, took in ended)
