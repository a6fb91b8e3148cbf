"""What a supernet can learn from two views of images: contrastive and bootstrapped losses.

Sources: NT-Xent, or InfoNCE, as in Chen et al., SimCLR, ICML 2020, equation 1; BYOL, Grill et al.,
"Bootstrap Your Own Latent", NeurIPS 2020, equation 2 and appendix C. The third objective that
SSWP-NAS knows is cross-entropy with labels, for comparison.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.gates import Gates
from metad2a.training.device import seeded
from search.method import Stateful
from search.run import Run
from search.tensors import under, with_prefix
from search.trainee import Trainee
from search.views import two_views

_TEMPERATURE = 0.07
_EMBEDDING = 128
_BYOL_HIDDEN, _BYOL_EMBEDDING = 4096, 256
_DECAY = 0.99  # of the moving average that BYOL's target is


def info_nce(embeddings: Tensor, temperature: float = _TEMPERATURE) -> Tensor:
    """Return the mean NT-Xent loss: each row is to find its other view among all other rows.

    Args:
        embeddings: float (2n, d); rows i and i + n belong to one image.
        temperature: what cosines are divided by.
    """
    count = len(embeddings)
    unit = F.normalize(embeddings, dim=1)
    own = torch.eye(count, dtype=torch.bool, device=unit.device)
    similarity = (unit @ unit.T / temperature).masked_fill(own, -torch.inf)
    partner = torch.arange(count, device=unit.device).roll(count // 2)
    return F.cross_entropy(similarity, partner)


class Objective(Stateful):
    """What weights and alphas descend, with whatever it puts on top of the supernet."""

    def __init__(self, run: Run) -> None:
        """Start from new heads, drawn from ``run.rng``."""

    @abstractmethod
    def loss(self, run: Run, side: str, gates: Gates) -> Tensor:
        """Return the loss of the next mini-batch of a side, and count its images."""

    def parameters(self) -> list[nn.Parameter]:
        """Return the weights that are learnt beside the supernet's."""
        return []

    def descend(self, run: Run) -> None:
        """Step along the gradients that are there; after a step of the supernet."""


class Supervised(Objective):
    """Cross-entropy with labels."""

    def loss(self, run: Run, side: str, gates: Gates) -> Tensor:
        """Return the mean over a mini-batch."""
        batch = run.batch(side)
        run.images += len(batch.y)
        return run.loss(run.forward(batch.x, gates), batch, side)


class InfoNCE(Objective):
    """NT-Xent on a projection, Linear-ReLU-Linear, of the pooled features."""

    def __init__(self, run: Run) -> None:
        mean, deviation = run.data.statistics()
        self.black = -(mean / deviation).flatten()
        width = cast(nn.Linear, run.network.classifier).in_features
        with seeded(int(run.rng.integers(2**31))):
            head = self.make_head(width)
        self.head = Trainee(head.to(run.place.device), run.training)

    def make_head(self, width: int) -> nn.Module:
        """Return what comes after ``width`` features, in inference and training alike."""
        return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, _EMBEDDING))

    def loss(self, run: Run, side: str, gates: Gates) -> Tensor:
        """Return the mean over both views of a mini-batch."""
        views = two_views(run.batch(side, augmented=False).x, self.black, run.rng)
        run.images += len(views)
        return self.of_views(run, views, gates)

    def of_views(self, run: Run, views: Tensor, gates: Gates) -> Tensor:
        """Return the loss of float (2n, 3, side, side) views."""
        embeddings: Tensor = self.head.network(pooled(run, run.supernet, views, gates))
        return info_nce(embeddings)

    def parameters(self) -> list[nn.Parameter]:
        """Return the head's weights."""
        return list(self.head.network.parameters())

    def descend(self, run: Run) -> None:
        """Step the head at the supernet's learning rate."""
        self.head.step(run.rate)

    def tensors(self) -> dict[str, Tensor]:
        """Return the head and its momentum."""
        return with_prefix("head", self.head.tensors())

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        self.head.load(under("head", tensors))


class Byol(InfoNCE):
    """Foretell the other view's projection by a slowly moving average of the network.

    The released code of SSWP-NAS never moves that average and steps alphas on training images; here
    it follows every step of the weights, and alphas see held-out images.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        learner = nn.ModuleDict({"supernet": run.network, "projector": self._part("projector")})
        self.target = copy.deepcopy(learner).requires_grad_(False)

    def make_head(self, width: int) -> nn.Module:
        """Return a projector and a predictor, of two layers each."""
        return nn.ModuleDict(
            {"projector": _byol_layers(width), "predictor": _byol_layers(_BYOL_EMBEDDING)}
        )

    def _part(self, name: str) -> nn.Module:
        return cast(nn.ModuleDict, self.head.network)[name]

    def of_views(self, run: Run, views: Tensor, gates: Gates) -> Tensor:
        """Return the loss of float (2n, 3, side, side) views, summed over both directions."""
        projected = self._part("projector")(pooled(run, run.supernet, views, gates))
        foretold = self._part("predictor")(projected)
        with torch.no_grad():
            network = cast(SuperNet, self.target["supernet"])
            wanted = self.target["projector"](pooled(run, network, views, gates))
        cosine = F.cosine_similarity(foretold, wanted.roll(len(views) // 2, 0))
        return 2 * (2 - 2 * cosine).mean()

    @torch.no_grad()
    def descend(self, run: Run) -> None:
        """Step the heads, then move the target towards supernet and projector."""
        super().descend(run)
        learner = [*run.network.parameters(), *self._part("projector").parameters()]
        for slow, fast in zip(self.target.parameters(), learner, strict=True):
            slow.lerp_(fast, 1 - _DECAY)

    def tensors(self) -> dict[str, Tensor]:
        """Return the heads, their momentum, and the target."""
        return {**super().tensors(), **with_prefix("target", self.target.state_dict())}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over."""
        super().restore(tensors, facts)
        self.target.load_state_dict(under("target", tensors))


def pooled(run: Run, network: SuperNet, views: Tensor, gates: Gates) -> Tensor:
    """Return float32 (n, F), the features that a supernet's classifier would see."""
    with run.place.autocast():
        features = network.features(views, gates)
    return features.float()


def _byol_layers(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(width, _BYOL_HIDDEN),
        nn.BatchNorm1d(_BYOL_HIDDEN),
        nn.ReLU(),
        nn.Linear(_BYOL_HIDDEN, _BYOL_EMBEDDING),
    )


OBJECTIVES: dict[str, type[Objective]] = {
    "infonce": InfoNCE,
    "byol": Byol,
    "supervised": Supervised,
}
"""By their names in the options of the method ``sswp``."""
