"""Carrying out a plan: its tasks are drawn, its jobs put in line, and a driver works them off.

What is stored is never measured again, and each job is stored as soon as it is done: a build that
was killed has lost what was in flight and goes on from there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from database.datasets import Opened, deal, open_datasets
from database.jobs.driver import Driver, Summary
from database.jobs.outstanding import Outstanding
from database.jobs.owners import is_dead, new_owner, only_driver
from database.jobs.queue import Job, Jobs, datasets_of, register
from database.plan import Plan
from database.store import Store
from database.tasks import Task, family_of, kind_of
from database.workers.base import Work, Workers
from metad2a.errors import InputError
from metad2a.spaces import SPACES
from search.data import image_side


def build(
    plan: Plan,
    database: Path | str | None = None,
    data: Path | str | None = None,
    *,
    ray: str | None = None,
    retry: bool = False,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Carry out a plan, going on from what the database holds.

    Args:
        plan: from :func:`database.plan.read_plan`.
        database: file or URL; the plan's own where None. A file takes one driver at a time.
        data: folder that holds one folder for each dataset; the plan's own where None.
        ray: address of a Ray cluster whose nodes measure; processes of this machine where None.
        retry: try again what is quarantined.
        progress: told of jobs done, of all, and what was done last.
        should_stop: asked several times a second; jobs in flight are given 5 seconds to end.

    Raises:
        InputError: a name of the plan is unknown, a dataset is missing or has changed since the
            build began, or no folder is a dataset.
        DatabaseError: the store cannot be opened or written, or has another driver.
        MetaD2AError: ten jobs in a row failed.
    """
    from metad2a.training.device import plan as plan_device

    database, data = database or plan.database, data or plan.data
    if database is None or data is None:
        missing = "database" if database is None else "data"
        raise InputError(
            f'The plan {plan.name!r} names no {missing}. Add {missing} = "..." to '
            f"it, or give --{missing}."
        )
    space = SPACES.get(plan.space)
    if ray is None:
        plan_device(plan.run.device)  # refused here, not once for every job
    summary = Summary()
    owner = new_owner()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(database))
        outstanding = Outstanding(plan, store, space)
        stack.enter_context(only_driver(store))
        kind = kind_of(space)
        datasets = open_datasets(plan, Path(data), datasets_of(store, plan), summary.skipped, kind)
        for opened in datasets:
            stack.enter_context(opened.dataset)
        tasks = {task.key: task for task in deal(datasets, plan.tasks.count, plan.seed, kind)}
        summary.tasks = len(tasks)
        _describe(store, outstanding, datasets, tasks)
        build_id = register(
            store, plan, {opened.path.name: opened.fingerprint for opened in datasets}, owner
        )
        jobs = Jobs(store, build_id)
        for other in filter(is_dead, jobs.owners()):
            jobs.release(other)
        if retry:
            jobs.retry()
        for task in tasks.values():  # a task at a time: all jobs of a large plan are gigabytes
            jobs.enqueue(outstanding.jobs(task))

        def prepare(job: Job) -> tuple[Work, Task]:
            work = Work(
                outstanding.labellers[job.labeller],
                plan.space,
                job.architectures,
                job.seed,
                plan.run.device,
                plan.run.threads,
            )
            return work, tasks[job.task]

        def finished(job: Job) -> int:
            # Only a search names no architectures: what it found is measured next.
            return 0 if job.architectures else jobs.enqueue(outstanding.jobs(tasks[job.task]))

        Driver(
            store,
            jobs,
            space,
            plan.run,
            _workers(plan, ray, datasets),
            owner=owner,
            prepare=prepare,
            finished=finished,
            progress=progress,
            should_stop=should_stop,
            summary=summary,
        ).run()
    return summary


def _describe(
    store: Store,
    outstanding: Outstanding,
    datasets: list[Opened],
    tasks: dict[str, Task],
) -> None:
    """Store what evaluations refer to."""
    for opened in datasets:
        dataset = opened.dataset
        store.add_dataset(dataset, family_of(dataset.name), image_side(dataset), opened.fingerprint)
    for task in tasks.values():
        store.add_task(task)
    for labeller in outstanding.labellers.values():
        for protocol in labeller.protocols:
            store.add_protocol(protocol)


def _workers(plan: Plan, ray: str | None, datasets: list[Opened]) -> Workers:
    if ray is None:
        from database.workers.local import LocalWorkers

        return LocalWorkers(
            plan.run.workers, {opened.fingerprint: opened.path for opened in datasets}
        )
    from database.workers.ray import ClusterWorkers

    images = {opened.fingerprint: opened.dataset for opened in datasets}
    return ClusterWorkers(ray, plan.run, lambda task: task.load(images[task.dataset]))
