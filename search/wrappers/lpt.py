"""LPT: an adversarial tester decides how much each validation image counts in steps of alphas.

Source: Du, Zhang, Xie, "Learning by Passing Tests, with Application to Neural Architecture Search",
arXiv 2011.15102, an objective of four levels: weights learn from training images; a tester learns
its own task with the help of the tests that it selects; it selects what is hard for the learner and
useful for itself; alphas descend the learner's loss on what was selected. It is the mirror of
Curriculum-NAS, which weighs training images in steps of the weights. The authors plug it into DARTS
and its relatives and report lower test errors on CIFAR-10, CIFAR-100 and ImageNet.

The learner's levels are the method's own steps; the tester's are those of ``search.tester``. Three
things are our interpretation, as formulas and code were not at hand: a test that is selected with
probability f counts f times, divided by the mean of f, so that learning rates keep their meaning;
the learner's losses are taken from the steps of the alphas themselves, as constants, which costs no
pass; and the tester's own task is the same classification on the images that train the weights,
every other of which it holds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metad2a.errors import InputError
from metad2a.training.device import seeded
from search.method import WRAPPERS, Method, SampleWeighter, Wrapper
from search.run import Run
from search.tester import Images, Tester

_SELECTOR_RATE = 3e-4  # as DARTS has for its architecture
_RATE = 0.025  # as DARTS has for its weights


@WRAPPERS.register("lpt")
class Lpt(Wrapper, SampleWeighter):
    """Learning by passing tests (Du, Zhang, Xie, 2020).

    The tester's passes are small and no part of a budget of images.

    Args:
        lam: weight of the tester's own validation loss against the learner's.
        gamma: weight of the selected tests in the tester's training.

    Raises:
        InputError: an option is negative.
    """

    def __init__(self, lam: float = 1.0, gamma: float = 1.0) -> None:
        if not (lam >= 0 and gamma >= 0):
            raise InputError(f"lam={lam} and gamma={gamma} must both be 0 or more.")
        self.lam, self.gamma = lam, gamma

    def refuse(self, method: Method) -> str | None:
        """Refuse methods whose alphas do not learn from images of their own."""
        return (
            None
            if method.bilevel and method.shared_training
            else (
                "its architecture does not learn from images of its own, which could be weighed; use "
                "a bi-level method such as 'darts'."
            )
        )

    def begin(self, run: Run) -> None:
        """Weigh the samples of the architecture's side."""
        run.weighters["architecture"] = self
        self.run = run
        with seeded(run.seed):
            tester = Tester(run.data.classes, _RATE, _SELECTOR_RATE, self.gamma, self.lam)
        self.tester = tester.to(run.place.device)
        self.test: tuple[Tensor, Tensor] | None = None  # images and losses that were not used yet

    @torch.no_grad()
    def weights(self, index: Tensor) -> Tensor:
        """Return float (batch,) weights of the samples ``index``: f over its mean."""
        selected = self.tester.selection(self.run.train_x[index])
        return selected / selected.mean()

    def observe(self, index: Tensor, losses: Tensor) -> None:
        """Remember how the learner did in its latest test."""
        self.test = index, losses.float()

    def after_step(self, run: Run) -> None:
        """Let the tester learn, after each step of the alphas."""
        if self.test is None:
            return
        (index, losses), self.test = self.test, None
        if not losses.isfinite().all():
            return
        own = run.sides["weights"]
        parts: list[Images] = []
        for half in (own[::2], own[1::2]):
            drawn = run.rng.choice(half, min(len(index), len(half)), replace=False)
            chosen = torch.from_numpy(drawn).to(index.device)
            parts.append((run.train_x[chosen], run.train_y[chosen]))
        train, valid = parts
        self.tester.teach(train, (run.train_x[index], run.train_y[index]), losses, valid)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tester."""
        return self.tester.state()

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take it over."""
        self.tester.load(tensors)
