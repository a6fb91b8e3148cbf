"""Ray's share of every job, and the driver's: on a cluster of one node, this machine."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _filling import ARCHITECTURES, OWNER, SPACE, kinds, ms, plan_of, sqlite, tasks_of
from PIL import Image

from database import Jobs, Store
from database.jobs.driver import Driver, Summary
from database.jobs.outstanding import Outstanding
from database.jobs.queue import register
from database.plan import RunPlan
from database.workers.base import Work
from database.workers.ray import ClusterWorkers
from metad2a.datasets import load_dataset
from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskData, load_task
from search.labellers.base import Labeller, Measurement

MEAN_IMAGES, MOST_IMAGES, SIDE = 1_082, 2_500, 32
"""Train and test images of a task: the mean of what is drawn, and the most; pixels of a side."""


@dataclass(frozen=True)
class Idle(Labeller):
    """Measures nothing: what is left is the way there and back."""

    def measure(
        self,
        data: TaskData,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield a row for the one architecture."""
        yield Measurement("standalone-v1", architectures[0], seed, 0.5, 0.0, (0.5,) * 12)


def images(count: int) -> TaskData:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, SIDE, SIDE), dtype=np.uint8))
    labels = torch.from_numpy(np.arange(count) % 5)
    return TaskData(pixels, labels, pixels[:1].clone(), labels[:1].clone(), 5)


def decoding(side: int, count: int = 200) -> float:
    """Return the processor's milliseconds to read and resize one JPEG of ``side`` pixels."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            place = Path(folder) / f"class {number % 2}"
            place.mkdir(exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((side, side)).save(place / f"{number}.jpg")
        with load_dataset(folder) as dataset:
            every = np.arange(count)
            start = time.process_time()
            load_task(dataset, every[:-2], every[-2:], np.arange(2), SIDE)
            return 1000 * (time.process_time() - start) / count


def measure_ray(count: int) -> tuple[dict[str, list[float]], float]:
    """Return, by images of a task: MB in the store, ms to put them, ms a job; and jobs a second.

    The jobs a second are those of a driver that does all its work: leases, results, Ray.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 2,
            "object_store_memory": 200 * 2**20,
            "include_dashboard": False,
        },
    )
    try:
        found = {
            f"{size:,}": through_ray(cluster.address, images(size), count)
            for size in (8, MEAN_IMAGES, MOST_IMAGES)
        }
        return found, measure_driver(cluster.address, 10 * count)
    finally:
        cluster.shutdown()


def through_ray(address: str, data: TaskData, count: int) -> list[float]:
    """Return MB of the images in the object store, ms to put them there, and ms a job."""
    import ray

    workers = ClusterWorkers(address, RunPlan(), lambda task: data)
    with sqlite() as place, Store(place) as store:
        task = tasks_of(store, 1)[0]
    work = Work(Idle(), SPACE.name, (SPACE.format((3,) * 6),), 0, "cpu", 1)

    def job() -> None:
        workers.start(1, work, task)
        while not (ended := workers.wait(10)):
            continue
        assert ended[0].outcome is not None, ended[0].error

    try:
        for _ in range(20):
            job()  # processes start, and torch is imported
        (reference,) = workers._images.values()
        stored = ray.experimental.get_object_locations([reference])[reference]["object_size"]
        start = time.perf_counter()
        ray.put(data)
        putting = ms(start)
        start = time.perf_counter()
        for _ in range(count):
            job()
        return [stored / 1e6, putting, ms(start, count)]
    finally:
        workers.close()


def measure_driver(address: str, count: int) -> float:
    """Return the processor's milliseconds of the driver for one whole job, its rows in SQLite."""
    kind = kinds()[0]
    with sqlite() as place, Store(place) as store:
        for protocol in kind.protocols:
            store.add_protocol(protocol)
        tasks = {task.key: task for task in tasks_of(store, -(-count // ARCHITECTURES))}
        plan = plan_of(kind)
        jobs = Jobs(store, register(store, plan, {}, OWNER))
        asked = Outstanding(plan, store, SPACE)
        jobs.enqueue(job for task in tasks.values() for job in asked.jobs(task))
        data = images(8)
        summary = Summary()
        clocks: list[float] = []

        def told(done: int, total: int, text: str) -> None:
            clocks.append(time.process_time())

        Driver(
            store,
            jobs,
            SPACE,
            plan.run,
            ClusterWorkers(address, RunPlan(cpus=1), lambda task: data),
            owner=OWNER,
            prepare=lambda job: (
                Work(Idle(), SPACE.name, job.architectures, 0, "cpu", 1),
                tasks[job.task],
            ),
            finished=lambda job: 0,
            progress=told,
            should_stop=lambda: False,
            summary=summary,
        ).run()
        assert summary.jobs == len(tasks) * ARCHITECTURES
    part = len(clocks) // 10  # workers start, and torch is imported, during the first
    return 1000 * (clocks[-1] - clocks[part]) / (len(clocks) - 1 - part)
