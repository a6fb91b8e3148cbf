"""Which jobs a plan still asks for: what is stored is never measured again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from database.jobs.choice import choose, expected, pairs, parents, recipes
from database.jobs.queue import Job
from database.plan import CHOOSING, PAIRED, PAIRS, PARENT, MethodPlan, Plan
from database.store import Store
from database.tasks import Task
from metad2a.protocol import FINE_TUNE_NAME, parse_fine_tune
from metad2a.spaces import SearchSpace
from search.labellers.base import LABELLERS, Labeller
from search.labellers.finetune import FineTuned
from search.labellers.search import SearchLabeller
from search.subspace.weight_sharing import check_resolution

if TYPE_CHECKING:
    from metad2a.model.landmarks import Landmarks
    from metad2a.protocol import Protocol
    from metad2a.spaces import Architecture


class Outstanding:
    """What a plan asks of each task, by what the store holds of it."""

    def __init__(self, plan: Plan, store: Store, space: SearchSpace) -> None:
        """Look up every labeller of the plan.

        Raises:
            InputError: a search method, one of its options or a protocol is unknown, or the space
                lacks a method or a resolution.
        """
        self._plan, self._store, self._space = plan, store, space
        self._searches = [_search(method) for method in plan.methods]
        for method, search in zip(plan.methods, self._searches, strict=True):
            if search is None:
                check_resolution(space, method.resolution)
            else:
                search.check(space)
        measuring = {name: _labeller(name) for method in plan.methods for name in method.protocols}
        searching = {search.name: search for search in self._searches if search is not None}
        tuning = {
            protocol.name: FineTuned(protocol)
            for protocol in recipes()
            if any(method.name in PAIRED for method in plan.methods)
        }
        self.labellers: Mapping[str, Labeller] = measuring | searching | tuning
        """Labellers by the names that jobs call them."""

    def jobs(self, task: Task) -> Iterator[Job]:
        """Yield what is to be measured on a task now, in the order of the plan.

        What a search will find is measured later: ask again when its job is done.
        """
        for method, search in zip(self._plan.methods, self._searches, strict=True):
            if method.name in PAIRED:
                for architecture, protocol in self._pairs(method, task):
                    yield from self._missing(task, protocol.name, [architecture])
                continue
            if method.name == PARENT:
                chosen = parents(self._space)[: method.architectures]
            elif search is None:
                chosen = choose(
                    self._space,
                    method.architectures,
                    self._plan.seed,
                    task.key,
                    method.resolution,
                )
                chosen.sort(key=self._space.resolution)
            else:
                named = self._store.measured(task.key, search.protocols[0].name, self._plan.seed)
                if not named:
                    yield Job(task.key, search.name, (), self._plan.seed)
                    continue
                chosen = [self._space.parse(text) for text in named]
            for name in method.protocols:
                yield from self._missing(task, name, chosen)

    def _pairs(self, method: MethodPlan, task: Task) -> list[tuple[Architecture, Protocol]]:
        """Return networks with recipes; none are expected of a task that was never looked at."""
        if method.name == PAIRS:
            return pairs(self._space, method.architectures, self._plan.seed, task)
        landmarks = self._landmarks.get(task.key)
        if landmarks is None:
            return []
        return expected(self._space, method.architectures, task, landmarks)

    @cached_property
    def _landmarks(self) -> Mapping[str, Landmarks]:
        from metad2a.meta_training.rows import packaged_landmarks

        return packaged_landmarks()

    def _missing(self, task: Task, name: str, chosen: list[Architecture]) -> Iterator[Job]:
        """Yield jobs for the architectures without a row under any of a labeller's protocols.

        All rows of an architecture are stored at once, so one tells that the others are there, or
        are undefined for it.
        """
        labeller, seed = self.labellers[name], self._plan.seed
        done = set().union(
            *(
                self._store.measured(task.key, protocol.name, seed)
                for protocol in labeller.protocols
            )
        )
        texts = [self._space.format(self._space.canonical(cell)) for cell in chosen]
        todo = tuple(text for text in dict.fromkeys(texts) if text not in done)
        if labeller.shared and todo:
            yield Job(task.key, name, todo, seed)
        elif not labeller.shared:
            yield from (Job(task.key, name, (text,), seed) for text in todo)


def _labeller(name: str) -> Labeller:
    """Return a labeller by its name, or that of fine-tunings by the name of its protocol."""
    if name.startswith(f"{FINE_TUNE_NAME}:"):
        return FineTuned(parse_fine_tune(name))
    return LABELLERS.get(name)


def _search(method: MethodPlan) -> SearchLabeller | None:
    if method.name in CHOOSING or method.images is None:
        return None
    return SearchLabeller(
        method.name,
        method.images,
        method.architectures,
        method.channels,
        method.cells,
        method.options,
        method.resolution,
    )
