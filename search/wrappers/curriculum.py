"""Curriculum-NAS: weights descend most on the samples of which several subnets are uncertain.

Source: Zhou et al., "Curriculum-NAS: Curriculum Weight-Sharing Neural Architecture Search", ACM MM
2022, with its supplement and published code. K subnets with the supernet's weights see each
training sample; the uncertainty that explains their losses best is sigma = sqrt(mean over k of
L_k), and a sample's loss counts v = N sigma / |sigma|_1 times in the steps of the weights. The
subnets are those in which the search believes most. Steps of the architecture on images of their
own stay as they are; a one-level method has only one loss, which is weighted.

The paper speaks of new weights at every iteration, its code takes them once an epoch, and so does
this. NAS-Bench-201 test accuracies that the authors report, mean of three seeds on CIFAR-10,
CIFAR-100 and ImageNet16-120: random search with parameter sharing 91.05, 68.26, 40.69 and with the
curriculum 93.25, 69.49, 42.58; second-order DARTS 65.38, 60.49, 36.79 and 70.92, 67.46, 38.71.

With ``free`` the K passes over the images are saved: the subnets are those that training takes
each sample through anyway, step by step, and their losses are averaged with a memory of K visits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from metad2a.errors import InputError
from search.engine.method import WRAPPERS, Method, SampleWeighter, Wrapper
from search.engine.run import Run


def sample_weights(losses: Tensor) -> Tensor:
    """Return float32 (n,) weights of samples; they sum to n, and are one where losses are equal.

    Args:
        losses: float (n,), mean over subnets, not negative.
    """
    sigma = losses.double().sqrt()
    mean = sigma.mean()
    return (sigma / mean if mean > 0 else torch.ones_like(sigma)).float()


@WRAPPERS.register("curriculum")
class Curriculum(Wrapper, SampleWeighter):
    """Weigh training samples by the uncertainty of subnets (Zhou et al., ACM MM 2022).

    Args:
        subnets: K, how many subnets say how uncertain a sample is.
        most: largest weight of a sample; unlimited in the paper. Wrong labels weigh most, so 3 is
            a help where many are feared.
        free: take the losses that training computes anyway.

    Raises:
        InputError: an option is out of range.
    """

    def __init__(self, subnets: int = 5, most: float = math.inf, free: bool = False) -> None:
        if subnets < 1 or not most >= 1:
            raise InputError(f"subnets={subnets} and most={most} must both be 1 or more.")
        self.subnets, self.most, self.free = subnets, most, free

    def refuse(self, method: Method) -> str | None:
        """Refuse methods without a shared training on labels."""
        return (
            None
            if method.shared_training
            else (
                "it trains no shared weights on labels, so there are no losses of samples to weigh."
            )
        )

    def begin(self, run: Run) -> None:
        """Weigh the samples of the weights' side, each by one in the first epoch."""
        self.run = run
        run.weighters["weights"] = self
        self.v: Tensor | None = None
        self.losses = torch.full((len(run.train_y),), math.nan, device=run.place.device)
        self.refreshed = 0  # mini-batches of the weights' side at the last refresh
        self.asking: int | None = None  # seed of a refresh that was left off

    def weights(self, index: Tensor) -> Tensor | None:
        """Return float (batch,) weights v of the samples ``index``; None in the first epoch."""
        return None if self.v is None else self.v[index]

    def observe(self, index: Tensor, losses: Tensor) -> None:
        """Let the losses of one path pull those remembered by 1/K, where weights are free."""
        if self.free:
            known, seen = self.losses[index], losses.float()
            pulled = torch.where(known.isnan(), seen, known + (seen - known) / self.subnets)
            self.losses[index] = torch.where(seen.isfinite(), pulled, known)

    def after_step(self, run: Run) -> None:
        """Take new weights once an epoch."""
        side = run.sides["weights"]
        epoch = len(side) // run.batch_size()
        if run.cursors["weights"] - self.refreshed < epoch:
            return
        self.refreshed = run.cursors["weights"]
        self._refresh(run, int(run.rng.integers(2**62)))

    def _refresh(self, run: Run, seed: int) -> None:
        side = run.sides["weights"]
        if not self.free and not self._ask_subnets(run, side, seed):
            return
        own = torch.from_numpy(side).to(self.losses.device)
        losses = self.losses[own]
        if losses.isnan().all():  # every loss so far was no number
            return
        # An epoch leaves the odd sample out: its weight is that of the mean loss.
        losses = torch.where(losses.isnan(), losses.nanmean(), losses)
        self.v = torch.ones_like(self.losses)
        self.v[own] = sample_weights(losses).clamp(max=self.most)

    @torch.no_grad()
    def _ask_subnets(self, run: Run, side: np.ndarray, seed: int) -> bool:
        """Renew the mean losses of a side; False where that is not to be had.

        With batch statistics and with the augmentation of training, as in the published code. It
        leaves off where the search is cancelled, and begins again where that is resumed.
        """
        assert run.current is not None  # a step was taken
        # It leaves no trace, chance and batch norms' statistics included: what comes after it is the
        # same whether this is left off or not.
        self.asking, chance, run.rng = seed, run.rng, np.random.default_rng(seed)
        statistics = [(value, value.clone()) for value in run.network.buffers()]
        try:
            subnets = run.current.subnets(run, self.subnets)
            total = torch.zeros_like(self.losses)
            # Nearly equal parts, since the statistics of a small remainder would be none.
            for part in np.array_split(side, max(1, len(side) // run.batch_size())):
                if run.training_over():
                    return False
                index = torch.from_numpy(part).to(total.device)
                x, y = run.augmented(run.train_x[index], run.rng), run.train_y[index]
                for subnet in subnets:
                    total[index] += F.cross_entropy(run.forward(x, subnet), y, reduction="none")
        finally:
            run.rng = chance
            for value, before in statistics:
                value.copy_(before)
        self.asking = None
        if not total.isfinite().all():
            return False
        self.losses = total / len(subnets)
        return True

    def tensors(self) -> dict[str, Tensor]:
        """Return the losses, and the weights where there are any yet."""
        return {"losses": self.losses} | ({} if self.v is None else {"v": self.v})

    def facts(self) -> dict[str, Any]:
        """Return when the weights were taken, and what is to be taken yet."""
        return {"refreshed": self.refreshed, "asking": self.asking}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over, and go on where the search was cancelled on the way."""
        self.losses = tensors["losses"].to(self.losses)
        self.v = tensors["v"].to(self.losses) if "v" in tensors else None
        self.refreshed = int(facts["refreshed"])
        if facts["asking"] is not None:
            self._refresh(self.run, facts["asking"])
