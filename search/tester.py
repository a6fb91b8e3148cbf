"""The tester of LPT: it selects the tests that an architecture must pass, and is itself tested.

Source: Du, Zhang, Xie, "Learning by Passing Tests, with Application to Neural Architecture Search",
arXiv 2011.15102. A tester has an encoder E, a head X and a selector C, which gives each image d of
a test bank a probability f(d) of being selected. It wants tests that are hard for the learner, yet
meaningful: E and X are trained on what C selects, and must get better at the tester's own task.

The authors' networks, constants and approximations were not at hand; these are our interpretation:
a small encoder, f a logistic function of its features, and the third stage ascended by Adam through
one step of gradient descent of E and X, which autograd differentiates.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

_WIDTHS = (16, 32, 64)

Images = tuple[Tensor, Tensor]
"""Float (n, 3, h, w) images and their int64 (n,) labels."""


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
