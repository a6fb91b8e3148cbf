"""Search space shrinking: operations whose architectures turn least in training are dropped.

Source: Hu et al., "Angle-based Search Space Shrinking for Neural Architecture Search" (ABS), ECCV
2020, and its published code. A supernet is trained on single uniform paths; the score of an
operation is the mean angle (``search.scores.angle``) of architectures that have it; those of
the lowest scores are dropped, never the last of a slot. NAS-Bench-201 loses 20 of its 30 operations
at once after the training; in the DARTS space each edge loses one at a time, first after 150 epochs
and then every 20, until about a million cells are left, which is two operations an edge. FairNAS
needs equally many in each slot, so there each slot loses its lowest.

Where this differs: the parts that all architectures share (stem, classifier, ...) do not count. At
every step they turn, an operation only when its path is drawn; until all have turned as far as they
ever will, in tens of thousands of steps, any convolution would lower the angle and be dropped
first. On the digits of scikit-learn (22 steps an epoch) the published angle drops all convolutions
from the first epoch to the last of 30, and has a rank correlation with the number of parameters of
-0.4 to -0.5; without the shared parts it is 0.65 to 0.68, and pools leave first. In the DARTS space
it is -0.2 and 0.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metad2a.errors import InputError
from metad2a.spaces.supernets.gates import Gates
from search.engine.method import Phase, Training
from search.engine.run import Run
from search.methods.fairnas import FairNas
from search.scores.angle import Angle
from search.scores.base import Context, Evaluator
from search.subspace.cloning import clone_most_shared, parameters_in_use
from search.subspace.subspace import Subspace

_CHILDREN = 1000  # architectures drawn where not all can be enumerated
_FIRST, _LATER = 150, 20  # epochs before the first and between later events, in the DARTS space


def children(subspace: Subspace, rng: np.random.Generator) -> np.ndarray:
    """Return int (n, slots): all members of a subspace or, where it is too large, up to 1000."""
    space = subspace.space
    try:
        every = space.as_array(list(space.enumerate()))
    except InputError:  # too large to be enumerated
        return space.as_array(list(dict.fromkeys(subspace.sample(rng) for _ in range(_CHILDREN))))
    allowed = subspace.mask[np.arange(space.slots), every].all(1)
    members: np.ndarray = every[allowed & subspace.fits(every) & space.connected(every)]
    return members


def operator_scores(members: np.ndarray, evaluator: Evaluator, operations: int) -> np.ndarray:
    """Return float64 (slots, operations): the mean score of the members that have each operation.

    ``-inf`` where no member has it.

    Args:
        members: int (n, slots) architectures.
        evaluator: gives each a finite score.
        operations: how many a slot of the space has.
    """
    scores = evaluator.score([tuple(member) for member in members.tolist()])
    means = np.full((members.shape[1], operations), -np.inf)
    for slot, column in enumerate(members.T):
        for op in np.unique(column):
            means[slot, op] = scores[column == op].mean()
    return means


class Shrinking(Phase):
    """Uniform paths, dropping in one or several events, and cloning after each of them.

    Args:
        drop: fraction (0..1) of the operations that are dropped in all.
        events: how many times; 0: once, or each time that a slot loses one where each must.
        published: count what all architectures share, and let the next phase begin with new
            weights, as ABS does.
    """

    # That of the weight-sharing baselines of NAS-Bench-201 (Dong and Yang, 2020), as ABS has there.
    training = Training(nesterov=True, weight_decay=5e-4)

    def __init__(self, drop: float, events: int, published: bool) -> None:
        self.drop, self.events, self.published = drop, events, published

    def begin(self, run: Run) -> None:
        """Plan the events."""
        if run.method is not None and run.method.bilevel:
            run.split_sides()  # weights must not see what alphas will be learnt from
        choices = run.subspace.choices()
        self.even = isinstance(run.method, FairNas) or run.space.left_over is not None
        # Even dropping counts in rounds, in which each slot loses one.
        self.total = round(self.drop * int(choices.sum(1).max() if self.even else choices.sum()))
        self.count = self.events or (max(1, self.total) if self.even else 1)
        self.done = 0
        self.budget = parameters_in_use(run)

    def step(self, run: Run) -> float:
        """Train one uniform path, and shrink where that is due."""
        path = run.subspace.sample(run.rng)
        loss = run.train_weights(run.batch(), [Gates.path(path, len(run.space.operations))])
        epochs = run.fraction * (_FIRST + _LATER * (self.count - 1))
        if self.done < self.count - 1 and epochs >= _FIRST + _LATER * self.done:
            self._shrink(run)
        return loss

    def finish(self, run: Run) -> None:
        """Shrink for the last time."""
        while self.done < self.count:
            self._shrink(run)
        if self.published:
            clones = list(run.supernet.clones)
            run.renew()
            for slot, operation, by in clones:
                run.clone(slot, operation, by)

    def _shrink(self, run: Run) -> None:
        self.done += 1
        members = children(run.subspace, run.rng)
        angle = Angle(Context(run.space, run.data, run.shared()), whole=self.published)
        scores = operator_scores(members, angle, len(run.space.operations))
        quota = self.total * self.done // self.count - self.total * (self.done - 1) // self.count
        order = np.dstack(
            np.unravel_index(np.argsort(scores, axis=None, kind="stable"), scores.shape)
        )[0].tolist()
        order = [(slot, op) for slot, op in order if op != run.space.left_over]
        if self.even:
            slots = range(run.space.slots)
            dropped = [
                found
                for _ in range(quota)
                for slot in slots
                for found in drop_first(run.subspace, [p for p in order if p[0] == slot], 1)
            ]
        else:
            dropped = drop_first(run.subspace, order, quota)
        clones = clone_most_shared(run, self.budget)
        names = run.space.operations
        run.note(
            f"shrinking {self.done} of {self.count}: dropped "
            + (
                ", ".join(
                    f"{names[op]} of slot {slot} ({scores[slot, op]:.4f} rad)"
                    for slot, op in dropped
                )
                or "nothing"
            )
            + "; cloned "
            + (
                ", ".join(f"{names[op]} of slot {slot} by slot {by}" for slot, op, by in clones)
                or "nothing"
            )
        )

    def facts(self) -> dict[str, Any]:
        """Return the plan and how many events are done."""
        return {"total": self.total, "count": self.count, "done": self.done, "budget": self.budget}

    def restore(self, tensors: dict[str, Any], facts: dict[str, Any]) -> None:
        """Take them over."""
        self.total, self.count = facts["total"], facts["count"]
        self.done, self.budget = facts["done"], facts["budget"]


def drop_first(
    subspace: Subspace, order: list[tuple[int, int]], count: int
) -> list[tuple[int, int]]:
    """Drop the first ``count`` of (slot, operation) pairs that can be spared; return them."""
    dropped: list[tuple[int, int]] = []
    for slot, op in order:
        if len(dropped) == count:
            break
        if subspace.drop(slot, op):
            dropped.append((slot, op))
    return dropped
