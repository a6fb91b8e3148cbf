"""Fisher prior: the search starts in the space of what did best on the nearest past tasks.

Source: Le, Soltani, Dong, Tarokh, "Fisher Task Distance and its Application in Neural Architecture
Search", IEEE Access 2022. The distance (``search.fisher``) from each past task to the new one is
measured, and the best architectures of the k nearest define the space: a slot keeps the operations
that one of them has there. The authors then mix a few children of that space ("FUSE"); here any
method searches it. They report 99.86 % test accuracy on their second task of MNIST, at 2.14 M
parameters, and 92.58 % on four classes of CIFAR-10.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from metad2a.errors import InputError
from metad2a.spaces import Architecture, SearchSpace, WeightSharing
from search.data import TaskData
from search.fisher import task_distance
from search.method import WRAPPERS, Wrapper
from search.run import Run

_MOST = 0.5  # of the time; what was not measured by then is left out


class _CancelledError(Exception):
    """The search is to end."""


class _LateError(Exception):
    """The time for distances is up."""


@dataclass(frozen=True, eq=False)
class PastTask:
    """A task that was searched before."""

    name: str
    data: TaskData
    best: tuple[Architecture, ...]
    """What did best on it."""

    def __repr__(self) -> str:
        """Say which task this is, by its content: a checkpoint belongs to it."""
        from search.searching import fingerprint

        return f"PastTask({self.name!r}, {fingerprint(self.data)}, {self.best})"


@WRAPPERS.register("fisher")
class FisherPrior(Wrapper):
    """Narrow the space to what did best on the nearest past tasks (Le et al., 2022).

    Args:
        tasks: :class:`PastTask` items; from Python only.
        nearest: k, how many of them count.
        seeds: pairs of networks trained for a distance; the papers take 5 to 10.

    Raises:
        InputError: an option is out of range, or two tasks have one name.
    """

    def __init__(self, tasks: Sequence[PastTask] = (), nearest: int = 3, seeds: int = 5) -> None:
        if nearest < 1 or seeds < 1:
            raise InputError(f"nearest={nearest} and seeds={seeds} must both be 1 or more.")
        names = [task.name for task in tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"Several past tasks are called {twice[0]!r}; give each a name of its own."
            )
        self.tasks, self.nearest, self.seeds = tuple(tasks), nearest, seeds

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "it compares tasks by networks of cells trained from scratch, and past tasks have their "
                "best networks at other resolutions."
            )
            if space.pretrained
            else None
        )

    def begin(self, run: Run) -> None:
        """Measure the distances and narrow the space; a checkpoint knows both already.

        Raises:
            InputError: no past tasks, or one without a best architecture of the searched space.
        """
        if not self.tasks:
            raise InputError(
                "The wrapper 'fisher' narrows the space to what did best on past "
                "tasks, and has none: give some, options={'fisher.tasks': "
                "[search.wrappers.fisher.PastTask(name, data, best), ...]}."
            )
        for task in self.tasks:
            _check(task, run.space)
        self.run = run
        self.distances: dict[str, float] = {}
        self.narrowed = False
        if not run.resumed:
            self._narrow(run)

    def _narrow(self, run: Run) -> None:
        """Do both; nothing where the search is cancelled meanwhile."""
        seeds, own = range(run.seed, run.seed + self.seeds), dict[int, nn.Module]()

        def ask(step: int = 0) -> None:
            if run.stop():
                raise _CancelledError
            if run.budget.elapsed > _MOST * run.budget.limit:
                raise _LateError

        try:
            for task in self.tasks:
                if task.name not in self.distances:  # measured before a cancellation
                    ask()
                    self.distances[task.name] = task_distance(
                        task.data, run.data, seeds, str(run.place.device), own, ask
                    )
        except _CancelledError:
            return
        except _LateError:
            run.note("no time to measure the distance from every past task")
        near = sorted(
            (task for task in self.tasks if task.name in self.distances),
            key=lambda task: self.distances[task.name],
        )[: self.nearest]
        best = [architecture for task in near for architecture in task.best]
        if best:
            wanted = copy.copy(run.subspace)
            wanted.mask = wanted.mask.copy()
            wanted.keep(run.space.as_array(best))
            # One by one, since limits may forbid what was best elsewhere.
            for slot, operation in np.argwhere(run.subspace.choices() & ~wanted.mask):
                run.subspace.drop(int(slot), int(operation))
        self.narrowed = True
        told = ", ".join(
            f"{name} {distance:.3f}"
            for name, distance in sorted(self.distances.items(), key=lambda pair: pair[1])
        )
        run.note(
            f"Fisher distances of past tasks: {told or 'none measured'}; the best "
            f"architectures of {', '.join(task.name for task in near) or 'none'} leave "
            f"{int(run.subspace.mask.sum())} of {run.subspace.mask.size} operations"
        )

    def facts(self) -> dict[str, Any]:
        """Return the distances and whether the space was narrowed."""
        return {"distances": self.distances, "narrowed": self.narrowed}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over, and go on where the search was cancelled on the way."""
        self.distances, self.narrowed = dict(facts["distances"]), facts["narrowed"]
        if not self.narrowed:
            self._narrow(self.run)


def _check(task: PastTask, space: WeightSharing) -> None:
    allowed = len(space.operations)
    for one in task.best:
        if (
            len(one) != space.slots
            or not all(0 <= op < allowed for op in one)
            or (not space.is_connected(one))
        ):
            raise InputError(
                f"{one} is called best on the past task {task.name!r} and is no "
                f"architecture of {space.name!r}; give those of the searched space."
            )
    if not task.best:
        raise InputError(f"The past task {task.name!r} has no best architecture; give one or more.")
