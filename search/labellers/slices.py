"""Labels from shared weights: one network is fine-tuned on the task, and all others are slices of it.

The sandwich rule trains it (``search.methods.sandwich``). A slice is cut out, given statistics and a
classifier of its own, and judged by the test images as a fine-tuned network is. Cheap where many
networks of a task are asked for; ``benchmarks/shared_labels.py`` says whether it ranks them as their
own trainings do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from metad2a.protocol import SUPERNET
from metad2a.spaces import Architecture, SearchSpace
from search.data import TaskImages
from search.labellers.base import LABELLERS, Labeller, Measurement
from search.labellers.finetune import clock, refuse_cells

_NONE_EVOLVED = {"sandwich.population": 1, "sandwich.generations": 1}


class Slices(Labeller):
    """Fine-tunes the network that holds all others, once for each resolution, and cuts them out.

    Images of two sizes fit neither into one batch nor into one set of batch-norm statistics. So the
    networks of each resolution have shared weights of their own, and a task costs least where all
    that are measured have one.
    """

    protocols = (SUPERNET,)
    shared = True

    def measure(
        self,
        images: TaskImages,
        space: SearchSpace,
        architectures: Sequence[Architecture],
        seed: int,
        device: str = "cpu",
    ) -> Iterator[Measurement]:
        """Yield the test accuracy (0..1) of each architecture.

        Those of one resolution share a training if they come one after another; the seconds of a
        measurement hold an equal share of it.
        """
        refuse_cells(space)
        for side, alike in groupby(architectures, space.resolution):
            yield from _cut_out(images, space, side, list(alike), seed, device)


def _cut_out(
    images: TaskImages,
    space: SearchSpace,
    side: int,
    architectures: list[Architecture],
    seed: int,
    device: str,
) -> Iterator[Measurement]:
    """Train shared weights at ``side`` pixels, and measure architectures of that resolution."""
    from metad2a.training.evaluate import evaluate
    from metad2a.training.loop import Normalisation, closed_form, recalibrate
    from search.engine.inheritance import inherit
    from search.searching import Search
    from search.subspace.weight_sharing import at

    chain, data = at(space, side), images.squares(side)
    begun = clock(device)
    # The method's settings are the protocol's: a test holds them together.
    run = (
        Search(
            data,
            space.name,
            "sandwich",
            seed=seed,
            device=device,
            images=SUPERNET.recipe.images,
            options=_NONE_EVOLVED,
        )
        .conduct()
        .run
    )
    share = (clock(device) - begun) / len(architectures)
    place, normal = run.place, Normalisation()
    train, test = (images.batches(part, side, place.device) for part in ("train", "test"))
    for architecture in architectures:
        begun = clock(device)
        own = chain.parse(space.format(architecture))
        network = place.place(inherit(chain, run.supernet, own, images.classes, run.macro))
        recalibrate(network, train, place, normal)
        closed_form(network, train, place, normal)
        accuracy = evaluate(network, test, place, normal).accuracy / 100
        seconds = share + clock(device) - begun
        yield Measurement(SUPERNET.name, architecture, seed, accuracy, seconds)


LABELLERS.register("slices")(Slices())
