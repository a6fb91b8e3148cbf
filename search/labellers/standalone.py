"""The labeller of stand-alone trainings: the protocol under which users see their accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metad2a.protocol import STANDALONE
from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskImages
from search.labels import LABELLERS, Labeller, Measurement
from search.sharing import sharing
from search.trainer import train

RECIPE = STANDALONE.recipe


class Standalone(Labeller):
    """Trains every architecture from scratch by the frozen recipe of ``standalone-v1``."""

    protocols = (STANDALONE,)

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield the test accuracy (0..1) of each architecture, with its learning curve."""
        for architecture in architectures:
            result = train(images.data, sharing(space), architecture, seed, RECIPE, device)
            yield Measurement(
                STANDALONE.name, architecture, seed, result.accuracy, result.seconds, result.curve
            )


LABELLERS.register("standalone")(Standalone())
