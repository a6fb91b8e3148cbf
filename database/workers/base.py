"""The work of a build: one job made into a pure function's arguments, and those who carry it out.

Workers never see the store. What they measure depends on the work and the task's images alone, so
it is the same wherever it is done.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from database.tasks import Task
    from search.data import TaskImages
    from search.labellers.base import Labeller, Measurement


@dataclass(frozen=True)
class Work:
    """What to measure on a task: ``architectures`` are strings of the space called ``space``."""

    labeller: Labeller
    space: str
    architectures: tuple[str, ...]
    seed: int
    device: str
    threads: int


@dataclass(frozen=True)
class Outcome:
    """What was measured, in how many seconds, on which device and with which packages."""

    measurements: tuple[Measurement, ...]
    seconds: float
    device: str
    versions: str


@dataclass(frozen=True)
class Ended:
    """The end of a job: an outcome, or why there is none.

    ``lost`` is true where the machine went away, which is not the job's fault.
    """

    number: int
    outcome: Outcome | None = None
    error: str = ""
    lost: bool = False


class Workers(ABC):
    """Processes that carry out work, each job known by its number."""

    @abstractmethod
    def free(self) -> int:
        """Return how many jobs could be started now."""

    @abstractmethod
    def start(self, number: int, work: Work, task: Task) -> None:
        """Begin a job on a task."""

    @abstractmethod
    def wait(self, seconds: float) -> list[Ended]:
        """Return the jobs that ended, after so many seconds at the latest."""

    @abstractmethod
    def stop(self, number: int) -> None:
        """End a job at once, whatever it does; it is not heard of again."""

    @abstractmethod
    def close(self) -> None:
        """End all processes at once."""


def perform(work: Work, images: TaskImages) -> Outcome:
    """Measure; the same work on the same images gives the same values on one kind of machine."""
    import torch

    from metad2a.spaces import SPACES

    torch.set_num_threads(work.threads)
    space = SPACES.get(work.space)
    started = time.perf_counter()
    measurements = tuple(
        work.labeller.measure(
            images, space, [space.parse(one) for one in work.architectures], work.seed, work.device
        )
    )
    seconds = time.perf_counter() - started
    device = work.device
    if device.startswith("cuda"):
        device = f"cuda ({torch.cuda.get_device_name(device)})"
    return Outcome(
        measurements,
        seconds,
        device,
        ", ".join(f"{name} {version(name)}" for name in ("metad2a", "torch")),
    )
