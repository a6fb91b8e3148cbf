"""The graph generator: dataset and limits in, distinct valid architectures out.

After Lee et al., MetaD2A, ICLR 2021 (a decoder conditioned on the set encoding), with a grammar: a
decision that leaves no connected network within the limits is never taken, so all that is generated
is valid. Sampling is without replacement by stochastic beam search (Kool et al., ICML 2019), which
decodes all candidates at once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.spaces import SearchSpace

LIMITS = 2
"""Limits that condition the generator: parameters and MACs."""


class Generator(nn.Module):
    """A recurrent decoder over an architecture's decisions.

    Args:
        choices: most that a decision has; where it has fewer, the last ones are never allowed.
        condition: length of what it is conditioned on.
        width: of its state.
    """

    def __init__(self, choices: int, condition: int, width: int = 96) -> None:
        super().__init__()
        self.start = choices
        self.embed = nn.Embedding(choices + 1, width)
        self.condition = nn.Sequential(
            nn.LayerNorm(condition), nn.Linear(condition, width), nn.GELU()
        )
        self.limits = nn.Linear(LIMITS, width)
        self.cell = nn.GRUCell(2 * width, width)
        self.out = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, choices))

    def enter(self, embedding: Tensor, limits: Tensor) -> Tensor:
        """Join float (n, condition) embeddings and (n, 2) standardised log limits: (n, width)."""
        joined: Tensor = self.condition(embedding) + self.limits(limits)
        return joined

    def step(self, state: Tensor, previous: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (n, choices) of the next decision, and the new state (n, width)."""
        state = self.cell(torch.cat([self.embed(previous), context], dim=1), state)
        return self.out(state), state

    def log_likelihood(self, context: Tensor, architectures: Tensor) -> Tensor:
        """Return float (n,), the log-probability of int64 (n, slots) given contexts (n, width)."""
        previous = torch.full((len(architectures),), self.start)
        state = torch.zeros_like(context)
        total = torch.zeros(len(architectures))
        for slot in range(architectures.shape[1]):
            logits, state = self.step(state, previous, context)
            previous = architectures[:, slot]
            total = total + logits.log_softmax(1).gather(1, previous[:, None])[:, 0]
        return total

    @torch.no_grad()
    def sample(
        self,
        context: Tensor,
        slots: int,
        count: int,
        allowed: Callable[[np.ndarray], np.ndarray],
        random: torch.Generator,
    ) -> np.ndarray:
        """Draw ``count`` distinct architectures without replacement, or all if there are fewer.

        Args:
            context: float (1, width), from :meth:`enter`.
            slots: length of an architecture.
            count: architectures wanted.
            allowed: maps int (n, t) prefixes to bool (n,): whether one can still be completed.
            random: source of the noise.

        Returns:
            int64 (n, slots), n <= count, the most fortunate first.
        """
        prefixes = np.zeros((1, 0), dtype=np.int64)
        state, logp, luck = torch.zeros_like(context), torch.zeros(1), torch.zeros(1)
        for _ in range(slots):
            previous = torch.from_numpy(
                prefixes[:, -1] if prefixes.shape[1] else np.array([self.start])
            )
            logits, state = self.step(state, previous, context.expand(len(state), -1))
            choices = logits.shape[1]
            children = np.concatenate(
                [
                    np.repeat(prefixes, choices, 0),
                    np.tile(np.arange(choices), len(prefixes))[:, None],
                ],
                axis=1,
            )
            valid = torch.from_numpy(allowed(children)).reshape(-1, choices)
            child_logp = logp[:, None] + logits.masked_fill(~valid, -torch.inf).log_softmax(1)
            child_luck = _luck(child_logp, luck, random).masked_fill(~valid, -torch.inf)
            order = child_luck.flatten().argsort(descending=True, stable=True)
            kept = order[: min(count, int(valid.sum()))]
            parents = kept // choices
            prefixes = children[kept.numpy()]
            state, logp, luck = (
                state[parents],
                child_logp.flatten()[kept],
                (child_luck.flatten()[kept]),
            )
        return prefixes


def _luck(logp: Tensor, parent: Tensor, random: torch.Generator) -> Tensor:
    """Draw Gumbel-perturbed log-probabilities (n, k) whose maximum in each row is ``parent`` (n,).

    Kool et al., ICML 2019 (in its numerically stable form).
    """
    uniform = torch.rand(logp.shape, generator=random).clamp(1e-12, 1 - 1e-7)
    drawn = logp - (-uniform.log()).log()
    largest = drawn.max(1, keepdim=True).values
    gap = parent[:, None] - drawn + torch.log1p(-torch.exp(drawn - largest))
    return parent[:, None] - gap.clamp_min(0) - torch.log1p(torch.exp(-gap.abs()))


def generate(
    generator: Generator,
    space: SearchSpace,
    context: Tensor,
    count: int,
    seed: int,
    classes: int,
    max_params: int | None,
    max_macs: int | None,
) -> np.ndarray:
    """Return int64 (n, slots) canonical, distinct members of a space within the limits.

    n is ``count``, or fewer when the space holds fewer.
    """

    def allowed(prefixes: np.ndarray) -> np.ndarray:
        """Whether each can be completed; of what is not active, the first choice alone."""
        slot = prefixes.shape[1] - 1
        good: np.ndarray = prefixes[:, -1] < len(space.decisions[slot].values)
        whole = space.complete(prefixes[good])
        good[good] = space.valid(whole) & space.feasible(whole, classes, max_params, max_macs)
        later = np.flatnonzero(good & (prefixes[:, -1] > 0))
        on = [space.active(tuple(one))[slot] for one in space.complete(prefixes[later]).tolist()]
        good[later] = on
        return good

    beam = 2 * count
    while True:
        random = torch.Generator().manual_seed(seed)
        drawn = generator.sample(context, space.slots, beam, allowed, random)
        distinct = list(dict.fromkeys(space.canonical(tuple(a)) for a in drawn.tolist()))
        cells = space.as_array(distinct)
        # A representative may cost more than the isomorphic network that was drawn.
        cells = cells[space.feasible(cells, classes, max_params, max_macs)]
        if len(cells) >= count or len(drawn) < beam:
            kept: np.ndarray = cells[:count]
            return kept
        beam *= 2
