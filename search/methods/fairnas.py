"""FairNAS: every operation of every slot is trained exactly once in each step.

Source: Chu, Zhang, Xu, "FairNAS: Rethinking Evaluation Fairness of Weight Sharing Neural
Architecture Search", ICCV 2021, section "Strict Fairness" and its algorithm 1: one permutation of
the operations a slot gives as many paths as there are operations; the same mini-batch goes through
all of them, their gradients are summed, and the optimiser steps once. A path that ``none`` cuts
gives its other operations no gradient, so with ``none`` in the space fairness holds for being
sampled; the published space has no such operation. The optimiser is that of the weight-sharing
baselines of NAS-Bench-201 (Dong and Yang, ICLR 2020).
"""

from __future__ import annotations

import numpy as np

from metad2a.spaces import Architecture
from metad2a.spaces.supernets.gates import Gates
from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.sampling.one_shot import OneShotMethod


def fair_paths(mask: np.ndarray, rng: np.random.Generator) -> list[Architecture]:
    """Draw as many paths as the widest slot has operations; each slot's are spread evenly.

    Args:
        mask: bool (slots, operations), what is allowed. A slot with fewer operations than the
            widest repeats them (strict fairness then holds up to the repeats).
        rng: draws one permutation a slot.
    """
    count = int(mask.sum(1).max())
    columns = [np.resize(rng.permutation(np.flatnonzero(row)), count) for row in mask]
    return [tuple(int(op) for op in path) for path in np.array(columns).T]


@METHODS.register("fairnas")
class FairNas(OneShotMethod):
    """Strict fairness: all operations in each step, then evolution (Chu et al., ICCV 2021)."""

    training = Training(nesterov=True, weight_decay=5e-4)

    def published_images(self, images: int, operations: int) -> int:
        """Return every image once for each operation, as all are trained in each step."""
        return operations * super().published_images(images, operations)

    def step(self, run: Run) -> float:
        """Send one mini-batch through all paths of a fair draw; one step on the summed gradient."""
        count = len(run.space.operations)
        paths = fair_paths(run.subspace.mask, run.rng)
        return run.train_weights(run.batch(), [Gates.path(path, count) for path in paths])
