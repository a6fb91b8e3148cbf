"""SPOS: a supernet trained on single uniform paths, then an evolution over its children.

Source: Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV
2020: uniform paths (equation 7), the cost constraint already while sampling, children judged after
their batch norms were re-calibrated, and evolution with the constants of its algorithm 1. The
optimiser is that of the weight-sharing baselines of NAS-Bench-201 (Dong and Yang, ICLR 2020), since
SPOS's own was set for ImageNet.
"""

from __future__ import annotations

from metad2a.spaces.supernets.gates import Gates
from search.engine.method import METHODS, Training
from search.engine.run import Run
from search.sampling.one_shot import OneShotMethod


@METHODS.register("spos")
class Spos(OneShotMethod):
    """Single Path One-Shot: uniform paths, then evolution (Guo et al., ECCV 2020)."""

    training = Training(nesterov=True, weight_decay=5e-4)

    def step(self, run: Run) -> float:
        """Train one path, drawn uniformly from what limits allow."""
        path = run.subspace.sample(run.rng)
        return run.train_weights(run.batch(), [Gates.path(path, len(run.space.operations))])
