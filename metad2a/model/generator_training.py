"""Meta-training, part three: the generator learns to draw what the predictor rates highest.

For every task, and for random limits on parameters and MACs, the target is the softmax of the
predicted quality over the feasible architectures of the space (an enumerable one), at a temperature
that puts most mass on the best few hundred.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from metad2a.model.description import Description
from metad2a.model.generator import LIMITS, Generator
from metad2a.model.predictor import Predictor, standardise_limits

STEPS = 1200
PEAK_LR = 3e-3
TASKS = 8
DRAWS = 64
"""Architectures drawn for each task and step."""
TEMPERATURE = 0.25
"""Of the softmax over qualities, which are standard normal over the space."""
UNLIMITED = 0.4
"""Share of examples without a limit."""


def fit_generator(
    generator: Generator,
    predictor: Predictor,
    tasks: Sequence[Description],
    cells: np.ndarray,
    costs: np.ndarray,
    priors: list[tuple[Tensor, Tensor]],
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Train the generator.

    Args:
        generator: changed in place.
        predictor: trained; gives embeddings and qualities.
        tasks: the meta-training tasks.
        cells: int (n, slots), every connected canonical architecture.
        costs: int (n, 2), their parameters and MACs.
        priors: of the cells, a member each.
        seed: of all draws.
        progress: told of steps done, of all.
    """
    embeddings = predictor.embed(tasks)
    condition = torch.cat(embeddings, dim=1)
    with torch.no_grad():
        quality = torch.stack(
            [
                side(embedding, hidden, own)[1]
                for side, embedding, (hidden, own) in zip(
                    predictor.sides, embeddings, priors, strict=True
                )
            ]
        ).mean(0)
    rng = np.random.default_rng(seed)
    random = torch.Generator().manual_seed(seed)
    every, spent = torch.from_numpy(cells), torch.from_numpy(costs).double()
    ordered = spent.sort(0).values
    optimiser = torch.optim.AdamW(generator.parameters(), lr=PEAK_LR, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_LR, total_steps=STEPS)
    generator.train()
    for step in range(STEPS):
        drawn_tasks = torch.from_numpy(rng.integers(len(condition), size=TASKS))
        places = torch.from_numpy(rng.integers(len(cells) // 100, len(cells), (TASKS, LIMITS)))
        limits = ordered.gather(0, places)
        limits[torch.from_numpy(rng.random((TASKS, LIMITS)) < UNLIMITED)] = torch.inf
        feasible = (spent[None] <= limits[:, None]).all(2)
        keep = feasible.any(1)
        logits = (quality[drawn_tasks] / TEMPERATURE).masked_fill(~feasible, -torch.inf)[keep]
        drawn = torch.multinomial(logits.softmax(1), DRAWS, True, generator=random)
        context = generator.enter(
            condition[drawn_tasks[keep]], standardise_limits(predictor, limits[keep])
        )
        loss = -generator.log_likelihood(
            context.repeat_interleave(DRAWS, 0), every[drawn.flatten()]
        ).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step + 1, STEPS)
    generator.eval()
