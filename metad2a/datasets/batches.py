"""Images of a dataset as tensors on a device, in one size: what training and measuring read.

What fits is decoded once and stays in memory; of more, every pass decodes anew, or the squares of
one decoding lie in a file, in memory that does not grow with the dataset. An image is the same
either way, whatever the number of workers.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from metad2a.datasets.base import ImageDataset
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.report import Skipped
from metad2a.datasets.workers import PIECE, pool
from metad2a.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

RESIDENT_BYTES = 2**30
"""Bytes of pixels that are kept in memory."""
_TRIED = 20
"""Images of a class that are tried in the place of an unreadable one."""


class Batches:
    """Squares of some images of a dataset; unreadable images are left out and counted.

    Args:
        dataset: where the images come from.
        indices: int (m,), which of them, in any order.
        resolution: side of the squares, in pixels; see :func:`metad2a.datasets.decode.square`.
        device: where the tensors lie.
        resident_bytes: most bytes of pixels that are kept in memory; where there are more, each
            pass decodes the images anew.
        filed: where there are more, decode them once, into a temporary file, so that any of them
            can be had at any time.
        workers: how many images are decoded at a time; None: one a core.

    Attributes:
        resident: whether all pixels are in memory.
        kept: int64 (n,), the indices, in their order. Where ``resident`` or ``filed``, without those
            that are unreadable. Else these come to light as passes meet them: they stay in ``kept``, so that
            positions keep their meaning, and the next readable image of their class is shown in
            their place.
        labels: int64 tensor (n,) on the device: their classes, as the dataset numbers them.
        skipped: what has been found unreadable, by its index in the dataset.

    Raises:
        InputError: none of the images can be read, or the file has no room.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        indices: Sequence[int] | np.ndarray,
        resolution: int,
        *,
        device: torch.device | str = "cpu",
        resident_bytes: int = RESIDENT_BYTES,
        filed: bool = False,
        workers: int | None = None,
    ) -> None:
        import torch

        self.dataset, self.resolution, self.device = dataset, resolution, torch.device(device)
        self.kept = np.array(indices, dtype=np.int64)
        self.skipped: dict[int, Skipped] = {}
        self._pool = pool(dataset, workers)
        self.resident = len(self.kept) * self._bytes <= resident_bytes
        self._once = self.resident or filed
        """Whether every image is decoded once, now."""
        if self.resident:
            self._pixels = self._load()
        elif filed:
            self._file, self._places = self._write()
        self._classes = np.asarray(dataset.labels, dtype=np.int64)[self.kept]
        self.labels: Tensor = torch.from_numpy(self._classes).to(self.device)

    def __len__(self) -> int:
        return len(self.kept)

    def _load(self) -> Tensor:
        """Return uint8 (n, side, side, 3) on the device, and keep no index that is unreadable."""
        import torch

        pixels = np.empty((len(self.kept), self.resolution, self.resolution, 3), dtype=np.uint8)
        for row, kept in enumerate(self._readable(pixels.__setitem__)):
            if row != kept:  # A copy would double the memory.
                pixels[row] = pixels[kept]
        return torch.from_numpy(pixels[: len(self.kept)]).to(self.device)

    def _write(self) -> tuple[IO[bytes], np.ndarray]:
        """Decode into a temporary file, and keep no index that is unreadable.

        Returns:
            The file, which has no name, so that nothing of it stays; and int64 (n,), the place
            of each square in it.

        Raises:
            InputError: there is no room.
        """
        needed, folder = len(self.kept) * self._bytes, tempfile.gettempdir()
        free = shutil.disk_usage(folder).free
        full = InputError(
            f"{len(self.kept):,} images of {self.resolution} px take {needed / 1e9:.1f} GB of "
            f"{folder!r}, where {free / 1e9:.1f} were free. Name a larger disk by the environment "
            "variable TMPDIR, take a lower resolution, or fewer images."
        )
        if needed > free:
            raise full
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it stays open as long as this is there
        weakref.finalize(self, file.close)

        def write(rows: np.ndarray, squares: np.ndarray) -> None:
            try:
                for row, square in zip(rows.tolist(), squares, strict=True):
                    if os.pwrite(file.fileno(), square.data, row * self._bytes) < self._bytes:
                        raise full
            except OSError as error:
                raise full from error

        return file, self._readable(write)

    def _readable(self, put: Callable[[np.ndarray, np.ndarray], None]) -> np.ndarray:
        """Decode everything once and put it where it belongs; keep no index that is unreadable.

        Returns:
            int64 (n,), where what is kept was put.
        """
        good = np.zeros(len(self.kept), dtype=bool)
        # In the order of storage, so that what is stored together is read once.
        order = np.argsort(self.kept, kind="stable")
        for rows, found, _ in self._decoded(order, PIECE):
            put(rows, found)
            good[rows] = True
        if not good.any():
            raise self._none()
        self.kept = self.kept[good]
        return np.flatnonzero(good)

    @property
    def _bytes(self) -> int:
        """Of one square."""
        return 3 * self.resolution**2

    def _decoded(
        self, order: np.ndarray, batch: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """Decode piece by piece, none of which reaches over the end of a batch.

        Yields:
            Positions int64 (k,) of what is readable, its squares uint8 (k, side, side, 3), which
            last until the next piece, and how many positions the piece had.
        """
        positions = [
            order[start : min(start + PIECE, begin + batch)]
            for begin in range(0, len(order), batch)
            for start in range(begin, min(begin + batch, len(order)), PIECE)
        ]
        pieces = (self.kept[piece] for piece in positions)
        stream = self._pool.stream(pieces, self.resolution, len(order))
        for piece, (squares, failed) in zip(positions, stream, strict=True):
            rows, found = piece, squares
            for row, reason in failed.items():
                self._skip(int(self.kept[piece[row]]), reason)
            out = failed if self._once else self._substitute(piece, squares, failed)
            if out:
                good = np.setdiff1d(np.arange(len(piece)), list(out))
                rows, found = rows[good], found[good]
            yield rows, found, len(piece)

    def _substitute(
        self, piece: np.ndarray, squares: np.ndarray, failed: Iterable[int]
    ) -> list[int]:
        """Put other images of their classes in the place of unreadable ones; return the rest."""
        rest = []
        for row in failed:
            position = int(piece[row])
            alike = np.flatnonzero(self._classes == self._classes[position])
            after = np.roll(alike, -int(np.searchsorted(alike, position, side="right")))
            for other in self.kept[after[:_TRIED]]:
                if int(other) in self.skipped:
                    continue
                try:
                    squares[row] = self._pool.square(int(other), self.resolution)
                    break
                except UnreadableImage as error:
                    self._skip(int(other), str(error))
            else:
                rest.append(row)
        return rest

    def _skip(self, index: int, reason: str) -> None:
        self.skipped[index] = Skipped(self.dataset.locate(index), reason)

    def take(self, index: Tensor) -> Tensor:
        """Return uint8 (m, 3, side, side) in channels_last memory order, on the device.

        Args:
            index: int64 (m,), positions in ``kept``; only where ``resident`` or ``filed``.
        """
        import torch

        if self.resident:
            return self._pixels.index_select(0, index.to(self.device)).permute(0, 3, 1, 2)
        side, places = self.resolution, self._places[index.numpy(force=True)]
        found = np.empty((len(places), side, side, 3), dtype=np.uint8)
        for row, place in zip(found, places.tolist(), strict=True):
            os.preadv(self._file.fileno(), [row.data], place * self._bytes)
        return torch.from_numpy(found).to(self.device).permute(0, 3, 1, 2)

    def epoch(
        self, batch: int, rng: np.random.Generator | None = None, first: int = 0
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield every image once.

        Args:
            batch: images at a time; the last batch may have fewer. (So has any with an unreadable
                image whose class has no readable one, which only happens where images are streamed.)
            rng: shuffles them; None: in the order of ``kept``.
            first: batches at the beginning that are passed over and not decoded.

        Yields:
            Images as :meth:`take` returns them, their labels int64 (b,), and their positions in
            ``kept`` int64 (b,), all on the device.

        Raises:
            InputError: none of the images can be read.
        """
        import torch

        count = len(self.kept)
        order = np.arange(count) if rng is None else self.dataset.shuffled(self.kept, rng)
        order = order[first * batch :]
        if self._once:
            for part in torch.from_numpy(order).to(self.device).split(batch):
                yield self.take(part), self.labels[part], part
            return
        if len(order):
            yield from self._streamed(order, batch)
        if len(self.skipped) == count:
            raise self._none()

    def _streamed(self, order: np.ndarray, batch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        import torch

        side, done, left = self.resolution, 0, len(order)
        pinned = self.device.type == "cuda"
        for rows, found, asked in self._decoded(order, batch):
            if not done:
                size = min(batch, left)
                images = torch.empty((size, side, side, 3), dtype=torch.uint8, pin_memory=pinned)
                positions = np.empty(size, dtype=np.int64)
                filled = 0
            images.numpy()[filled : filled + len(rows)] = found
            positions[filled : filled + len(rows)] = rows
            filled, done = filled + len(rows), done + asked
            if done < size:
                continue
            done, left = 0, left - size
            if filled:
                part = torch.from_numpy(positions[:filled]).to(self.device)
                # Not at once: the copy must be over before the pinned memory is used again.
                pixels = images[:filled].to(self.device, non_blocking=False)
                yield pixels.permute(0, 3, 1, 2), self.labels[part], part

    def _none(self) -> InputError:
        return InputError(
            f"None of the {len(self.kept):,} images of {self.dataset.name!r} that were tried can "
            "be read. Check the files."
        )
