"""What the model sees of a dataset: features of some images, and explicit statistics.

Images are first brought to the resolution at which the networks would be trained, so that detail
that training cannot see does not flatter the dataset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metad2a.datasets import DatasetReport, ImageDataset, draw
from metad2a.datasets.batch import resize
from metad2a.model.backbone import backbone
from metad2a.model.landmarks import CHANCE_RISK, luck

TRAIN_IMAGES = 2000
"""Most training images of the stand-alone protocol; more make no difference to its accuracy."""
TRAIN_SHARE = 0.8
"""Share of a dataset without a split that is trained on."""
RESOLUTION = 32
"""Largest side, in pixels, of the stand-alone protocol."""
BACKBONE_SIDE = 64
"""Side, in pixels, to which images are enlarged for the backbone."""
MAX_IMAGES = 200
MAX_CLASSES = 40
STATISTICS = (
    "log_images",
    "log_classes",
    "balance",
    "log_resolution",
    "gray",
    "contrast",
    "linear_probe_features",
    "kernel_probe_features",
    "kernel_probe_pixels",
    "fisher_ratio",
    "intrinsic_dimension",
)
"""Names of the entries of :attr:`Description.statistics`."""
_PROBES = ("linear_probe_features", "kernel_probe_features", "kernel_probe_pixels")
_PROBE_SIDE = 16
_RIDGES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Description:
    """A dataset as the model sees it.

    ``features``: float32 (n, 1280), ``labels``: int64 (n,) in 0 .. c-1 for the c classes sampled,
    ``statistics``: float32 (:data:`STATISTICS`,).
    """

    features: Tensor
    labels: Tensor
    statistics: Tensor

    @property
    def chance(self) -> bool:
        """Whether the labels cannot be told from the images, as far as simple classifiers see.

        True where none of three is above the largest class's share by more than the luck of the
        best of so many (binomial, Bonferroni).
        """
        n = len(self.labels)
        odds = np.exp([float(self.statistics[STATISTICS.index(name)]) for name in _PROBES])
        hits = round(float(((odds * (n + 1) - 1) / (odds + 1)).max()))
        guess = float(torch.bincount(self.labels).max()) / n
        return luck(hits, n, guess) * len(_PROBES) > CHANCE_RISK


def images_per_class(classes: int) -> int:
    """Return how many images a class are looked at: 20, or fewer where there are many classes."""
    return int(np.clip(MAX_IMAGES // min(classes, MAX_CLASSES), 5, 20))


def describe(dataset: ImageDataset, seed: int) -> tuple[Description, DatasetReport]:
    """Sample a dataset and describe it.

    Args:
        dataset: the dataset; of one with a split, only the training side counts.
        seed: of the sample.

    Raises:
        InputError: see :func:`metad2a.datasets.draw`.
    """
    sample = draw(dataset, seed, images_per_class(len(dataset.classes)), MAX_CLASSES)
    has_split = len(np.unique(dataset.split)) > 1
    training = dataset.labels[dataset.split == 0] if has_split else dataset.labels
    counts = np.bincount(training, minlength=len(dataset.classes)).astype(float)
    if not has_split:
        counts *= TRAIN_SHARE
    side = int(np.clip(np.median(sample.sizes.min(1)), 1, RESOLUTION))
    _, labels = np.unique(sample.labels, return_inverse=True)
    return describe_images(sample.images, labels, counts, side), sample.report


def describe_images(
    images: list[np.ndarray], labels: np.ndarray, counts: np.ndarray, resolution: int
) -> Description:
    """Describe sampled images of a dataset.

    Args:
        images: uint8 (h, w, 3) each.
        labels: int64 (n,), 0 .. c-1.
        counts: float (classes,), training images of every class of the dataset, sampled or not.
        resolution: side, in pixels, at which networks would be trained.
    """
    small = np.stack([resize(image, resolution, resolution) for image in images])
    features = _features(small)
    found = _statistics(small, features.numpy(), labels, counts, resolution)
    return Description(
        features,
        torch.from_numpy(np.asarray(labels, dtype=np.int64)),
        torch.tensor(found, dtype=torch.float32),
    )


@torch.inference_mode()
def _features(images: np.ndarray) -> Tensor:
    """Map uint8 (n, s, s, 3) to float32 (n, 1280)."""
    network = backbone()
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
    x = torch.nn.functional.interpolate(
        x, (BACKBONE_SIDE, BACKBONE_SIDE), mode="bilinear", align_corners=False
    ).contiguous(memory_format=torch.channels_last)
    return torch.cat([network(part) for part in x.split(64)]).clone()


def _statistics(
    images: np.ndarray,
    features: np.ndarray,
    labels: np.ndarray,
    counts: np.ndarray,
    resolution: int,
) -> list[float]:
    kept = counts[counts > 0]
    total, classes = float(kept.sum()), len(kept)
    shares = kept / total
    balance = float(-(shares * np.log(shares)).sum() / np.log(classes)) if classes > 1 else 1.0
    scaled = images.astype(np.float32) / 255
    pixels = (
        np.stack([resize(i, _PROBE_SIDE, _PROBE_SIDE) for i in images])
        .reshape(len(images), -1)
        .astype(np.float32)
        / 255
    )
    return [
        float(np.log10(min(total, TRAIN_IMAGES))),
        float(np.log10(classes)),
        balance,
        float(np.log2(resolution)),
        float((images == images[..., :1]).all()),
        float(scaled.std((1, 2)).mean()),
        _probe(_linear_kernel(features), labels),
        _probe(_radial_kernel(features), labels),
        _probe(_radial_kernel(pixels), labels),
        _fisher_ratio(features, labels),
        _intrinsic_dimension(features),
    ]


def _linear_kernel(rows: np.ndarray) -> np.ndarray:
    """Return float (n, n) inner products of centred rows, of mean 1 on the diagonal."""
    centred = (rows - rows.mean(0)).astype(np.float64)
    gram = centred @ centred.T
    kernel: np.ndarray = gram / (np.trace(gram) / len(gram) + 1e-12)
    return kernel


def _radial_kernel(rows: np.ndarray) -> np.ndarray:
    """Return float (n, n) Gaussian similarities, the median squared distance as their width."""
    gram = _linear_kernel(rows)
    norms = np.diag(gram)
    distances = np.maximum(norms[:, None] + norms[None] - 2 * gram, 0)
    kernel: np.ndarray = np.exp(-distances / (np.median(distances) + 1e-12))
    return kernel


def _probe(kernel: np.ndarray, labels: np.ndarray) -> float:
    """Return how well kernel ridge regression tells an image's class from all the others.

    The leave-one-out accuracy in closed form, of the best of three ridges, as
    ``log((1 + hits) / (1 + misses))``, so that easy datasets stay apart.
    """
    targets = 2 * np.eye(labels.max() + 1)[labels] - 1
    values, basis = np.linalg.eigh(kernel)
    most = 0
    for ridge in _RIDGES:
        hat = (basis * (values / (values + ridge))) @ basis.T
        left_out = targets - (targets - hat @ targets) / (1 - np.diag(hat)[:, None] + 1e-9)
        most = max(most, int((left_out.argmax(1) == labels).sum()))
    return float(np.log((1 + most) / (1 + len(labels) - most)))


def _fisher_ratio(rows: np.ndarray, labels: np.ndarray) -> float:
    """Return log of the variance between class means over that within classes."""
    means = np.stack([rows[labels == c].mean(0) for c in range(labels.max() + 1)])
    within = ((rows - means[labels]) ** 2).sum(1).mean()
    between = ((means - rows.mean(0)) ** 2).sum(1).mean()
    return float(np.log((between + 1e-6) / (within + 1e-6)))


def _intrinsic_dimension(rows: np.ndarray) -> float:
    """Return log of the participation ratio of the features' spectrum."""
    centred = rows - rows.mean(0)
    gram = centred @ centred.T
    return float(np.log(np.trace(gram) ** 2 / ((gram**2).sum() + 1e-9) + 1e-9))
