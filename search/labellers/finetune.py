"""The labeller of fine-tunings: a pretrained network trained on the task by a recipe.

It is what a user's own training does, on fewer images and for a fixed number of epochs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError
from metad2a.protocol import Protocol, fine_tune
from metad2a.spaces import Architecture, SearchSpace
from metad2a.spaces.efficientnet_lite import EfficientNetLite
from search.data import TaskImages
from search.labellers.base import LABELLERS, Labeller, Measurement

if TYPE_CHECKING:
    from metad2a.datasets.batches import Batches
    from metad2a.training.device import DevicePlan

JUDGED = (0.25, 0.5, 0.75, 1.0)
"""Parts of the training after which the averaged weights are judged."""


def is_whole(space: SearchSpace, architecture: Architecture) -> bool:
    """Whether a network is a piece of the pretrained one as it was, statistics of norms and all."""
    return isinstance(space, EfficientNetLite) and architecture == space.whole(
        space.stages(architecture), space.resolution(architecture)
    )


def frozen(
    space: SearchSpace, architecture: Architecture, train: Batches, classes: int, place: DevicePlan
) -> Any:
    """Build a pretrained network with the closed-form classifier of the training images.

    Where the network was cut inside, the statistics of its batch norms may no longer be right; they
    are estimated anew if that makes the classifier better, told by leaving one image out.

    Args:
        space: of the architecture.
        architecture: one choice index per decision.
        train: training images, labels 0 .. classes - 1.
        classes: outputs.
        place: device and precision.
    """
    import torch

    from metad2a.training.loop import Normalisation, closed_form, recalibrate, set_classifier

    normal = Normalisation()
    network = place.place(space.build(architecture, classes, pretrained=True)).eval()
    head = closed_form(network, train, place, normal)
    if is_whole(space, architecture):
        return network
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    before = [{name: value.clone() for name, value in norm.named_buffers()} for norm in norms]
    recalibrate(network, train, place, normal)
    if closed_form(network, train, place, normal).cross_entropy >= head.cross_entropy:
        for norm, buffers in zip(norms, before, strict=True):
            for name, value in norm.named_buffers():
                value.copy_(buffers[name])
        set_classifier(network, head)
    return network


def refuse_cells(space: SearchSpace) -> None:
    """Refuse a space whose networks have no weights to begin with.

    Raises:
        InputError: it is one.
    """
    if not space.pretrained:
        raise InputError(
            f"Networks of {space.name!r} have no pretrained weights to measure. Use the protocol "
            "'standalone', or a space of which `metad2a spaces` says that it is pretrained."
        )


def clock(device: str) -> float:
    """Return seconds: of the processor, which others may share, or of the wall where a GPU works.

    A label is measured by one thread, so that both are the same on an idle machine.
    """
    return time.process_time() if device == "cpu" else time.perf_counter()


@dataclass(frozen=True)
class FineTuned(Labeller):
    """Trains pretrained networks by the recipe of one protocol."""

    protocol: Protocol

    @property
    def protocols(self) -> tuple[Protocol, ...]:  # type: ignore[override]
        """The one protocol."""
        return (self.protocol,)

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield the test accuracy (0..1) of each architecture.

        The curve has the accuracy of the closed-form classifier on frozen features, then those of
        the averaged weights after a quarter, a half and three quarters of the training, and the
        last with the classifier found in closed form again.
        """
        refuse_cells(space)
        for architecture in architectures:
            yield self._trained(images, space, architecture, seed, device)

    def _trained(
        self,
        images: TaskImages,
        space: SearchSpace,
        architecture: Architecture,
        seed: int,
        device: str,
    ) -> Measurement:
        from metad2a.training.device import plan
        from metad2a.training.evaluate import evaluate
        from metad2a.training.loop import Normalisation, Training, closed_form

        side, place, normal = space.resolution(architecture), plan(device), Normalisation()
        train, test = (
            images.batches("train", side, place.device),
            images.batches("test", side, place.device),
        )
        begun = clock(device)
        network = frozen(space, architecture, train, images.classes, place)
        curve = [evaluate(network, test, place, normal).accuracy / 100]
        recipe = self.protocol.recipe
        training = Training(network, train, recipe, 1, place, normal, seed, images.flip)
        training.steps = max(1, round(recipe.epochs * training.steps_per_epoch))
        for part in JUDGED:
            while training.done < round(part * training.steps):
                training.step()
            if part == JUDGED[-1]:
                closed_form(training.averaged, train, place, normal)
            curve.append(evaluate(training.averaged, test, place, normal).accuracy / 100)
        return Measurement(
            self.protocol.name, architecture, seed, curve[-1], clock(device) - begun, tuple(curve)
        )


LABELLERS.register("finetune")(FineTuned(fine_tune(1e-3, 8)))
