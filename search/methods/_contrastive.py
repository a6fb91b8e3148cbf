"""Learning from two views of images, without labels: the views, and the losses on them.

Sources of the losses: NT-Xent, or InfoNCE, as in Chen et al., "A Simple Framework for Contrastive
Learning of Visual Representations" (SimCLR), ICML 2020, equation 1; BYOL, Grill et al., "Bootstrap
Your Own Latent", NeurIPS 2020, equation 2 and appendix C. The third objective that SSWP-NAS knows is
cross-entropy with labels, for comparison.

The views are those of SimCLR, appendix A, with the rates that SSWP-NAS uses on CIFAR: a random
resized crop, a flip, colour jitter (.8, .8, .8, .2) with probability .3, grayscale .2, and a 3x3
blur of sigma 1 to 2 with probability .2, of whole mini-batches as tensors. The images are
standardised per channel, not pixels in 0 to 1, so the colours are changed there. Brightness scales
about what black has become, which equals scaling the pixels; contrast scales about the image's mean
luminance; saturation, hue and grayscale are linear maps of the channels, by the weights that
luminance has for pixels. Nothing is clipped, and the order is always the same.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.gates import Gates
from metad2a.training.device import seeded
from search.engine.checkpoint import under, with_prefix
from search.engine.learner import Learner
from search.engine.method import Stateful
from search.engine.run import Run

_TEMPERATURE = 0.07
_EMBEDDING = 128
_BYOL_HIDDEN, _BYOL_EMBEDDING = 4096, 256
_DECAY = 0.99  # of the moving average that BYOL's target is
_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a crop: share of the image, width to height
_FLIP, _JITTER, _GRAY, _BLUR = 0.5, 0.3, 0.2, 0.2  # how often each happens
_STRENGTH, _HUE = 0.8, 0.2  # factors are 1 +- the first, turns of the colour circle +- the second
_SIGMA = (1.0, 2.0)  # pixels
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601
_TO_YIQ = np.array([_LUMINANCE, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])


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
        self.head = Learner(head.to(run.place.device), run.training)

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


def two_views(images: Tensor, black: Tensor, rng: np.random.Generator) -> Tensor:
    """Return float (2n, 3, side, side): rows i and i + n are independent views of image i.

    Args:
        images: float (n, 3, side, side), standardised.
        black: float (3,) on the CPU, what black has become in each channel.
        rng: source of all choices.
    """
    x = _crop(images.contiguous().repeat(2, 1, 1, 1), rng)  # plain order is faster here
    return _blur(_recolour(x, black, rng), rng).contiguous(memory_format=torch.channels_last)


def _crop(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Resize a random rectangle of each image to the full side, half of them mirrored."""
    count = len(x)
    area = rng.uniform(*_AREA, count)
    ratio = np.exp(rng.uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), count))
    width, height = np.minimum(np.sqrt(area * ratio), 1), np.minimum(np.sqrt(area / ratio), 1)
    mirror = np.where(rng.random(count) < _FLIP, -1, 1)
    maps = np.zeros((count, 2, 3))  # from the crop's coordinates, -1 to 1, to the image's
    maps[:, 0, 0], maps[:, 0, 2] = width * mirror, rng.uniform(-1, 1, count) * (1 - width)
    maps[:, 1, 1], maps[:, 1, 2] = height, rng.uniform(-1, 1, count) * (1 - height)
    grid = F.affine_grid(_like(maps, x), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False)


def _recolour(x: Tensor, black: Tensor, rng: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue of some images, and make some gray.

    One after another they are one affine map of the three channels, A x + b, in each image.
    """
    count, luminance = len(x), np.array(_LUMINANCE)
    jittered, gray = rng.random(count) < _JITTER, rng.random(count) < _GRAY
    factors = rng.uniform(1 - _STRENGTH, 1 + _STRENGTH, (3, count, 1))
    bright, contrast, saturation = np.where(jittered[:, None], factors, 1.0)
    turn = np.where(jittered, rng.uniform(-_HUE, _HUE, count), 0.0)
    lifted = (1 - bright) * black.numpy()  # (count, 3): what brightness adds
    means = bright * x.mean((2, 3)).cpu().numpy() + lifted
    added = contrast * lifted + (1 - contrast) * (means @ luminance)[:, None]
    colour = np.where(gray[:, None], 0.0, saturation)[:, :, None]
    mixed = (colour * np.eye(3) + (1 - colour) * luminance) @ _hue(turn)
    linear = (bright * contrast)[:, :, None] * mixed
    return torch.baddbmm(_like(mixed @ added[:, :, None], x), _like(linear, x), x.flatten(2)).view(
        x.shape
    )


def _hue(turn: np.ndarray) -> np.ndarray:
    """Return float (n, 3, 3): rotations of the colour plane of YIQ by (n,) shares of a circle."""
    rotation = np.tile(np.eye(3), (len(turn), 1, 1))
    cosine, sine = np.cos(2 * math.pi * turn), np.sin(2 * math.pi * turn)
    rotation[:, 1, 1], rotation[:, 1, 2] = cosine, -sine
    rotation[:, 2, 1], rotation[:, 2, 2] = sine, cosine
    rotations: np.ndarray = np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ
    return rotations


def _blur(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Blur some images by a Gaussian kernel of 3x3 pixels."""
    chosen = torch.from_numpy(np.flatnonzero(rng.random(len(x)) < _BLUR)).to(x.device)
    side = np.exp(-0.5 / rng.uniform(*_SIGMA, len(chosen)) ** 2)  # against 1 in the centre
    outer = _like(side / (1 + 2 * side), x).view(-1, 1, 1, 1)
    picked = x[chosen]
    rows = F.pad(picked, (0, 0, 1, 1), mode="replicate")
    picked = outer * (rows[:, :, :-2] + rows[:, :, 2:]) + (1 - 2 * outer) * picked
    columns = F.pad(picked, (1, 1, 0, 0), mode="replicate")
    picked = outer * (columns[..., :-2] + columns[..., 2:]) + (1 - 2 * outer) * picked
    return x.index_copy(0, chosen, picked)


def _like(values: np.ndarray, x: Tensor) -> Tensor:
    return torch.from_numpy(values).to(device=x.device, dtype=x.dtype)
