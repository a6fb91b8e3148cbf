"""The labeller of training-free scores: six protocols from one untrained network."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch

from metad2a.protocol import Protocol
from metad2a.spaces import Architecture, SearchSpace
from metad2a.training.device import seeded
from search.data import TaskImages
from search.labellers.base import LABELLERS, Labeller, Measurement
from search.scores.zero_cost import SCORES, scores
from search.subspace.weight_sharing import sharing

IMAGES = 64
"""Images in the mini-batch; fewer if the task has fewer."""


class TrainingFree(Labeller):
    """Scores a network of 16 channels and one cell a stage at initialisation.

    On a task of fewer than two images nothing can be told apart, and nothing is yielded.
    """

    protocols = tuple(
        Protocol(
            f"{name}-v1",
            "score",
            f"{name} of an untrained network, C=16, N=1, "
            f"{IMAGES} training images, one output, float32",
        )
        for name in SCORES
    )

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield six scores for each architecture; undefined ones (``-inf``) are left out."""
        space = sharing(space)
        pixels, _ = images.data.normalised("train")
        order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(seed))
        batch = pixels[order[:IMAGES]].contiguous(memory_format=torch.channels_last)
        for architecture in architectures:
            start = time.perf_counter()
            with seeded(seed):
                network = space.build(architecture, 1, channels=16, cells=1)
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            found = scores(network, batch, seed)
            seconds = (time.perf_counter() - start) / len(SCORES)
            for name, value in found.items():
                if math.isfinite(value):
                    yield Measurement(f"{name}-v1", architecture, seed, value, seconds)


LABELLERS.register("training_free")(TrainingFree())
