"""Sandwich: the largest network, the smallest and two at random learn from each mini-batch.

Source: Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019,
section 3.1, and Yu et al., "BigNAS: Scaling Up Neural Architecture Search with Big Single-Stage
Models", ECCV 2020: where networks contain one another, those in between do about as well as the
bounds allow, so that both bounds are trained at every step. Then children are judged and evolved as
in SPOS, and the winner keeps its weights: one stage. Labels teach all four networks; in-place
distillation is left out.
"""

from __future__ import annotations

import numpy as np

from metad2a.spaces import Architecture, SearchSpace
from metad2a.spaces.supernets.gates import Gates
from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.sampling.one_shot import OneShotMethod

_RANDOM = 2  # networks a step, beside the largest and the smallest


@METHODS.register("sandwich")
class Sandwich(OneShotMethod):
    """Sandwich rule, then evolution; weights are kept (Yu et al., 2019 and 2020)."""

    training = Training(nesterov=True, weight_decay=5e-4)

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks do not contain one another."""
        return (
            None
            if space.pretrained
            else (
                "its networks do not contain one another, so that none is the largest; use 'fairnas' "
                "or 'spos'."
            )
        )

    def begin(self, run: Run) -> None:
        """Find the largest and the smallest network that limits allow."""
        _, table = run.space.cost_table(run.data.classes, run.space.input_size)
        macs = table[..., 1].astype(np.float64)
        self.largest, self.smallest = (run.subspace.best(sign * macs)[0] for sign in (1, -1))

    def step(self, run: Run) -> float:
        """Add up the gradients of four networks on one mini-batch; one step."""
        paths = [self.largest, self.smallest]
        paths += [run.subspace.sample(run.rng) for _ in range(_RANDOM)]
        count = len(run.space.operations)
        return run.train_weights(run.batch(), [Gates.path(path, count) for path in paths])

    def initial(self, run: Run) -> list[Architecture]:
        """Begin with both bounds too, which are trained best."""
        return [*super().initial(run), self.largest, self.smallest]
