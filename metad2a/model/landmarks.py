"""Landmarks: what frozen features of a pretrained network tell of a dataset's labels.

Cheap measurements of a task that say how others will come out on it (Pfahringer, Bensusan and
Giraud-Carrier, "Meta-learning by landmarking various learning algorithms", ICML 2000): here the
leave-one-out accuracy of a closed-form head on the pooled output of each stage of EfficientNet-Lite0
at a few resolutions. They say how hard a dataset is, which resolution and which depth it asks for,
and whether its labels can be told from the images at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metad2a.datasets.base import ImageDataset
from metad2a.datasets.decode import UnreadableImage, square
from metad2a.datasets.quality import DOUBTS, Doubt
from metad2a.datasets.report import DatasetReport
from metad2a.datasets.sampling import SAMPLE_SIDE, draw
from metad2a.errors import InputError
from metad2a.model.backbone import backbone
from metad2a.model.ridge import RidgeHead, fit_ridge

RESOLUTIONS = (32, 64, 128, 224)
"""Sides of the squares, in pixels, at which features are measured."""
HEAD = 8
"""Number of the head (a 1x1 convolution to 1,280 channels) among the stages."""
STAGES = (2, 3, 4, 5, 6, 7, HEAD)
"""Stages whose pooled outputs are measured."""
IMAGES = 240
"""Images measured, about."""
MAX_CLASSES = 40
"""Classes measured; of more a random subset."""
LEAST_PER_CLASS = 5
"""Images of a class, at least, where it has so many."""
LARGE_IMAGES = 84
"""Images measured at the largest resolution, which costs as much as all the others."""
_LARGE_FROM = 112
"""Shorter side, in pixels, from which images are measured at the largest resolution."""
_FLIP_RESOLUTION = 64
_FLIP_STAGES = (3, 4, 5)
_CHIRAL_STAGE = 4
_FLIP_HARM = 0.08
_CHIRAL = 0.65
_GROWTH = ((64, 5), (64, HEAD), (128, 7), (128, HEAD))
"""Where it is measured what half the images are worth."""
TEST_IMAGES = 120
"""Images of the dataset's own test side that are held against the training images."""
_LEAST_TEST = 10
_SHIFTED, _APART = 0.5, 0.2
"""Beyond what test sides of the same kind show by chance (a deviation of 0.2 and 0.05); eight of 65
datasets are."""
CHANCE_RISK = 0.01
"""Share of datasets with random labels that are taken for more than that."""
MOST_JUDGED = 2_000
"""Images whose labels are held against one another where quality is asked for."""
_JUDGED_AT = 96
_TRUSTED, _SURE = 0.6, 0.8
"""Accuracy from which a head is asked which labels are wrong, and how sure it must be, 0..1."""
# A coarser grid than the head's own: thirty fits must not take longer than the network.
_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)
_SCALES = (4.0, 8.0, 16.0, 32.0)
_BATCH_PIXELS = 2**19
_REMEMBERED = 16
_remembered: dict[bytes, tuple[Landmarks, RidgeHead]] = {}


@dataclass(frozen=True)
class Landmarks:
    """What was measured of a dataset: of its training images, but for the last two."""

    accuracy: np.ndarray
    """float64 (:data:`RESOLUTIONS`, :data:`STAGES`), leave-one-out, 0..1; NaN where not measured.
    At the largest resolution it is brought to ``count`` images by what the resolution before it
    reaches on the few images that were measured there."""
    count: int
    """Images measured."""
    classes: int
    """Classes of the dataset."""
    sampled: int
    """Classes measured."""
    guess: float
    """Accuracy, 0..1, of always naming the largest class measured."""
    images: int
    """Training images of the dataset."""
    largest: float
    """Share, 0..1, of the largest class among them."""
    balance: float
    """Entropy of the class shares over its largest value, 0..1."""
    side: int
    """Median shorter side of the images as stored, in pixels."""
    gray: bool
    flip_loss: float
    """How much lower a head fitted on images scores on mirrored ones, in accuracy, -1..1."""
    chirality: float
    """How often images are told from their mirror images, 0.5..1."""
    growth: float
    """Logit accuracy gained from half of the images measured to all, mean over some landmarks."""
    between: float
    """Share of the variance of the head's features, 0..1, that lies between classes."""
    alike: float
    """Logarithm of the distance to the nearest other image over the usual distance, median: very
    low where frames of one film are among the images, so that accuracies flatter."""
    shift: float
    """By how much the head is less sure of test images than of training images it has not seen, in
    logits of its mean confidence (compare Garg et al., "Leveraging unlabeled data to predict
    out-of-distribution performance", ICLR 2022); 0 where the test side is drawn from the same
    images, or was not measured. Labels of test images are not looked at."""
    apart: float
    """How much farther from the training images test images are than those are from one another:
    logarithm of the ratio of the median distances to the nearest; 0 as above."""

    @property
    def distance(self) -> np.ndarray:
        """Distances from chance, float64 of the shape of ``accuracy``, in logits.

        Half a hit is added to right and to wrong ones, so that they stay finite.
        """
        hits = self.accuracy * self.count
        logits: np.ndarray = np.log(hits + 0.5) - np.log(self.count - hits + 0.5)
        return logits - _logit(self.guess)

    @cached_property
    def chance(self) -> bool:
        """Whether the labels cannot be told from the images as far as was measured.

        True where no landmark is above the largest class's share by more than the luck of the best
        of so many (binomial, Bonferroni).
        """
        measured = self.accuracy[~np.isnan(self.accuracy)]
        hits = round(float(measured.max()) * self.count)
        return luck(hits, self.count, self.guess) * len(measured) > CHANCE_RISK

    @property
    def flips_harm(self) -> bool:
        """Whether training should not mirror images.

        True where classes change by it (letters), and where mirrored images are never met (playing
        cards), so that they teach nothing.
        """
        return self.flip_loss > _FLIP_HARM or self.chirality > _CHIRAL

    @property
    def shifted(self) -> bool:
        """Whether test images look to be of another kind than those that train."""
        return self.shift > _SHIFTED or self.apart > _APART

    def of_training(self) -> Landmarks:
        """Return the same without what test images said, which nothing may be chosen by."""
        return dataclasses.replace(self, shift=0.0, apart=0.0)

    def near(self, resolution: float, stage: float) -> float:
        """Return the distance from chance, in logits, expected of features anywhere.

        It is interpolated in the logarithm of the resolution, and between stages; beyond what was
        measured it stays what it was.

        Args:
            resolution: side in pixels.
            stage: 2 .. 8, where 8 is the head.
        """
        here = self.distance
        measured = ~np.isnan(here[:, 0])
        sides = np.log(np.array(RESOLUTIONS)[measured])
        by_stage = [np.interp(math.log(resolution), sides, column) for column in here[measured].T]
        return float(np.interp(stage, STAGES, by_stage))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, which :meth:`from_dict` reads; what was not measured is None."""
        rows = [[None if math.isnan(x) else round(x, 6) for x in row] for row in self.accuracy]
        return asdict(self) | {"accuracy": rows}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Landmarks:
        """Read what :meth:`to_dict` returned.

        Raises:
            InputError: keys are missing or unknown, or the accuracies have another shape.
        """
        names = [field.name for field in fields(cls)]
        if set(values) != set(names):
            raise InputError(
                f"Landmarks have the keys {', '.join(names)}; these are other ones: "
                f"{', '.join(sorted(set(values) ^ set(names)))}. Measure them again."
            )
        rows = np.array(values["accuracy"], dtype=np.float64)
        if rows.shape != (len(RESOLUTIONS), len(STAGES)):
            raise InputError(
                f"Landmarks of {len(RESOLUTIONS)} resolutions and {len(STAGES)} stages are wanted, "
                f"not an array of shape {rows.shape}. Measure them again."
            )
        return cls(**{**values, "accuracy": rows})


def at_chance(
    n: int, largest: float, guess: float, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Return what is expected of ``n`` networks where labels cannot be told from the images.

    Args:
        n: of them.
        largest: share, 0..1, of the largest class among the training images.
        guess: accuracy, 0..1, of always naming the largest class of those looked at.
        count: images looked at.

    Returns:
        Accuracy and its bounds in percent, float64 (n,) each, and what must be known.
    """
    sure = 3 * math.sqrt(guess * (1 - guess) / count)
    mean, low, high = (
        np.full(n, 100 * share)
        for share in (largest, max(0.0, largest - sure), min(1.0, largest + sure))
    )
    note = (
        f"The labels cannot be told from the images: on {count} of them no features do better than "
        "always naming the largest class. Are the labels right?"
    )
    return mean, low, high, note


def per_class(classes: int) -> int:
    """Return how many images of a class are measured, where there are so many classes."""
    return max(LEAST_PER_CLASS, round(IMAGES / min(classes, MAX_CLASSES)))


def of_dataset(
    dataset: ImageDataset,
    indices: np.ndarray | None = None,
    seed: int = 0,
    test: np.ndarray | None = None,
) -> Landmarks:
    """Measure some images of a dataset, stratified by class.

    Args:
        dataset: where they come from.
        indices: int (m,), the images that count; None: all of the training side.
        seed: of the sample.
        test: int (k,), the test side, where it may be of another kind than the training side.

    Raises:
        InputError: fewer than 2 classes have 2 readable images.
    """
    indices = np.flatnonzero(dataset.split == 0) if indices is None else np.asarray(indices)
    own = dataset.labels[indices]
    counts = np.bincount(own, minlength=len(dataset.classes)).astype(float)
    rng = np.random.default_rng(seed)
    usable = np.flatnonzero(counts >= 2)
    chosen = np.sort(rng.permutation(usable)[:MAX_CLASSES])
    wanted = per_class(len(usable))
    picked = [rng.permutation(indices[own == c])[:wanted] for c in chosen]
    images, labels, sides = [], [], []
    for index in np.sort(np.concatenate([*picked, np.empty(0, dtype=np.int64)])):
        try:
            image, size = dataset.reduced(int(index), SAMPLE_SIDE)
        except UnreadableImage:
            continue
        images.append(image)
        labels.append(int(dataset.labels[index]))
        sides.append(min(size))
    kept, labelled = np.unique(labels, return_inverse=True)
    if len(kept) < 2:
        raise InputError(
            f"{dataset.name!r} has {len(kept)} classes of 2 readable training images or more; at "
            "least 2 are needed. Add images."
        )
    other = OtherSide.of(dataset, test, indices, np.concatenate(picked), seed)
    return measure(images, labelled, counts, float(np.median(sides)), other)


@dataclass(frozen=True)
class OtherSide:
    """Some images of a dataset's own test side, whose labels are not known here."""

    images: Sequence[np.ndarray] = ()
    """uint8 (h, w, 3) each."""
    unknown: Sequence[np.ndarray] = ()
    """Training images of classes that are not measured and that the head does not know, where there
    are many classes: test images are of those too."""
    known: float = 1.0
    """Share of the training images, 0..1, that are of classes measured."""

    @classmethod
    def of(
        cls,
        dataset: ImageDataset,
        test: np.ndarray | None,
        train: np.ndarray,
        measured: np.ndarray,
        seed: int,
    ) -> OtherSide:
        """Decode up to :data:`TEST_IMAGES` of each kind; of too few nothing is told.

        Args:
            dataset: where they come from.
            test: int (k,), images of the test side; None: it is of the same kind.
            train: int (m,), images of the training side.
            measured: int (n,), those of them that are measured.
            seed: of the draw.
        """
        if test is None:
            return cls()

        def drawn(indices: np.ndarray) -> list[np.ndarray]:
            chosen = np.random.default_rng([seed, 5]).permutation(indices)[:TEST_IMAGES]
            images = []
            for index in np.sort(chosen):
                with contextlib.suppress(UnreadableImage):
                    images.append(dataset.reduced(int(index), SAMPLE_SIDE)[0])
            return images

        images = drawn(test)
        if len(images) < _LEAST_TEST:
            return cls()
        labels = dataset.labels[train]
        known = np.isin(labels, dataset.labels[measured])
        return cls(images, drawn(train[~known]), float(known.mean()))


def described(
    dataset: ImageDataset, indices: np.ndarray, seed: int = 0, test: np.ndarray | None = None
) -> tuple[Landmarks, DatasetReport]:
    """Measure some images of a dataset, and report on all that was read of it.

    The arguments are those of :func:`of_dataset`.

    Raises:
        InputError: see :func:`metad2a.datasets.sampling.draw`.
    """
    wanted = per_class(len(dataset.classes))
    sample = draw(dataset, seed, wanted, MAX_CLASSES, indices=indices)
    counts = np.bincount(dataset.labels[indices], minlength=len(dataset.classes)).astype(float)
    _, labels = np.unique(sample.labels, return_inverse=True)
    side = float(np.median(sample.sizes.min(1)))
    other = OtherSide.of(dataset, test, indices, sample.indices, seed)
    marks, best = _measured(sample.images, labels, counts, side, other)
    return marks, _doubted(sample.report, dataset, sample.indices, best)


def with_doubts(dataset: ImageDataset, report: DatasetReport, seed: int = 0) -> DatasetReport:
    """Return a report on a dataset's quality with its labels in doubt.

    The labels of up to :data:`MOST_JUDGED` images of both sides are held against one another.

    Args:
        dataset: where the images come from.
        report: with :attr:`DatasetReport.quality`.
        seed: of the sample.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(dataset))
    turn = np.empty(len(dataset), dtype=np.int64)
    for label in range(len(dataset.classes)):
        mine = order[dataset.labels[order] == label]
        turn[mine] = np.arange(len(mine))
    squares, kept = [], []
    for index in np.sort(np.argsort(turn, kind="stable")[:MOST_JUDGED]):
        with contextlib.suppress(UnreadableImage):
            squares.append(dataset.square(int(index), _JUDGED_AT))
            kept.append(int(index))
    present, labels = np.unique(dataset.labels[kept], return_inverse=True)
    if len(present) < 2:
        return report
    targets = torch.from_numpy(labels.astype(np.int64))
    heads = [_fit(one, targets, len(present)) for one in pooled(np.stack(squares))]
    best = max(heads, key=lambda head: head.accuracy)
    return _doubted(report, dataset, np.array(kept), best)


def _doubted(
    report: DatasetReport, dataset: ImageDataset, indices: np.ndarray, best: RidgeHead
) -> DatasetReport:
    """Return the report with the labels that the best head is sure are others.

    Args:
        report: on the dataset.
        dataset: the dataset.
        indices: int64 (n,), images measured, of c classes in the order of their numbers.
        best: what was fitted to them.
    """
    if report.quality is None:
        return report
    present, labels = np.unique(dataset.labels[indices], return_inverse=True)
    guess = float(np.bincount(labels).max()) / len(labels)
    doubts: tuple[Doubt, ...] = ()
    if best.accuracy >= max(_TRUSTED, 1.5 * guess):
        chances = best.left_out.softmax(1).numpy()
        own = chances[np.arange(len(labels)), labels]
        likelier = chances.argmax(1)
        sure = np.flatnonzero((likelier != labels) & (chances.max(1) >= _SURE))
        doubts = tuple(
            Doubt(
                int(indices[i]),
                dataset.locate(int(indices[i])),
                dataset.classes[present[labels[i]]],
                dataset.classes[present[likelier[i]]],
                round(float(chances[i, likelier[i]]), 4),
            )
            for i in sure[np.argsort(own[sure], kind="stable")][:DOUBTS]
        )
    quality = dataclasses.replace(report.quality, judged=len(labels), doubts=doubts)
    return dataclasses.replace(report, quality=quality)


def measure(
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    counts: np.ndarray,
    side: float,
    other: OtherSide = OtherSide(),
) -> Landmarks:
    """Measure sampled images.

    Args:
        images: uint8 (h, w, 3) each, of any sizes.
        labels: int64 (n,), 0 .. c-1 for the c classes sampled, c >= 2, n >= 2.
        counts: float (classes,), training images of every class of the dataset, sampled or not.
        side: median shorter side of the images as stored, in pixels.
        other: images of the test side; none: it is of the same kind.
    """
    return _measured(images, labels, counts, side, other)[0]


def _measured(
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    counts: np.ndarray,
    side: float,
    other: OtherSide,
) -> tuple[Landmarks, RidgeHead]:
    """Return the landmarks, and the head of the best among those of all images.

    The last few samples are remembered by their content: whoever moves a limit, or trains what was
    suggested, asks about the same images again.
    """
    facts = (side, counts.tolist(), labels.tolist(), len(other.images))
    digest = hashlib.blake2b(repr(facts).encode())
    for image in (*images, *other.images, *other.unknown):
        digest.update(repr(image.shape).encode() + image.tobytes())
    found = _remembered.get(digest.digest())
    if found is None:
        found = _remembered[digest.digest()] = _measure(images, labels, counts, side, other)
        for oldest in list(_remembered)[:-_REMEMBERED]:
            _remembered.pop(oldest, None)
    return found


def _measure(
    images: Sequence[np.ndarray],
    labels: np.ndarray,
    counts: np.ndarray,
    side: float,
    other: OtherSide,
) -> tuple[Landmarks, RidgeHead]:
    n, targets = len(images), torch.from_numpy(np.asarray(labels, dtype=np.int64))
    classes = int(targets.max()) + 1
    large = _subset(np.asarray(labels), LARGE_IMAGES) if side > _LARGE_FROM else np.empty(0, int)
    accuracy = np.full((len(RESOLUTIONS), len(STAGES)), np.nan)
    features: dict[int, list[Tensor]] = {}
    fitted: list[RidgeHead] = []
    for row, resolution in enumerate(RESOLUTIONS[:-1]):
        squares = np.stack([square(image, resolution) for image in images])
        features[resolution] = pooled(squares)
        heads = [_fit(one, targets, classes) for one in features[resolution]]
        accuracy[row] = [found.accuracy for found in heads]
        fitted += heads
        if resolution == _FLIP_RESOLUTION:
            mirrored = pooled(np.ascontiguousarray(squares[:, :, ::-1]), _FLIP_STAGES)
    if len(large):
        squares = np.stack([square(images[i], RESOLUTIONS[-1]) for i in large])
        few = torch.from_numpy(large)
        for column, (one, before) in enumerate(
            zip(pooled(squares), features[RESOLUTIONS[-2]], strict=True)
        ):
            gain = _logit(_left_out(one, targets[few], classes), len(large))
            gain -= _logit(_left_out(before[few], targets[few], classes), len(large))
            accuracy[-1, column] = _expit(_logit(accuracy[-2, column], n) + gain)
    flip_loss, chirality = _flips(features[_FLIP_RESOLUTION], mirrored, targets, classes)
    kept = counts[counts > 0]
    shares = kept / kept.sum()
    head = features[RESOLUTIONS[-2]][-1]
    shift, apart = _shifted(head, heads[-1], other) if other.images else (0.0, 0.0)
    marks = Landmarks(
        accuracy=accuracy,
        count=n,
        classes=len(kept),
        sampled=classes,
        guess=float(np.bincount(labels).max()) / n,
        images=round(float(kept.sum())),
        largest=float(shares.max()),
        balance=float(-(shares * np.log(shares)).sum() / np.log(len(kept))),
        side=round(side),
        gray=all(bool((image == image[..., :1]).all()) for image in images),
        flip_loss=flip_loss,
        chirality=chirality,
        growth=_growth(features, targets, classes),
        between=_between(head, targets, classes),
        alike=_alike(head),
        shift=shift,
        apart=apart,
    )
    return marks, max(fitted, key=lambda found: found.accuracy)


@torch.inference_mode()
def pooled(images: np.ndarray, stages: Sequence[int] = STAGES) -> list[Tensor]:
    """Map uint8 (n, s, s, 3) to what each of the ``stages`` says: float32 (n, channels) each.

    Stages beyond the last one that is asked for are not computed.
    """
    network: Any = backbone(same=True)
    found: dict[int, list[Tensor]] = {stage: [] for stage in stages}
    size = max(1, _BATCH_PIXELS // images.shape[1] ** 2)
    for part in torch.from_numpy(images).split(size):
        x = part.permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        x = network.stem(x.contiguous(memory_format=torch.channels_last))
        for number, part_of_it in enumerate((*network.stages, network.head), start=1):
            if number > max(stages):
                break
            x = part_of_it(x)
            if number in found:
                found[number].append(x.mean((2, 3)))
    return [torch.cat(parts) for parts in found.values()]


def _fit(features: Tensor, labels: Tensor, classes: int) -> RidgeHead:
    return fit_ridge(features, labels, classes, penalties=_PENALTIES, scales=_SCALES)


def _left_out(features: Tensor, labels: Tensor, classes: int) -> float:
    return _fit(features, labels, classes).accuracy


def _subset(labels: np.ndarray, most: int) -> np.ndarray:
    """Return int64 (m,) rows, the first of every class, then the second, up to ``most``."""
    turn = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        mine = np.flatnonzero(labels == label)
        turn[mine] = np.arange(len(mine))
    return np.sort(np.argsort(turn, kind="stable")[:most])


def _halves(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Split into two halves with the same classes, every other image of a class each."""
    turn = torch.empty_like(labels)
    for label in labels.unique():
        mine = (labels == label).nonzero()[:, 0]
        turn[mine] = torch.arange(len(mine))
    return (turn % 2 == 0).nonzero()[:, 0], (turn % 2 == 1).nonzero()[:, 0]


def _flips(
    features: Sequence[Tensor], mirrored: Sequence[Tensor], labels: Tensor, classes: int
) -> tuple[float, float]:
    """Return what mirroring costs in accuracy, and how well mirror images are told from images.

    Both by heads of each half of the images on the other half, at shallow stages, which see which
    way round things are; the deep ones have learnt not to. Source of the second: Lin, Sun, Davis and
    Snavely, "Visual Chirality", CVPR 2020.
    """
    first, second = _halves(labels)
    halves = [(a, b) for a, b in ((first, second), (second, first)) if len(a) > 1]
    losses = []
    shallow = [features[STAGES.index(stage)] for stage in _FLIP_STAGES]
    for own, other in zip(shallow, mirrored, strict=True):
        for fit, judged in halves:
            head = _fit(own[fit], labels[fit], classes)
            right, still = (
                (x[judged] @ head.weight.T + head.bias).argmax(1) == labels[judged]
                for x in (own, other)
            )
            losses.append(float((right.float() - still.float()).mean()))
    own, other = (x[_FLIP_STAGES.index(_CHIRAL_STAGE)] for x in (shallow, mirrored))
    told = []
    for fit, judged in halves:
        sides = torch.arange(2 * len(fit)) // len(fit)
        head = _fit(torch.cat([own[fit], other[fit]]), sides, 2)
        logits = torch.cat([own[judged], other[judged]]) @ head.weight.T + head.bias
        right = logits.argmax(1) == torch.arange(2 * len(judged)) // len(judged)
        told.append(float(right.float().mean()))
    return float(np.mean(losses)), max(0.5, float(np.mean(told)))


def _growth(features: Mapping[int, Sequence[Tensor]], labels: Tensor, classes: int) -> float:
    gains = []
    for resolution, stage in _GROWTH:
        x = features[resolution][STAGES.index(stage)]
        whole = _logit(_left_out(x, labels, classes), len(labels))
        halves = [
            _logit(_left_out(x[rows], labels[rows], classes), len(rows))
            for rows in _halves(labels)
            if len(rows) >= 2
        ]
        gains.append(whole - sum(halves) / len(halves))
    return float(np.mean(gains))


def _between(features: Tensor, labels: Tensor, classes: int) -> float:
    x = features - features.mean(0)
    sums = torch.zeros(classes, x.shape[1]).index_add_(0, labels, x)
    means = sums / torch.bincount(labels, minlength=classes).clamp_min(1)[:, None]
    return float((means[labels] ** 2).sum() / ((x**2).sum() + 1e-12))


def _shifted(features: Tensor, head: RidgeHead, side: OtherSide) -> tuple[float, float]:
    """Return :attr:`Landmarks.shift` and :attr:`Landmarks.apart` of a test side."""

    def told(images: Sequence[np.ndarray]) -> Tensor:
        """Return float32 (n, 2): confidence, and distance to the nearest image measured."""
        squares = np.stack([square(image, RESOLUTIONS[-2]) for image in images])
        (found,) = pooled(squares, (HEAD,))
        near = torch.cdist(found, features).min(1).values
        return torch.stack([_confidence(found @ head.weight.T + head.bias), near], dim=1)

    near = torch.cdist(features, features).fill_diagonal_(math.inf).min(1).values
    usual = torch.stack([_confidence(head.left_out), near], dim=1)
    if len(side.unknown):
        # As many of either kind as there are among training images.
        ratio, unknown = side.known / (1 - side.known), told(side.unknown)
        kept = max(1, min(len(usual), round(len(unknown) * ratio)))
        usual = usual[torch.linspace(0, len(usual) - 1, kept).long()]
        usual = torch.cat([usual, unknown[: max(1, round(kept / ratio))]])
    strange = told(side.images)
    sure = [_logit(float(one[:, 0].mean().clamp(0.02, 0.98))) for one in (usual, strange)]
    far = [one[:, 1].median() + 1e-6 for one in (usual, strange)]
    return sure[0] - sure[1], float(torch.log(far[1] / far[0]))


def _confidence(logits: Tensor) -> Tensor:
    return logits.softmax(1).max(1).values


def _alike(features: Tensor) -> float:
    apart = torch.cdist(features, features)
    usual = apart.median()
    apart.fill_diagonal_(math.inf)
    return float(torch.log((apart.min(1).values + 1e-3 * usual + 1e-9) / (usual + 1e-9)).median())


def _logit(share: float, count: float = math.inf) -> float:
    """Return the logit of a share of ``count``, with half a hit added to either side."""
    part = 0.5 / count
    return math.log(share + part) - math.log(1 - share + part)


def _expit(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def luck(hits: int, count: int, share: float) -> float:
    """Return the chance of ``hits`` or more in ``count`` tries that succeed with ``share``."""
    if not 0 < share < 1:
        return 1.0
    logs = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(share)
        + (count - k) * math.log(1 - share)
        for k in range(hits, count + 1)
    ]
    return min(1.0, sum(map(math.exp, logs)))
