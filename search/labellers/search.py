"""A search as a labeller: it brings its own architectures, the best that it found on the task.

It stores two values for each: what the search thought of it (a score of its own kind, by which the
architectures are ranked), and, where the method measures one, its accuracy with shared or kept
weights on training images that the search held out. The task's test images are never looked at.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError
from metad2a.protocol import Protocol
from metad2a.spaces import Architecture, SearchSpace
from search.engine.composition import compose
from search.labellers.base import Labeller, Measurement
from search.subspace.weight_sharing import check_resolution

if TYPE_CHECKING:
    from search.data import TaskData, TaskImages


@dataclass(frozen=True)
class SearchLabeller(Labeller):
    """A weight-sharing search within a budget of images, so that a seed gives one answer.

    ``method``, ``images``, ``channels``, ``cells``, ``options`` and ``resolution`` are as in
    :func:`search.search`; ``keep`` is how many of the best architectures are named.

    Raises:
        InputError: the method or an option is unknown, or they do not go together.
    """

    method: str
    images: int
    keep: int
    channels: int | None = None
    cells: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    resolution: int | None = None
    """Side of the images in pixels, in spaces where that is a decision."""
    shared = True

    def __post_init__(self) -> None:
        compose(self.method, self.options)

    def check(self, space: SearchSpace) -> None:
        """Refuse a space in which the method makes no sense, or which lacks the resolution.

        Raises:
            InputError: with the reason.
        """
        compose(self.method, self.options).check(space)
        if space.pretrained and self.resolution is None:
            raise InputError(
                f"The search {self.method!r} in the space {space.name!r} lacks resolution, the side of its images in "
                "pixels: there each network has its own, and a search has one."
            )
        check_resolution(space, self.resolution)

    @property
    def recipe(self) -> str:
        """All that makes the rows, as JSON."""
        numbers = {
            "method": self.method,
            "images": self.images,
            "keep": self.keep,
            "channels": self.channels,
            "cells": self.cells,
            "options": dict(self.options),
        }
        if self.resolution is not None:  # Searches of cells keep the name that they have.
            numbers["resolution"] = self.resolution
        return json.dumps(numbers, sort_keys=True)

    @property
    def name(self) -> str:
        """The method and a digest of the recipe."""
        return f"{self.method}@{hashlib.sha256(self.recipe.encode()).hexdigest()[:8]}"

    @property
    def protocols(self) -> tuple[Protocol, ...]:  # type: ignore[override]
        """The rank that the search gives, and the accuracy that it measures."""
        return (
            Protocol(
                f"{self.name}-score",
                "score",
                f"What the search thinks of the best architectures it found: {self.recipe}",
            ),
            Protocol(
                self.name,
                "accuracy",
                f"{compose(self.method, self.options).method.protocol}: {self.recipe}",
            ),
        )

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Search, and yield the values of the ``keep`` best; ``architectures`` is not used.

        The seconds of the search are shared out over its measurements.
        """
        from search.searching import Search

        data = images.data if self.resolution is None else images.squares(self.resolution)
        found = Search(
            _without_test(data),
            space.name,
            self.method,
            seed=seed,
            device=device,
            images=self.images,
            channels=self.channels,
            cells=self.cells,
            options=self.options,
        ).conduct()
        ranked = [(one, score) for one, score in found.ranking if math.isfinite(score)]
        rows = []
        for one, score in ranked[: self.keep]:
            member = found.member(one)
            rows.append((f"{self.name}-score", member, score))
            accuracy = found.accuracy(one)
            if accuracy is not None:
                rows.append((self.name, member, accuracy))
        share = found.run.budget.elapsed / max(1, len(rows))
        for protocol, one, value in rows:
            yield Measurement(protocol, one, seed, float(value), share)


def _without_test(data: TaskData) -> TaskData:
    """Return the task with every fifth training image in the place of the test images."""
    import numpy as np
    import torch

    from search.data import hold_out

    train, held = (
        torch.from_numpy(side)
        for side in hold_out(data.train_y.numpy(), np.arange(len(data.train_y)))
    )
    return replace(
        data,
        train_x=data.train_x[train],
        train_y=data.train_y[train],
        test_x=data.train_x[held],
        test_y=data.train_y[held],
    )
