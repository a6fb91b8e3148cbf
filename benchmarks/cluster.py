"""What a build on a cluster costs its driver: transactions, bytes, and Ray's share of every job.

The store is filled by the driver's own calls, so every constraint and index is in force. The
PostgreSQL server is a real one with its usual settings (every commit is on the disk); the Ray
cluster is one node, this machine. docs/scale.md calculates with these figures.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from _filling import ARCHITECTURES, OWNER, SERVERS, SPACE, Kind, kinds, ms, plan_of, tasks_of
from _report import publish, run, table
from _through_ray import SIDE, decoding, measure_ray

from database import Jobs, Store
from database.jobs.outstanding import Outstanding
from database.jobs.queue import register

VERSIONS = "metad2a 0.1.0, torch 2.13.0+cpu"
DEVICE = "cuda (NVIDIA H100 80GB HBM3)"
IN_HAND = 1_000


def size(store: Store) -> int:
    """Return the bytes of a store, its write-ahead log put into the file."""
    with store.reading() as connection:
        if connection.dialect.name == "sqlite":
            connection.rollback()
            connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return store.size()


class Clocks:
    """Milliseconds by the clock, and of this process's processor, of each time that it is left."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, float]] = []
        self._began = (0.0, 0.0)

    def __enter__(self) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def __exit__(self, *exception: object) -> None:
        wall, processor = self._began
        self.taken.append(
            (1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - processor))
        )

    def typical(self) -> tuple[float, float]:
        """Return the median by the clock and the mean of the processor."""
        times = np.array(self.taken)
        return float(np.median(times[:, 0])), float(times[:, 1].mean())


def measure_store(store: Store, kind: Kind, count: int) -> dict[str, float]:
    """Do ``count`` jobs as the driver does them; return milliseconds, and bytes."""
    for protocol in kind.protocols:
        store.add_protocol(protocol)
    tasks, plan = tasks_of(store, count // ARCHITECTURES), plan_of(kind)
    jobs = Jobs(store, register(store, plan, {}, OWNER))
    asked = Outstanding(plan, store, SPACE)
    empty = size(store)
    found: dict[str, float] = {}
    start = time.perf_counter()
    listed = [job for task in tasks for job in asked.jobs(task)]
    found["outstanding"] = ms(start, len(tasks))
    start = time.perf_counter()
    jobs.enqueue(listed)
    found["enqueue"] = ms(start, len(listed))
    queued = size(store)
    in_hand = jobs.claim(OWNER, IN_HAND, 600)
    numbers = [job.id for job in in_hand]
    start = time.perf_counter()
    for _ in range(10):
        jobs.heartbeat(OWNER, numbers, 600)
    found["heartbeat"] = ms(start, 10)
    rng = np.random.default_rng(1)
    finishing, claiming = Clocks(), Clocks()
    while in_hand:
        job = in_hand.pop(0)
        results = kind.measurements(job, rng)
        with finishing:
            jobs.finish(
                OWNER, job, results, space=SPACE, device=DEVICE, versions=VERSIONS, seconds=60.0
            )
        with claiming:
            claimed = jobs.claim(OWNER, 1, 600)
        in_hand += claimed
    both = (np.array(finishing.taken) + np.array(claiming.taken))[:-IN_HAND]  # then none is left
    part = len(both) // 10
    found["wall"], found["processor"] = 1000 / np.median(both[:, 0]), 1000 / both[:, 1].mean()
    found["growth"] = both[-part:, 1].mean() / both[:part, 1].mean()
    found["finish"], found["finish cpu"] = finishing.typical()
    found["claim"], found["claim cpu"] = claiming.typical()
    start = time.perf_counter()
    for task in tasks:
        assert not list(asked.jobs(task))
    found["done"] = ms(start, len(tasks))
    found["job bytes"] = (queued - empty) / len(listed)
    found["row bytes"] = (size(store) - queued) / (len(listed) * len(kind.protocols))
    return found


ROWS = (
    ("jobs a second (one finished, another claimed), by the clock", "wall", "{:,.0f}"),
    ("jobs a second, if the driver's processor were all", "processor", "{:,.0f}"),
    ("its time in the last tenth of the jobs to the first", "growth", "{:.2f}"),
    ("`finish`, ms", "finish", "{:.2f}"),
    ("`finish`, ms of the processor", "finish cpu", "{:.2f}"),
    ("`claim` of one job, ms", "claim", "{:.2f}"),
    ("`claim` of one job, ms of the processor", "claim cpu", "{:.2f}"),
    (f"`heartbeat` of {IN_HAND:,} jobs in hand, ms", "heartbeat", "{:.1f}"),
    ("`enqueue`, ms a job", "enqueue", "{:.3f}"),
    ("what is asked of a new task, ms", "outstanding", "{:.1f}"),
    ("what is asked of a task that is done, ms", "done", "{:.1f}"),
    ("bytes an open job", "job bytes", "{:,.0f}"),
    ("bytes an evaluation, with what its job gains", "row bytes", "{:,.0f}"),
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument(
        "--jobs",
        type=int,
        default=5_000,
        metavar="N",
        help="jobs of each kind in each store (default: 5000)",
    )
    arguments.add_argument(
        "--ray-jobs",
        type=int,
        default=300,
        metavar="N",
        help="jobs sent through Ray for each size (default: 300)",
    )
    args = arguments.parse_args()
    before = os.getloadavg()[0]
    columns, found = [], []
    for server, place in SERVERS.items():
        for kind in kinds():
            with place() as location, Store(location) as store:
                found.append(measure_store(store, kind, args.jobs))
            columns.append(f"{server}, {len(kind.protocols)} a job")
    ray, driver = measure_ray(args.ray_jobs)
    publish(
        "cluster",
        "Driver of a build on a cluster",
        [
            f"{args.jobs:,} jobs, {ARCHITECTURES} a task, done one after the other by the driver's own "
            f"calls, {IN_HAND:,} in hand; a job stores one accuracy with a curve of 12 readings "
            "(`standalone`), or six scores (`training_free`). PostgreSQL runs on the same machine and "
            "disk, each commit flushed; its own processor time is not counted. Times by the clock are "
            f"medians. The load of the machine was {before:.1f} when this began and "
            f"{os.getloadavg()[0]:.1f} when it ended, on {os.cpu_count()} cores.",
            table(
                ["", *columns],
                [[name, *(shape.format(one[key]) for one in found)] for name, key, shape in ROWS],
            ),
            f"Ray on one node, {args.ray_jobs} jobs one after the other that measure nothing; the "
            f"images are {SIDE} pixels a side. The time of a job is from its start by the driver "
            "to its end there, with the copy of the images that the worker makes.",
            table(
                ["images of a task", "MB in the object store", "ms to put there", "ms a job"],
                [[size, *(f"{value:.2f}" for value in values)] for size, values in ray.items()],
            ),
            f"A driver that does everything (claims, sends through Ray, stores in SQLite) takes "
            f"{driver:.2f} ms of its processor a job, or at most {1000 / driver:,.0f} jobs a second. "
            "Besides, it decodes the images of each task once, in milliseconds of its processor for a "
            f"JPEG: {decoding(64):.2f} of 64 pixels a side, {decoding(256):.2f} of 256, "
            f"{decoding(512):.2f} of 512.",
        ],
    )


if __name__ == "__main__":
    run(main)
