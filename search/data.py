"""A task's images as tensors in memory: the only form in which search and training see data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metad2a.datasets import ImageDataset, pixels
from metad2a.errors import InputError


@dataclass(frozen=True)
class TaskData:
    """Train and test images of one classification task.

    ``train_x``, ``test_x``: uint8 (n, 3, side, side); ``train_y``, ``test_y``: int64 (n,) in
    ``range(classes)``.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    classes: int

    def normalised(self, side: str, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return float32 images of ``side`` (``"train"`` or ``"test"``), standardised, and labels.

        Mean and deviation per channel come from the training images; a constant channel is only
        centred. Images are in channels_last memory order.
        """
        scaled = self.train_x.float() / 255
        mean = scaled.mean((0, 2, 3), keepdim=True)
        deviation = scaled.std((0, 2, 3), keepdim=True)
        deviation = torch.where(deviation < 1e-3, torch.ones_like(deviation), deviation)
        x, y = (scaled, self.train_y) if side == "train" else (self.test_x.float() / 255,
                                                               self.test_y)
        x = ((x - mean) / deviation).to(device).contiguous(memory_format=torch.channels_last)
        return x, y.to(device)


def load_task(
    dataset: ImageDataset,
    train: np.ndarray,
    test: np.ndarray,
    classes: np.ndarray,
    resolution: int,
) -> TaskData:
    """Decode the images of a task.

    Args:
        dataset: where the images come from.
        train: int (n,) indices of the training images.
        test: int (m,) indices of the test images.
        classes: int (c,) class numbers of the task, renumbered to 0 .. c-1 in this order.
        resolution: side of the square images, in pixels.

    Raises:
        InputError: a side of the task has no readable image.
    """
    number = np.full(len(dataset.classes), -1)
    number[classes] = np.arange(len(classes))
    sides: list[tuple[Tensor, Tensor]] = []
    for label, indices in (("training", train), ("test", test)):
        images, kept = pixels(dataset, indices, resolution)
        if not len(kept):
            raise InputError(f"None of the {len(indices)} {label} images of {dataset.name!r} can "
                             "be read; check the files.")
        sides.append((torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(),
                      torch.from_numpy(number[dataset.labels[kept]])))
    (train_x, train_y), (test_x, test_y) = sides
    return TaskData(train_x, train_y, test_x, test_y, len(classes))
