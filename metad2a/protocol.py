"""Protocols: how a network's accuracy (or score) came about, as values. The only place of numbers.

A protocol's name stands for every number of its recipe. Changing one is another name, so that old
and new rows never mix; the digest tells them apart even where somebody forgot.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from metad2a.errors import InputError


@dataclass(frozen=True)
class FineTune:
    """How one network is trained on one dataset, from the weights that it has.

    The classifier begins in closed form (ridge regression on the features), then everything is
    trained with AdamW, the rate rising over ``warm_up`` and falling along half a cosine to zero. At
    the end the classifier is found in closed form again: it lags behind features that move.
    """

    rate: float = 1e-3
    """Peak learning rate; 0: the closed-form classifier on frozen features is the result."""
    frozen_stages: int = 0
    """First stages that stay as they are; their output is kept for ``copies`` augmentations."""
    batch_norm: Literal["kept", "moving"] = "kept"
    """Whether statistics of batch norms stay those of the pretrained network or follow the data."""
    epochs: float = 8.0
    """Passes over the training images."""
    closed_form: bool = True
    """Whether the classifier begins and ends in closed form; else it begins small and random."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """SGD has Nesterov momentum 0.9."""
    batch: int = 16
    """Few images are few steps: on 900 images and six epochs, 16 gave 8 points more than 32."""
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    clip: float = 1.0
    """Largest norm of the gradient; without it deep pieces at strong rates may never recover."""
    warm_up: float = 0.2
    """Share of the steps over which the rate rises; Adam's first steps are the rashest."""
    wide: int = 16
    """Inputs of a unit above which its rate is lower, by the root of how many more they are: Adam
    moves every weight alike, and what a thousand of them move together adds up."""
    sums_kept: bool = True
    """Whether the sum of a unit's weights stays as it is. What comes from a ReLU is positive, so
    that Adam's first steps move all weights of a unit to one side, and its output on every image
    alike: the classifier no longer fits, and nothing is learnt (compare gradient centralization,
    Yong et al., ECCV 2020)."""
    momenta: tuple[float, float] = (0.9, 0.95)
    """Of Adam. In a hundred steps the usual second one, 0.999, has not seen enough."""
    average: float = 0.05
    """Span, as a share of the steps, over which weights are averaged exponentially."""
    zoom: float = 0.9
    """Least side of the crops that training sees, as a share of the image's."""
    copies: int = 2
    """Augmented copies of which the output of frozen stages is kept."""


@dataclass(frozen=True)
class Published(FineTune):
    """How the literature trains a network of cells from random weights: for hundreds of epochs.

    All images but the test side train, every number is fixed, and it takes as long as it takes.
    """

    padding: int = 4
    """Pixels of zeros around an image, out of which it is cropped at random."""
    cutout: int = 16
    """Side of the square that is blanked in each image, in pixels."""
    drop_path: float = 0.2
    """Probability of dropping an edge's output, to which it rises evenly from 0 over the epochs."""
    auxiliary: float = 0.4
    """Weight of the loss of a second classifier after two thirds of the cells."""


@dataclass(frozen=True)
class Standalone:
    """How a small network of a space of cells is trained from random weights: by few, fixed steps.

    SGD with Nesterov momentum; a training costs the same whatever the size of the dataset.
    """

    channels: int = 16
    """Channels of the first stage."""
    cells: int = 1
    """Cells in each stage."""
    steps: int = 200
    """Optimiser steps."""
    batch: int = 32
    """Images a step; a smaller training set is one batch."""
    peak_lr: float = 0.1
    """Highest learning rate, from which half a cosine falls to zero."""
    warm_up: float = 0.1
    """Share of the steps over which the rate rises."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    """On all weights."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes."""


@dataclass(frozen=True)
class Protocol:
    """A frozen way of measuring."""

    name: str
    kind: Literal["accuracy", "score"]
    """An accuracy is a fraction 0..1, a score any number."""
    description: str
    recipe: Any = None
    """Its numbers, a dataclass; None where code alone says how."""

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any number of the recipe."""
        numbers = {} if self.recipe is None else dataclasses.asdict(self.recipe)
        text = json.dumps([self.name, self.kind, numbers], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


FINE_TUNE = FineTune()
"""What ``finetune-v1`` fixes; rate, epochs, frozen stages and batch norm are decisions."""
_DECISIONS = {"rate": float, "epochs": float, "frozen_stages": int, "batch_norm": str}
_SHORT = {"rate": "r", "epochs": "e", "frozen_stages": "f", "batch_norm": "b"}
FINE_TUNE_NAME = "finetune-v1"


def fine_tune(
    rate: float,
    epochs: float,
    frozen_stages: int = 0,
    batch_norm: Literal["kept", "moving"] = "kept",
) -> Protocol:
    """Return ``finetune-v1`` with its decisions, which its name carries: ``finetune-v1:r0.002:e8``.

    Decisions that have their default value are not written, but for rate and epochs.
    """
    recipe = dataclasses.replace(
        FINE_TUNE, rate=rate, epochs=epochs, frozen_stages=frozen_stages, batch_norm=batch_norm
    )
    parts = [FINE_TUNE_NAME, f"r{rate:g}", f"e{epochs:g}"]
    if frozen_stages:
        parts.append(f"f{frozen_stages}")
    if batch_norm != FINE_TUNE.batch_norm:
        parts.append(f"b{batch_norm}")
    return Protocol(
        ":".join(parts),
        "accuracy",
        "test accuracy of a pretrained network fine-tuned on the task: classifier in closed form "
        f"before and after, AdamW, peak rate {rate:g}, {epochs:g} epochs of batches of {recipe.batch}, gradient "
        f"clipped at {recipe.clip:g}, label smoothing {recipe.label_smoothing:g}, weight decay "
        f"{recipe.weight_decay:g}, averaged weights, crops of at least {recipe.zoom:g} of the side",
        recipe,
    )


def parse_fine_tune(name: str) -> Protocol:
    """Read a name that :func:`fine_tune` wrote.

    Raises:
        InputError: it is no such name.
    """
    head, *parts = name.split(":")
    long = {short: key for key, short in _SHORT.items()}
    try:
        if head != FINE_TUNE_NAME:
            raise KeyError(head)
        values: dict[str, Any] = {
            long[part[0]]: _DECISIONS[long[part[0]]](part[1:]) for part in parts
        }
        return fine_tune(**values)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise InputError(
            f"{name[:80]!r} is no protocol of fine-tuning; write it as "
            f"{fine_tune(2e-3, 8).name!r}, with ':f3' for frozen stages."
        ) from error


PROBE = Protocol(
    "probe-v1",
    "accuracy",
    "test accuracy of the closed-form classifier on frozen features, no training at all",
    dataclasses.replace(FINE_TUNE, rate=0.0, epochs=0.0),
)


@dataclass(frozen=True)
class Sandwich:
    """How the network of which all of a space are slices is trained on one dataset.

    Yu and Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019: from
    each mini-batch the largest network learns, the smallest, and some between them.
    """

    images: int = 10_000
    """That pass forward and backward, each counted once for every network of its step."""
    between: int = 2
    """Networks of a step, drawn at random, beside the largest and the smallest."""
    training: FineTune = FINE_TUNE
    """Of the shared weights; its ``epochs`` and average are not looked at."""


SUPERNET = Protocol(
    "supernet-v1",
    "accuracy",
    "test accuracy with shared weights: the largest network of a pretrained space, of which all are slices, is fine-tuned "
    "on the task at the resolution of those that are measured, by the sandwich rule (largest, smallest, two at random) on "
    "10,000 images through one of them, AdamW, peak rate 0.002, batches of 16; of a slice batch norms are estimated "
    "anew on up to 512 training images and the classifier is found in closed form",
    Sandwich(training=dataclasses.replace(FINE_TUNE, rate=2e-3, batch_norm="moving")),
)
SCRATCH = Protocol(
    "scratch-v1",
    "accuracy",
    "test accuracy after training the whole network from random weights for the time given: SGD "
    "with Nesterov momentum 0.9, peak rate 0.1, weight decay 5e-4, label smoothing 0.1",
    dataclasses.replace(
        FINE_TUNE,
        rate=0.1,
        batch_norm="moving",
        closed_form=False,
        sums_kept=False,
        optimiser="sgd",
        weight_decay=5e-4,
        clip=5.0,
        warm_up=0.1,
        batch=32,
        zoom=0.7,
    ),
)
DARTS_600 = Protocol(
    "darts600",
    "accuracy",
    'test accuracy after 600 epochs from random weights as in Liu, Simonyan and Yang, "DARTS", ICLR 2019: SGD with '
    "momentum 0.9, rate 0.025 falling along half a cosine, batches of 96, weight decay 3e-4, gradient clipped at 5, "
    "crops out of a border of 4 pixels, cutout of 16, drop path up to 0.2, second classifier weighing 0.4",
    Published(
        rate=0.025,
        batch_norm="moving",
        epochs=600.0,
        closed_form=False,
        optimiser="sgd",
        batch=96,
        weight_decay=3e-4,
        label_smoothing=0.0,
        clip=5.0,
        warm_up=0.0,
        sums_kept=False,
        average=0.0,
    ),
)
RECIPES = {DARTS_600.name: DARTS_600}
"""Recipes that take as long as they take, by name."""
STANDALONE = Protocol(
    "standalone-v1",
    "accuracy",
    "test accuracy after training from scratch: C=16, one cell a stage, 200 steps of 32 images, "
    "SGD with Nesterov momentum 0.9, learning rate 0.1 (warm-up, cosine), weight decay 5e-4, label "
    "smoothing 0.1, random crops, no flips; at most 2,000 training images of at most 32x32 pixels",
    Standalone(),
)
