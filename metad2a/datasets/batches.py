"""Images of a dataset as tensors on a device, in one size: what training and measuring read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from metad2a.datasets.base import ImageDataset
from metad2a.datasets.decode import UnreadableImage, square
from metad2a.datasets.report import Skipped
from metad2a.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIDENT_BYTES = 2**30
"""Bytes of pixels that are kept in memory."""


class Batches:
    """Squares of some images of a dataset; unreadable images are left out and counted.

    Args:
        dataset: where the images come from.
        indices: int (m,), which of them, in any order.
        resolution: side of the squares, in pixels; see :func:`metad2a.datasets.decode.square`.
        device: where the tensors lie.
        resident_bytes: most bytes of pixels that are kept in memory.
        workers: how many images are decoded at a time; None: one a core.

    Attributes:
        resident: whether all pixels are in memory, so that :meth:`take` works.
        kept: int64 (n,), the indices without those that are unreadable, in their order.
        labels: int64 tensor (n,) on the device: their classes, as the dataset numbers them.
        skipped: what is unreadable, by its index in the dataset.

    Raises:
        InputError: none of the images can be read.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        indices: Sequence[int] | np.ndarray,
        resolution: int,
        *,
        device: torch.device | str = "cpu",
        resident_bytes: int = RESIDENT_BYTES,
        workers: int | None = None,
    ) -> None:
        import torch

        self.dataset, self.resolution, self.device = dataset, resolution, torch.device(device)
        self.kept = np.array(indices, dtype=np.int64)
        self.skipped: dict[int, Skipped] = {}
        self._workers = workers or 2
        self.resident = True
        self._load()
        if not len(self.kept):
            raise InputError(
                f"None of the {len(indices):,} images of {dataset.name!r} that were tried can be "
                "read. Check the files."
            )
        labels = np.asarray(dataset.labels, dtype=np.int64)[self.kept]
        self.labels: Tensor = torch.from_numpy(labels).to(self.device)

    def __len__(self) -> int:
        return len(self.kept)

    def _load(self) -> None:
        import torch

        side = self.resolution
        pixels = np.empty((len(self.kept), side, side, 3), dtype=np.uint8)
        readable = np.zeros(len(self.kept), dtype=bool)

        def decode(row: int) -> None:
            index = int(self.kept[row])
            try:
                pixels[row] = square(self.dataset.reduced(index, 2 * side)[0], side)
            except UnreadableImage as error:
                self.skipped[index] = Skipped(self.dataset.locate(index), str(error))
            else:
                readable[row] = True

        for row in np.argsort(self.kept, kind="stable"):
            decode(int(row))
        if not readable.all():
            pixels, self.kept = pixels[readable], self.kept[readable]
        self._pixels = torch.from_numpy(pixels).to(self.device)

    def take(self, index: Tensor) -> Tensor:
        """Return uint8 (m, 3, side, side) in channels_last memory order, on the device.

        Args:
            index: int64 (m,), positions in ``kept``; only where ``resident``.
        """
        return self._pixels[index.to(self.device)].permute(0, 3, 1, 2)

    def epoch(
        self, batch: int, rng: np.random.Generator | None = None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield every image once.

        Args:
            batch: images at a time; the last batch may have fewer.
            rng: shuffles them; None: in the order of ``kept``.

        Yields:
            Images as :meth:`take` returns them, their labels int64 (b,), and their positions in
            ``kept`` int64 (b,), all on the device.
        """
        import torch

        count = len(self.kept)
        order = np.arange(count) if rng is None else rng.permutation(count)
        positions = torch.from_numpy(order).to(self.device)
        for part in positions.split(batch):
            yield self.take(part), self.labels[part], part
