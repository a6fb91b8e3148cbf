"""What all methods with architecture parameters share: they compare operations by one number each.

An architecture's score is the sum of its operations' scores. The winner has the largest under the
space's own rule (DARTS, section 2.4); it and what came close are found in order, by best-first search.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metad2a.spaces import Architecture
from metad2a.spaces.supernets.gates import Gates
from search.engine.method import Method, Ranking
from search.engine.run import Batch, Run
from search.gradient.alphas import ArchitectureParameters

_SHAKES = 64
_POOL = 3  # architectures found for one that is wanted
_TOLD = 10  # architectures named at the end


class DifferentiableMethod(Method):
    """A method that learns one alpha for each (slot, operation), shared by all cells of a type."""

    alphas: ArchitectureParameters

    def slot_scores(self, run: Run) -> np.ndarray:
        """Return float64 (slots, operations) that name the winner; the default: log p."""
        probabilities = self.alphas.probabilities(run.subspace.mask).detach().double().cpu()
        logs: np.ndarray = np.log(np.maximum(probabilities.numpy(), 1e-300))
        return logs

    def mixture(self, run: Run) -> Gates:
        """Return the softmax mixture of the allowed operations; its weights lead back to alpha."""
        mask = run.subspace.mask
        return Gates.mixture(self.alphas.probabilities(mask), mask)

    def gate_gradient(self, run: Run, batch: Batch, gates: Gates) -> tuple[Tensor, float]:
        """Return d loss / d alpha, float (slots, operations), of a batch, and the loss."""
        run.network.requires_grad_(False)
        try:
            loss = run.loss(run.forward(batch.x, gates), batch, "architecture")
            (gradient,) = torch.autograd.grad(loss, self.alphas.alpha)
        finally:
            run.network.requires_grad_(True)
        run.images += len(batch.y)
        return gradient, float(loss.detach())

    def subnets(self, run: Run, count: int) -> list[Architecture]:
        """Return the architectures with the largest products of operation probabilities."""
        return [architecture for architecture, _ in self._near(run, count)]

    def score(self, run: Run, architectures: Sequence[Architecture]) -> np.ndarray:
        """Return float64 (n,) sums of slot scores."""
        return run.subspace.score(self.slot_scores(run), list(architectures))

    def derive(self, run: Run) -> Ranking:
        """Return the best architectures under the limits."""
        return self._near(run, _TOLD)

    def _near(self, run: Run, count: int) -> Ranking:
        """Return the ``count`` best members in order.

        Where limits leave too few to be found so, the rest win under shaken scores.
        """
        scores = self.slot_scores(run)
        found = dict(islice(run.subspace.in_order(scores), count))
        if len(found) < count:
            found.setdefault(*run.subspace.best(scores))
        if len(found) < count:
            spread = max(float(scores[run.subspace.choices()].std()), 1e-6)
            for _ in range(_SHAKES):
                if len(found) >= _POOL * count:
                    break
                near, _ = run.subspace.best(scores + spread * run.rng.gumbel(size=scores.shape))
                found.setdefault(near, float(run.subspace.score(scores, [near])[0]))
        return sorted(found.items(), key=lambda pair: -pair[1])[:count]

    def tensors(self) -> dict[str, Tensor]:
        """Return alpha and the moments of its optimiser."""
        return self.alphas.tensors()

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        self.alphas.load(tensors)
