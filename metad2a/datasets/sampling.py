"""Sampling by index first and decoding second, and the report on what was met.

After the listing, a sample of 500,000 images costs what a sample of 5,000 costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metad2a.datasets.base import ImageDataset
from metad2a.datasets.batch import resize
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.levels import EIGHT_BITS
from metad2a.datasets.quality import Print, compare, print_of
from metad2a.datasets.report import DatasetReport, Skipped, list_skipped
from metad2a.datasets.workers import cores, in_threads
from metad2a.errors import InputError
from metad2a.settings import LIMITS

SAMPLE_SIDE = 256
"""Shorter side, in pixels, to which larger images of a sample are reduced, to bound memory."""
AUDIT_MOST = 1000
"""Most images looked at."""
CHECKED = 3_000
"""Images that :func:`check` decodes, unless it is asked for quality."""
AUDIT_PIXELS = 30_000_000
"""Stored pixels after which no more are looked at than need be."""
_LISTED = 5
_THREADS, _AHEAD = 4, 16
"""Threads that decode a sample, and images that they are asked for in advance."""
_ATTEMPTS = 4
"""Candidates a class, as a multiple of the images wanted of it."""


@dataclass(frozen=True)
class Sample:
    """Some images of a dataset, sorted by class."""

    images: list[np.ndarray]
    """uint8 (height, width, 3) each, the shorter side at most :data:`SAMPLE_SIDE`."""
    sizes: np.ndarray
    """int64 (n, 2): height and width as stored, in pixels."""
    labels: np.ndarray
    """int64 (n,): class indices of the dataset."""
    indices: np.ndarray
    """int64 (n,): which images of the dataset they are."""
    report: DatasetReport


def draw(
    dataset: ImageDataset,
    seed: int,
    per_class: int = 20,
    max_classes: int = 40,
    audit: int = 300,
    indices: np.ndarray | None = None,
) -> Sample:
    """Draw and decode up to ``per_class`` images of up to ``max_classes`` classes.

    An unreadable image is replaced by another one of its class. Beyond the sample, more images
    are looked at until there are ``audit`` of them (or all) and, if they are small, up to
    :data:`AUDIT_MOST`, so that a damaged dataset is noticed.

    Args:
        dataset: where the images come from.
        seed: 0 or greater; the same seed gives the same sample in any process.
        per_class: images wanted of a class; a smaller class gives all that it has.
        max_classes: classes wanted; of more classes a random subset is drawn.
        audit: least number of images to look at.
        indices: int (m,), those that may be in the sample; None: all. Others are only looked at.

    Raises:
        InputError: the dataset is empty, has one class or too many, a class with one readable
            image, or too many unreadable images; or ``seed`` is negative.
    """
    if seed < 0:
        raise InputError(f"seed={seed} is negative; give 0 or a greater integer.")
    counts = _class_counts(dataset)
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(counts))
    if len(counts) > max_classes:
        chosen = np.sort(rng.choice(len(counts), max_classes, replace=False))
    pool = np.arange(len(dataset)) if indices is None else indices
    by_class = pool[np.argsort(dataset.labels[pool], kind="stable")]
    own = np.bincount(dataset.labels[pool], minlength=len(counts))
    ends = np.cumsum(own)
    queues = {
        int(c): rng.permutation(by_class[ends[c] - own[c] : ends[c]])[: _ATTEMPTS * per_class]
        for c in chosen
    }
    tally = _Tally(dataset)
    taken: dict[int, np.ndarray] = {}
    missing = dict.fromkeys(queues, per_class)
    while missing:
        batch: list[int] = []
        for c, wanted in missing.items():
            batch.extend(queues[c][:wanted])
            queues[c] = queues[c][wanted:]
        taken.update(tally.decode(batch))
        had = np.bincount(dataset.labels[list(taken)], minlength=len(counts))
        missing = {
            c: per_class - int(had[c])
            for c, queue in queues.items()
            if len(queue) and had[c] < per_class
        }
    indices = np.array(sorted(taken, key=lambda i: (dataset.labels[i], i)), dtype=np.int64)
    order = rng.permutation(len(dataset))
    rest = order[~np.isin(order, list(tally.sizes) + list(tally.skipped))]
    # Small images are cheap to look at, so more of them are.
    for _ in tally.look(rest[: max(AUDIT_MOST - tally.checked, 0)]):
        if tally.checked >= audit and tally.pixels >= AUDIT_PIXELS:
            break
    report = tally.report(counts)
    labels = dataset.labels[indices].astype(np.int64)
    report = _thinned(dataset, chosen, np.bincount(labels, minlength=len(counts)), report)
    sizes = np.array([tally.sizes[int(i)] for i in indices], dtype=np.int64)
    return Sample([taken[int(i)] for i in indices], sizes, labels, indices, report)


def check(dataset: ImageDataset, progress: bool = False, quality: bool = False) -> DatasetReport:
    """Decode the images of a dataset and report on it.

    Of a large dataset :data:`CHECKED` images are decoded, evenly spread, so that the answer is
    there within seconds.

    Args:
        dataset: what to look through.
        progress: show a bar on standard error.
        quality: decode every image, and look for copies and pictures alike among them.

    Raises:
        InputError: as in :func:`draw`.
    """
    from tqdm.auto import tqdm

    counts = _class_counts(dataset)
    tally = _Tally(dataset, quality)
    looked = np.arange(len(dataset))
    if not quality and len(dataset) > CHECKED:
        looked = np.linspace(0, len(dataset) - 1, CHECKED).astype(np.int64)
    bar = tqdm(total=len(looked), unit="image", disable=not progress)
    for _ in tally.look(looked):
        bar.update()
    bar.close()
    report = tally.report(counts)
    readable = counts - np.bincount(
        dataset.labels[list(tally.skipped)].astype(np.int64), minlength=len(counts)
    )
    return _thinned(dataset, np.arange(len(counts)), readable, report)


@dataclass(frozen=True)
class _Met:
    """What is kept of an image that was looked at."""

    image: np.ndarray
    size: tuple[int, int]
    """Height and width as stored, in pixels."""
    gray: bool
    print: Print | None


class _Tally:
    """Decodes images and counts what comes out.

    Args:
        dataset: where they come from.
        compares: whether copies and pictures alike are looked for.
    """

    def __init__(self, dataset: ImageDataset, compares: bool = True) -> None:
        self.dataset, self.compares = dataset, compares
        self.prints: dict[int, Print] = {}
        self.sizes: dict[int, tuple[int, int]] = {}
        self.skipped: dict[int, Skipped] = {}
        self.pixels = 0
        self._gray = True

    @property
    def checked(self) -> int:
        return len(self.sizes) + len(self.skipped)

    def look(self, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield each index with its image, reduced if large, or None if it is unreadable."""
        numbers = [int(number) for number in indices]
        for index, met in zip(numbers, self._met(numbers), strict=True):
            if isinstance(met, Skipped):
                self.skipped[index] = met
                yield index, None
                continue
            self.sizes[index] = met.size
            self.pixels += met.size[0] * met.size[1]
            self._gray = self._gray and met.gray
            if met.print is not None:
                self.prints[index] = met.print
            yield index, met.image

    def _met(self, indices: Sequence[int]) -> Iterator[_Met | Skipped]:
        """Decode images in their order, where the dataset allows it on several cores."""
        if not self.dataset.threads or cores() == 1:
            yield from map(self._meet, indices)
            return
        yield from in_threads(self._meet, indices, min(cores(), _THREADS), _AHEAD)

    def _meet(self, index: int) -> _Met | Skipped:
        try:
            image, size = self.dataset.reduced(index, SAMPLE_SIDE)
        except UnreadableImage as error:
            return Skipped(self.dataset.locate(index), str(error))
        image = _shrink(image)
        gray = bool((image == image[:, :, :1]).all())
        return _Met(image, size, gray, print_of(image) if self.compares else None)

    def decode(self, indices: Iterable[int]) -> dict[int, np.ndarray]:
        """Return the readable images, read in the order of storage."""
        looked = self.look(sorted(indices))
        return {index: image for index, image in looked if image is not None}

    def report(self, counts: np.ndarray) -> DatasetReport:
        """Sum up; ``counts`` is int (classes,), the images listed of each class.

        Raises:
            InputError: too large a share of the images looked at is unreadable.
        """
        skipped = tuple(self.skipped[index] for index in sorted(self.skipped))
        share, limit = len(skipped) / self.checked, self.dataset.limits.unreadable_share
        if share > limit:
            raise InputError(
                f"{len(skipped):,} of the {self.checked:,} images looked at are unreadable "
                f"({100 * share:.1f} %, at most {100 * limit:g} % may be): "
                f"{list_skipped(skipped)}. Replace or remove these files."
            )
        dataset, sides = self.dataset, np.array(list(self.sizes.values()))
        small, large = int(counts.argmin()), int(counts.argmax())
        tests = np.bincount(dataset.labels[dataset.split == 1], minlength=len(counts))
        test = int(tests.sum())
        return DatasetReport(
            name=dataset.name,
            form=dataset.form,
            images=len(dataset) - len(skipped),
            classes=len(counts),
            skipped=skipped,
            checked=self.checked,
            smallest_class=(dataset.classes[small], int(counts[small])),
            largest_class=(dataset.classes[large], int(counts[large])),
            sizes=(int(sides.min()), int(np.median(sides)), int(sides.max())),
            gray=self._gray,
            split=(len(dataset) - test, test),
            notes=(
                *dataset.notes,
                *_levels_told(dataset),
                *_many_unreadable(len(skipped), share),
                *_on_one_side(dataset, counts - tests, tests),
            ),
            quality=compare(dataset, self.prints) if self.compares else None,
            class_counts=tuple(
                zip(dataset.classes, (counts - tests).tolist(), tests.tolist(), strict=True)
            ),
            unused=dataset.unused,
            layouts=dataset.layouts,
            other_files=tuple(dataset.kinds.items()),
        )


def _levels_told(dataset: ImageDataset) -> tuple[str, ...]:
    return () if dataset.decided in (None, EIGHT_BITS) else (str(dataset.decided),)


def _on_one_side(dataset: ImageDataset, train: np.ndarray, test: np.ndarray) -> tuple[str, ...]:
    """Tell of classes that are only for training, or only for validation or test."""
    if not (train.any() and test.any()):
        return ()
    told = []
    for other, where in ((train, "validation or test"), (test, "training")):
        lone = np.flatnonzero(other == 0)
        if len(lone):
            listed = ", ".join(repr(dataset.classes[c]) for c in lone[:_LISTED])
            more = f" and {len(lone) - _LISTED:,} more" if len(lone) > _LISTED else ""
            told.append(f"Warning: only for {where} there are images of {listed}{more}.")
    return tuple(told)


def _many_unreadable(skipped: int, share: float) -> tuple[str, ...]:
    if share <= LIMITS.unreadable_share:
        return ()
    return (
        f"Warning: {skipped:,} of the images looked at, {100 * share:.1f} %, are unreadable and "
        "left out. Are the files whole?",
    )


def _shrink(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = SAMPLE_SIDE / min(height, width)
    if scale >= 1:
        return image
    return resize(image, round(height * scale), round(width * scale))


def _class_counts(dataset: ImageDataset) -> np.ndarray:
    """Return int64 (classes,), the images listed of each class, if they can be learnt from."""
    least, most, images = LIMITS.min_classes, LIMITS.max_classes, LIMITS.min_class_images
    if not len(dataset):
        raise InputError(
            f"{dataset.name!r} holds no image. Give at least {images} images of each "
            f"of at least {least} classes."
        )
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    if len(counts) < least:
        raise InputError(
            f"{dataset.name!r} has 1 class, {dataset.classes[0]!r}; at least {least} "
            "are needed. Add images of another class, or give the folder above."
        )
    if len(counts) > most:
        raise InputError(
            f"{dataset.name!r} has {len(counts):,} classes, more than the limit of "
            f"{most:,}. Leave some out. Are these the labels, not the names of the "
            "images?"
        )
    _refuse_thin_classes(dataset, np.arange(len(counts)), counts)
    return counts


def _thinned(
    dataset: ImageDataset, classes: np.ndarray, readable: np.ndarray, report: DatasetReport
) -> DatasetReport:
    """Tell of classes that unreadable images have left too few of, or refuse a stranger's."""
    try:
        _refuse_thin_classes(dataset, classes, readable)
    except InputError as error:
        enough = (readable[classes] >= LIMITS.min_class_images).sum() >= LIMITS.min_classes
        if dataset.limits == LIMITS or not enough:
            raise
        return replace(report, notes=(*report.notes, f"Warning: {error}"))
    return report


def _refuse_thin_classes(dataset: ImageDataset, classes: np.ndarray, counts: np.ndarray) -> None:
    least = LIMITS.min_class_images
    thin = [int(c) for c in classes if counts[c] < least]
    if thin:
        others = f" (and {len(thin) - 1:,} other classes as few)" if len(thin) > 1 else ""
        raise InputError(
            f"Class {dataset.classes[thin[0]]!r} has {counts[thin[0]]} readable "
            f"image{'' if counts[thin[0]] == 1 else 's'}{others}; at least {least} are needed. "
            "Add images, or remove the class."
        )
