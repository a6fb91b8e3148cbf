"""The labeller of stand-alone trainings: the protocol under which users see their accuracy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskImages
from search.labels import LABELLERS, Labeller, Measurement, Protocol
from search.sharing import sharing
from search.trainer import TrainRecipe, train

STANDALONE = Protocol(
    "standalone-v1",
    "accuracy",
    "test accuracy after training from scratch: C=16, one cell a stage, 200 steps of 32 images, "
    "SGD with Nesterov momentum 0.9, learning rate 0.1 (warm-up, cosine), weight decay 5e-4, label "
    "smoothing 0.1, random crops, no flips; at most 2,000 training images of at most 32x32 pixels",
)
RECIPE = TrainRecipe()


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
