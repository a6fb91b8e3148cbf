"""LPT: an adversarial tester decides how much each validation image counts in steps of alphas.

Source: Du, Zhang, Xie, "Learning by Passing Tests, with Application to Neural Architecture Search",
arXiv 2011.15102, an objective of four levels: weights learn from training images; a tester learns
its own task with the help of the tests that it selects; it selects what is hard for the learner and
useful for itself; alphas descend the learner's loss on what was selected. It is the mirror of
Curriculum-NAS, which weighs training images in steps of the weights. The authors plug it into DARTS
and its relatives and report lower test errors on CIFAR-10, CIFAR-100 and ImageNet.

A tester has an encoder E, a head X and a selector C, which gives each image d of a test bank a
probability f(d) of being selected. It wants tests that are hard for the learner, yet meaningful: E
and X are trained on what C selects, and must get better at the tester's own task.

The authors' formulas, networks, constants and approximations were not at hand; these are our
interpretation. Of the tester: a small encoder, f a logistic function of its features, and the third
stage ascended by Adam through one step of gradient descent of E and X, which autograd
differentiates. Of the learner, whose levels are the method's own steps: a test that is selected with
probability f counts f times, divided by the mean of f, so that learning rates keep their meaning;
the learner's losses are taken from the steps of the alphas themselves, as constants, which costs no
pass; and the tester's own task is the same classification on the images that train the weights,
every other of which it holds out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.training.device import seeded
from search.engine.method import WRAPPERS, Method, SampleWeighter, Wrapper
from search.engine.run import Run

_WIDTHS = (16, 32, 64)

Images = tuple[Tensor, Tensor]
"""Float (n, 3, h, w) images and their int64 (n,) labels."""
_SELECTOR_RATE = 3e-4  # as DARTS has for its architecture
_RATE = 0.025  # as DARTS has for its weights


class _Encoder(nn.Sequential):
    """Float (n, 3, h, w) to (n, 64); without batch norm, so that no image weighs on another."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *_WIDTHS), _WIDTHS, strict=False):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(4, outputs), nn.ReLU()]
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class Tester(nn.Module):
    """Encoder, head and selector, with the steps by which they learn.

    Args:
        classes: of the task.
        rate: learning rate of encoder and head.
        selector_rate: learning rate of the selector's Adam.
        gamma: weight of the selected tests in the training of encoder and head.
        lam: weight of the tester's own validation loss against the learner's.
    """

    def __init__(
        self, classes: int, rate: float, selector_rate: float, gamma: float, lam: float
    ) -> None:
        super().__init__()
        self.encoder, self.head = _Encoder(), nn.Linear(_WIDTHS[-1], classes)
        self.selector = nn.Linear(_WIDTHS[-1], 1)
        nn.init.zeros_(self.selector.weight)  # at first every image is as likely as any other
        nn.init.zeros_(self.selector.bias)
        self.rate, self.gamma, self.lam = rate, gamma, lam
        self.adam = torch.optim.Adam(self.selector.parameters(), selector_rate)

    def selection(self, x: Tensor) -> Tensor:
        """Return float (n,) probabilities f of being selected."""
        weights = dict(self.named_parameters())
        return _chosen(self._features(x, weights), weights)

    def teach(self, train: Images, bank: Images, learner: Tensor, valid: Images) -> None:
        """Take one step of the selector, then one of encoder and head.

        Args:
            train: images of the tester's own task.
            bank: candidates for the test.
            learner: float (n,), the learner's loss on each of the bank's images.
            valid: other images of the tester's own task.
        """
        weights = dict(self.named_parameters())
        learnt = {n: w for n, w in weights.items() if not n.startswith("selector.")}
        # The encoder is not to have less to learn by making the selector choose less.
        selected = _chosen(self._features(bank[0], weights).detach(), weights)
        loss = self._losses(train, weights).mean()
        loss = loss + self.gamma * (selected * self._losses(bank, weights)).mean()
        slopes = torch.autograd.grad(loss, list(learnt.values()), create_graph=True)
        taught = {
            n: w - self.rate * slope for (n, w), slope in zip(learnt.items(), slopes, strict=True)
        }
        after = {**weights, **taught}
        selected = _chosen(self._features(bank[0], after), after)
        difficulty = (selected * learner).sum() / selected.sum()
        objective = difficulty - self.lam * self._losses(valid, after).mean()
        selector = list(self.selector.parameters())
        for weight, ascent in zip(selector, torch.autograd.grad(objective, selector), strict=True):
            weight.grad = -ascent
        self.adam.step()
        with torch.no_grad():
            for name, weight in learnt.items():
                weight.copy_(taught[name])

    def _features(self, x: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        own = {n.removeprefix("encoder."): w for n, w in weights.items() if n.startswith("encoder")}
        features: Tensor = functional_call(self.encoder, own, (x,))
        return features

    def _losses(self, images: Images, weights: Mapping[str, Tensor]) -> Tensor:
        features = self._features(images[0], weights)
        logits = F.linear(features, weights["head.weight"], weights["head.bias"])
        return F.cross_entropy(logits, images[1], reduction="none")

    def state(self) -> dict[str, Tensor]:
        """Return all tensors that a checkpoint must hold."""
        moments = {
            f"adam.{number}.{key}": value
            for number, state in self.adam.state_dict()["state"].items()
            for key, value in state.items()
        }
        return {**self.state_dict(), **moments}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over what :meth:`state` returned."""
        self.load_state_dict({n: t for n, t in tensors.items() if not n.startswith("adam.")})
        state = self.adam.state_dict()
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, number, key = name.split(".")
                state["state"].setdefault(int(number), {})[key] = value
        self.adam.load_state_dict(state)


def _chosen(features: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
    logits = F.linear(features, weights["selector.weight"], weights["selector.bias"])
    return logits.squeeze(1).sigmoid()


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
