"""The inner loop of the builder: all labellers on one task, each row stored as it comes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING

from database.choice import choose
from database.store import RefusedRowError, Store
from database.tasks import Task
from metad2a.errors import DatabaseError, MetaD2AError
from metad2a.spaces import Architecture, SearchSpace

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from search.data import TaskData
    from search.labels import Labeller, Measurement

MAX_FAILURES = 10
"""So many failures in a row end a build: then the fault is not a task's."""
_log = logging.getLogger(__name__)


@dataclass
class Summary:
    """What a build did, and what it had to leave out and why."""

    tasks: int = 0
    """Tasks gone through."""
    evaluations: int = 0
    """Rows added."""
    conflicts: list[str] = field(default_factory=list)
    """Values that differ from the stored ones, which were kept."""
    failures: list[str] = field(default_factory=list)
    """Labellers that broke off on a task."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Dataset folders that gave no task, with the reason."""
    stopped: bool = False
    """Whether it was asked to stop before the end."""


class StopBuild(Exception):  # noqa: N818 - no error: the caller asked for it
    """Leaves the loops when the build is asked to stop."""


@dataclass
class Worker:
    """Measures architectures on one task after the other."""

    store: Store
    space: SearchSpace
    labellers: Mapping[str, Labeller]
    plan: Mapping[str, int]
    seed: int
    device: str
    progress: Callable[[int, str], None]
    should_stop: Callable[[], bool]
    summary: Summary
    _passed: int = 0
    _failed_in_a_row: int = 0

    def __post_init__(self) -> None:
        self._versions = ", ".join(f"{name} {version(name)}" for name in ("metad2a", "torch"))

    def label(self, dataset: ImageDataset, task: Task) -> None:
        """Measure what is not yet stored of one task.

        Raises:
            DatabaseError: the store cannot be read or written.
            MetaD2AError: this was one failure too many in a row.
            StopBuild: the build was asked to stop.
        """
        self.store.add_task(task)
        chosen = choose(self.space, max(self.plan.values()), self.seed, task.key)
        data: TaskData | None = None
        for name, labeller in self.labellers.items():
            wanted = chosen[: self.plan[name]]
            todo = self._missing(task, labeller, wanted)
            end = self._passed + len(wanted)
            self._advance(len(wanted) - len(todo), f"{task.name}: {name}")
            if todo:
                try:
                    data = data or task.load(dataset)
                    self._measure(data, task, name, todo)
                    self._failed_in_a_row = 0
                except StopBuild:
                    raise
                except Exception as error:  # whatever a task does to a labeller, the others go on
                    if isinstance(error, DatabaseError) and not isinstance(error, RefusedRowError):
                        raise
                    self._fail(task, name, error)
            self._advance(end - self._passed, f"{task.name}: {name}")
        self.summary.tasks += 1

    def _missing(
        self, task: Task, labeller: Labeller, wanted: list[Architecture]
    ) -> list[Architecture]:
        """Return the architectures without a row under any of the labeller's protocols.

        All rows of an architecture are stored at once, so one tells that the others are there, or
        are undefined for it.
        """
        done = set().union(*(
            self.store.done(task.key, protocol.name, self.seed) for protocol in labeller.protocols
        ))
        return [one for one in wanted if self.space.format(one) not in done]

    def _measure(
        self, data: TaskData, task: Task, name: str, todo: list[Architecture]
    ) -> None:
        labeller = self.labellers[name]
        measured = labeller.measure(data, self.space, todo, self.seed, self.device)
        for rows in _by_architecture(measured, len(labeller.protocols)):
            recorded = self.store.record(task.key, self.space, rows, self.device, self._versions)
            self.summary.evaluations += recorded.new
            self.summary.conflicts += recorded.conflicts
            self._advance(1, f"{task.name}: {name}")
            if self.should_stop():
                raise StopBuild

    def _advance(self, architectures: int, text: str) -> None:
        self._passed += architectures
        self.progress(self._passed, text)

    def _fail(self, task: Task, name: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        _log.warning("%s failed on %s: %s", name, task.name, text, exc_info=error)
        self.store.add_failure(task.key, name, text)
        self.summary.failures.append(f"{name} on {task.name}: {text}")
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= MAX_FAILURES:
            raise MetaD2AError(
                f"The build ends after {MAX_FAILURES} failures in a row; what was measured is "
                f"stored. The last one: {name} on {task.name}: {text}. Mend it and build again."
            ) from error


def _by_architecture(
    measurements: Iterable[Measurement], size: int
) -> Iterator[list[Measurement]]:
    """Yield the measurements of one architecture at a time, at once when all ``size`` are there."""
    rows: list[Measurement] = []
    for one in measurements:
        if rows and one.architecture != rows[0].architecture:
            yield rows
            rows = []
        rows.append(one)
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows
