"""The labeller of probes: the closed-form classifier on a pretrained network's frozen features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metad2a.protocol import PROBE
from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskImages
from search.labellers.base import LABELLERS, Labeller, Measurement
from search.labellers.finetune import clock, frozen, refuse_cells


class Probe(Labeller):
    """Fits a classifier in closed form, and trains nothing."""

    protocols = (PROBE,)

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield the test accuracy (0..1) of each architecture; nothing depends on the seed."""
        from metad2a.training.device import plan
        from metad2a.training.evaluate import evaluate
        from metad2a.training.loop import Normalisation

        refuse_cells(space)
        place = plan(device)
        for architecture in architectures:
            side = space.resolution(architecture)
            train = images.batches("train", side, place.device)
            test = images.batches("test", side, place.device)
            begun = clock(device)
            network = frozen(space, architecture, train, images.classes, place)
            accuracy = evaluate(network, test, place, Normalisation()).accuracy / 100
            yield Measurement(PROBE.name, architecture, seed, accuracy, clock(device) - begun)


LABELLERS.register("probe")(Probe())
