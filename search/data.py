"""A task's images: decoded on demand for labellers, or squares of one size for searches."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from metad2a.datasets import ImageDataset, pixels
from metad2a.datasets.base import EncodedDataset
from metad2a.datasets.batches import RESIDENT_BYTES, Batches
from metad2a.datasets.decode import UnreadableImage
from metad2a.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

MOST_IMAGES = 50_000
"""Most images that a search in a space of cells keeps in memory."""
_LEAST = 2  # images of a class: one to train on, one to hold out
_HASHED = 1000  # images at a time
_KEPT = 4  # decoded sides of a task: networks are measured in order of resolution


class _Indexed:
    """What is indexed as a tensor of images would be, but made when it is asked for."""

    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images at int64 (m,) positions."""
        raise NotImplementedError

    def split(self, size: int) -> Iterator[Tensor]:
        """Yield all images in their order, so many at a time."""
        import torch

        for positions in torch.arange(len(self)).split(size):
            yield self[positions]


class Squares(_Indexed):
    """More squares, uint8 (n, 3, side, side), than memory should hold: they lie in a file."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.shape = (len(batches), 3, batches.resolution, batches.resolution)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return uint8 (m, 3, side, side)."""
        return self._batches.take(index)


class Standardised(_Indexed):
    """Images of a task as networks take them: :meth:`TaskData.standardised`.

    As floats they are four times as large, and never all of them are wanted at once.
    """

    def __init__(
        self, data: TaskData, images: Tensor | Squares, device: torch.device | str
    ) -> None:
        self.data, self.device, self.shape = data, device, tuple(images.shape)
        self._images = images if isinstance(images, Squares) else images.to(device)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return float32 (m, 3, side, side) on the device."""
        return self.data.standardised(self._images[index], self.device)


@dataclass(frozen=True)
class TaskData:
    """Train and test images of one classification task.

    ``train_x``, ``test_x``, ``report_x``: uint8 (n, 3, side, side); ``train_y``, ``test_y``,
    ``report_y``: int64 (n,) in ``range(classes)``.
    """

    train_x: Tensor | Squares
    train_y: Tensor
    test_x: Tensor | Squares
    test_y: Tensor
    classes: int
    names: tuple[str, ...] = ()
    """Of the classes, where they are known."""
    normal: tuple[float, float] | None = None
    """What pretrained networks take from pixels (0..1), and divide them by; None: statistics."""
    flip: bool = False
    """Whether a mirrored image is as good as its original."""
    report_x: Tensor | Squares | None = None
    """Images that neither train nor choose: what a search reports is measured on them."""
    report_y: Tensor | None = None

    def reported(self) -> tuple[Tensor | Squares, Tensor]:
        """Return images and labels of the third side, or where there is none, of the test side."""
        if self.report_x is None or self.report_y is None:
            return self.test_x, self.test_y
        return self.report_x, self.report_y

    def fingerprint(self) -> str:
        """Return the SHA-256 (hex) of all images and labels."""
        content = hashlib.sha256()
        sides = (self.train_x, self.train_y, self.test_x, self.test_y, self.report_x, self.report_y)
        for tensor in sides:
            if tensor is None:
                continue
            content.update(str(tuple(tensor.shape)).encode())
            for part in tensor.split(_HASHED):
                content.update(part.contiguous().numpy().tobytes())
        return content.hexdigest()

    @cached_property
    def _statistics(self) -> tuple[Tensor, Tensor]:
        import torch

        if self.normal is not None:
            mean, spread = (torch.full((1, 3, 1, 1), value) for value in self.normal)
            return mean, spread
        scaled = self.train_x[torch.arange(len(self.train_x))].float() / 255
        deviation = scaled.std((0, 2, 3), keepdim=True)
        deviation = torch.where(deviation < 1e-3, torch.ones_like(deviation), deviation)
        return scaled.mean((0, 2, 3), keepdim=True), deviation

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Return what is subtracted from pixels (0..1) and what they are divided by.

        Float32 (1, 3, 1, 1): mean and deviation of the training images, or :attr:`normal`.
        """
        return self._statistics

    def standardised(self, images: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """Return uint8 (n, 3, side, side) images as float32, less the mean, over the deviation.

        Both are those of :meth:`statistics`, a channel; a constant channel is only centred. In
        channels_last memory order.
        """
        import torch

        mean, deviation = (value.to(device) for value in self.statistics())
        x = (images.to(device).float() / 255 - mean) / deviation
        return x.contiguous(memory_format=torch.channels_last)

    def normalised(self, side: str, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return images of ``side`` (``"train"`` or ``"test"``), :meth:`standardised`, and labels."""
        import torch

        x, y = (self.train_x, self.train_y) if side == "train" else (self.test_x, self.test_y)
        return self.standardised(x[torch.arange(len(x))], device), y.to(device)


class TaskImages:
    """The images of a task as a labeller is given them: where they are, decoded when asked for.

    Sent to another process, it takes its images along: those of a task with a resolution decoded,
    of any other as image files.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        train: np.ndarray,
        test: np.ndarray,
        classes: np.ndarray,
        resolution: int = 0,
        flip: bool = False,
    ) -> None:
        """Decode nothing yet.

        Args:
            dataset: where the images come from.
            train: int (n,) indices of the training images.
            test: int (m,) indices of the test images.
            classes: int (c,) class numbers of the task, renumbered to 0 .. c-1 in this order.
            resolution: side of :attr:`data`, in pixels; 0: networks have their own.
            flip: whether a mirrored image is as good as its original.
        """
        self.dataset, self.train, self.test = dataset, train, test
        self.numbers, self.resolution, self.flip = classes, resolution, flip
        self._batches: OrderedDict[tuple[str, int, str], Batches] = OrderedDict()

    @property
    def classes(self) -> int:
        """How many classes the task has."""
        return len(self.numbers)

    @cached_property
    def data(self) -> TaskData:
        """The images at the task's resolution.

        Raises:
            InputError: the task has none, or a side of it has no readable image.
        """
        if not self.resolution:
            raise InputError(
                f"The task of {self.dataset.name!r} has no resolution: its networks have their "
                "own. Measure it by 'finetune' or 'probe', or draw it for a space of cells."
            )
        return load_task(self.dataset, self.train, self.test, self.numbers, self.resolution)

    def batches(
        self, part: Literal["train", "test"], resolution: int, device: torch.device | str = "cpu"
    ) -> Batches:
        """Return a side of the task in squares, labels 0 .. c-1; the last ones stay in memory.

        Raises:
            InputError: none of the images can be read.
        """
        import torch

        key = (part, resolution, str(device))
        if key not in self._batches:
            indices = self.train if part == "train" else self.test
            found = Batches(self.dataset, indices, resolution, device=device)
            number = torch.full((len(self.dataset.classes),), -1)
            number[torch.from_numpy(self.numbers)] = torch.arange(self.classes)
            found.labels = number.to(found.labels.device)[found.labels]
            self._batches[key] = found
            while len(self._batches) > _KEPT:
                self._batches.popitem(last=False)
        self._batches.move_to_end(key)
        return self._batches[key]

    def squares(self, resolution: int) -> TaskData:
        """Return both sides as pretrained networks take them: in their shape, at a resolution.

        Raises:
            InputError: none of the images of a side can be read.
        """
        import torch

        train, test = (self.batches(part, resolution) for part in ("train", "test"))
        return TaskData(
            train.take(torch.arange(len(train))),
            train.labels,
            test.take(torch.arange(len(test))),
            test.labels,
            self.classes,
            flip=self.flip,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what goes to another process."""
        state = dict(self.__dict__) | {"_batches": OrderedDict()}
        if self.resolution:
            return state | {"data": self.data, "dataset": None}
        used = np.concatenate([self.train, self.test])
        count = len(self.train)
        return state | {
            "dataset": _Parcel(self.dataset, used),
            "train": np.arange(count),
            "test": np.arange(count, len(used)),
        }


class _Parcel(EncodedDataset):
    """Some images of a dataset as bytes of image files in memory."""

    def __init__(self, dataset: ImageDataset, indices: np.ndarray) -> None:
        self.name, self.form, self.classes = dataset.name, dataset.form, dataset.classes
        self.labels, self.split = dataset.labels[indices], dataset.split[indices]
        self._names = [dataset.locate(int(index)) for index in indices]
        self._files = [_file(dataset, int(index)) for index in indices]

    def locate(self, index: int) -> str:
        """Return the name that the image has in its dataset."""
        return self._names[index]

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        found = self._files[index]
        if isinstance(found, str):
            raise UnreadableImage(found)
        return found


def _file(dataset: ImageDataset, index: int) -> bytes | str:
    """Return an image as the bytes of a file, or why it cannot be had."""
    from PIL import Image

    try:
        if isinstance(dataset, EncodedDataset):
            return dataset.encoded(index)
        written = io.BytesIO()
        Image.fromarray(dataset.image(index)).save(written, "PNG")
    except UnreadableImage as error:
        return str(error)
    return written.getvalue()


def load_task(
    dataset: ImageDataset,
    train: np.ndarray,
    test: np.ndarray,
    classes: np.ndarray,
    resolution: int,
    resident_bytes: int | None = None,
) -> TaskData:
    """Decode the images of a task.

    Args:
        dataset: where the images come from.
        train: int (n,) indices of the training images.
        test: int (m,) indices of the test images.
        classes: int (c,) class numbers of the task, renumbered to 0 .. c-1 in this order.
        resolution: side of the square images, in pixels.
        resident_bytes: as :class:`Batches` has it, where images are to keep their shape; None:
            they are squashed.

    Raises:
        InputError: a side of the task has no readable image.
    """
    train_x, train_y = _decoded(dataset, train, classes, resolution, "training", resident_bytes)
    test_x, test_y = _decoded(dataset, test, classes, resolution, "test", resident_bytes)
    return TaskData(train_x, train_y, test_x, test_y, len(classes))


def _decoded(
    dataset: ImageDataset,
    indices: np.ndarray,
    classes: np.ndarray,
    resolution: int,
    what: str,
    resident_bytes: int | None,
) -> tuple[Tensor | Squares, Tensor]:
    import torch

    number = np.full(len(dataset.classes), -1)
    number[classes] = np.arange(len(classes))
    if resident_bytes is not None:
        found = Batches(dataset, indices, resolution, resident_bytes=resident_bytes, filed=True)
        squares = found.take(torch.arange(len(found))) if found.resident else Squares(found)
        return squares, torch.from_numpy(number[dataset.labels[found.kept]])
    # Squashed, not cropped: `standalone-v1` is frozen, and searches answer in its terms.
    images, kept = pixels(dataset, indices, resolution)
    if not len(kept):
        raise InputError(
            f"None of the {len(indices)} {what} images of {dataset.name!r} can be read; check the "
            "files."
        )
    small = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    return small, torch.from_numpy(number[dataset.labels[kept]])


def training_side(dataset: ImageDataset) -> np.ndarray:
    """Return int64 (m,), the images that are not of the dataset's own test side, sorted."""
    own = np.flatnonzero(dataset.split == 0)
    return own if len(own) else np.arange(len(dataset))  # A test side alone is no side.


def search_task(
    dataset: ImageDataset,
    side: int,
    seed: int,
    most: int | None = None,
    pretrained: bool = False,
) -> TaskData:
    """Decode a dataset for a search: every fifth image of each class is held out.

    Half of them choose, in the place of the test images in what is returned, and half are reported
    on. A class of five or fewer has none for that; then all of them choose. Images of the dataset's
    own test side are left alone.

    Args:
        dataset: where the images come from.
        side: most pixels of a side; smaller images keep their own.
        seed: of the shuffle; the same seed gives the same split.
        most: images taken in all, as many of each class as can be; None: all.
        pretrained: give them as pretrained networks take them: scaled to -1..1, in their shape, and
            ``side`` is what they have.

    Raises:
        InputError: fewer than two classes, a class too small to be split, or unreadable images.
    """
    own = training_side(dataset)
    counts = np.bincount(dataset.labels[own], minlength=len(dataset.classes))
    thin = np.flatnonzero(counts < _LEAST)
    if len(counts) < 2:
        raise InputError(
            f"{dataset.name!r} has {len(counts)} class; a search needs 2 or more. Add "
            "images of another class, or give the folder above."
        )
    if len(thin):
        raise InputError(
            f"{dataset.name!r} is too small to split: class {dataset.classes[thin[0]]!r} has "
            f"{counts[thin[0]]} training images, and {_LEAST} are needed, one to train on and one "
            "to validate with. Add images, or remove the class."
        )
    order = in_rounds(dataset.labels, own, np.random.default_rng(seed))[:most]
    train, held = hold_out(dataset.labels, order)
    second = _ranks(dataset.labels[held]) % 2 == 1
    if len(np.unique(dataset.labels[held[second]])) < len(counts):
        second[:] = False
    classes = np.arange(len(counts))
    side = side if pretrained else min(side, image_side(dataset))
    resident = None
    if pretrained:  # All sides are in memory, or none.
        resident = RESIDENT_BYTES if 3 * len(order) * side**2 <= RESIDENT_BYTES else 0
    task = load_task(dataset, np.sort(train), np.sort(held[~second]), classes, side, resident)
    normal = (0.5, 0.5) if pretrained else None
    task = replace(task, names=tuple(dataset.classes), normal=normal)
    if not second.any():
        return task
    report_x, report_y = _decoded(dataset, held[second], classes, side, "held-out", resident)
    return replace(task, report_x=report_x, report_y=report_y)


def image_side(dataset: ImageDataset) -> int:
    """Return the shorter side, in pixels, of a dataset's typical image: the median of up to 15.

    Raises:
        InputError: none of the images looked at can be read.
    """
    sides = []
    for index in np.unique(np.linspace(0, len(dataset.labels) - 1, 15).astype(int)):
        try:
            sides.append(min(dataset.image(int(index)).shape[:2]))
        except UnreadableImage:  # one bad image is the report's matter
            continue
    if not sides:
        raise InputError(
            f"None of the images of {dataset.name!r} that were tried can be read; check the files."
        )
    return int(np.median(sides))


def in_rounds(labels: np.ndarray, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffle int (n,) ``indices`` so that any first k are as balanced as can be.

    One image of each class, round by round.
    """
    shuffled = rng.permutation(indices)
    return shuffled[np.argsort(_ranks(labels[shuffled]), kind="stable")]


def hold_out(labels: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Split off every fifth image of each class, and of a class of fewer its first.

    Returns:
        int indices kept and held out, both in the order of ``order``.
    """
    held = _ranks(labels[order]) % 5 == 0
    return order[~held], order[held]


def _ranks(labels: np.ndarray) -> np.ndarray:
    """Return how many earlier items have the same label, for each of int (n,) ``labels``."""
    ranks = np.empty(len(labels), dtype=int)
    for number in np.unique(labels):
        own = labels == number
        ranks[own] = np.arange(own.sum())
    return ranks
