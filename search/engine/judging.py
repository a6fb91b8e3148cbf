"""What a search reports: accuracies on images that chose nothing, within the time that is left.

The images by which a winner was chosen flatter it, the more so the more was compared by them. So the
data have a third side, on which nothing is trained and nothing chosen (``TaskData.reported``). A
large network takes minutes for thousands of images on a CPU: where the time is up, the accuracy is of
those that were seen, in an order drawn by the seed, and the history says of how many.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.export.delivered import Delivered
from metad2a.spaces import Architecture
from search.scores.base import Context
from search.scores.rebn import ReBNAccuracy

if TYPE_CHECKING:
    from search.engine.run import Run

_FIRST, _MOST = 32, 512  # images a batch: few at first, as nobody knows how long they take


@torch.no_grad()
def share_right(
    answer: Callable[[Tensor], Tensor], labels: Tensor, seed: int, seconds: float = math.inf
) -> tuple[float, int]:
    """Return the share (0..1) of right answers, and of how many images it is: one batch at least.

    Args:
        answer: takes int64 (n,) positions of images to float (n, classes) logits.
        labels: int64 (images,), on whose device the positions are too.
        seed: of the order of the images.
        seconds: after which no batch is begun, nor one that would probably end later.
    """
    began, right, seen, size = time.monotonic(), 0, 0, _FIRST
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    order = order.to(labels.device)
    while seen < len(labels):
        start = time.monotonic()
        index = order[seen : seen + size]
        right += int((answer(index).argmax(1) == labels[index]).sum())
        seen, size = seen + len(index), min(2 * size, _MOST)
        now = time.monotonic()
        if now - began + 2 * (now - start) > seconds:
            break
    return right / seen, seen


class Judge:
    """Measures the networks of a run on the side that it reports on.

    Args:
        run: at its end; its weights change no more.
    """

    def __init__(self, run: Run) -> None:
        self.run, self.data = run, run.data
        self.x, self.y = run.data.reported()
        self.seconds = math.inf
        """For the next accuracy, as :func:`share_right` takes them."""
        self._children: ReBNAccuracy | None = None

    def shared(self, architecture: Architecture) -> float:
        """Return the accuracy (0..1) with shared weights after re-calibration of the batch norms."""
        began, run = time.monotonic(), self.run
        if self._children is None:  # one copy of the supernet for all that is asked
            context = Context(run.space, self.data, run.shared(), str(run.place.device), run.seed)
            self._children = ReBNAccuracy(context)
        children = self._children
        children.calibrate(architecture, self.seconds / 2)
        self.seconds -= time.monotonic() - began
        return self._measured(lambda index: children.logits(self.x[index], architecture))

    def plain(self, network: nn.Module) -> float:
        """Return the accuracy (0..1), in float32, of a network on the run's device."""
        network.eval()
        device = self.run.place.device
        return self._measured(lambda index: network(self.data.standardised(self.x[index], device)))

    def delivered(self, network: Delivered) -> float:
        """Return the accuracy (0..1) of a network as it leaves; it is on the CPU afterwards."""
        device = self.run.place.device
        network.to(device)
        try:
            return self._measured(lambda index: network(self.x[index].to(device).float() / 255))
        finally:
            network.cpu()

    def _measured(self, answer: Callable[[Tensor], Tensor]) -> float:
        share, seen = share_right(
            lambda index: answer(index).cpu(), self.y, self.run.seed, self.seconds
        )
        if seen < len(self.y):
            self.run.note(
                f"an accuracy is of {seen:,} of {len(self.y):,} held-out images: the time was up"
            )
        return share
