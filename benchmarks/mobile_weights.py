"""What networks of the mobile spaces begin with: inherited weights, and two starts of MobileNetV3.

Datasets are some of the data folder's; nothing is fitted to their test sides.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from _report import need, parser, publish, run, table

from metad2a.datasets import load_dataset
from metad2a.datasets.batches import Batches
from metad2a.protocol import FINE_TUNE
from metad2a.spaces import SPACES, pretrained
from metad2a.spaces.efficientnet_lite import SPACE as LITE
from metad2a.spaces.efficientnet_lite import efficientnet_lite0
from metad2a.spaces.pretrained import Weights
from metad2a.training.device import plan
from metad2a.training.evaluate import evaluate
from metad2a.training.loop import Normalisation, Training, closed_form, recalibrate
from metad2a.training.sides import split

DATASETS = ("pacs_photo", "flowers_5", "rsscn7", "trashnet")
CUT = (
    ("uncut", "r96-s7-d22334-e666666666666666-k555555555"),
    ("expansion 4", "r96-s7-d22334-e444444444444444-k555555555"),
    ("expansion 3", "r96-s7-d22334-e333333333333333-k555555555"),
    ("expansion 2", "r96-s7-d22334-e222222222222222-k555555555"),
    ("kernel 3", "r96-s7-d22334-e666666666666666-k333333333"),
    ("stages 1-5, uncut", "r96-s5-d2233-e6666666666-k55555"),
    ("stages 1-5, expansion 4", "r96-s5-d2233-e4444444444-k55555"),
    ("stages 1-5, expansion 3", "r96-s5-d2233-e3333333333-k55555"),
    ("stages 1-5, expansion 2", "r96-s5-d2233-e2222222222-k55555"),
    ("stages 1-5, kernel 3", "r96-s5-d2233-e6666666666-k33333"),
)
IMAGES, STARTED = 300, 400
MEMBERS = 8
MOBILENET = f"r64-d22222-ks{'5500' * 5}-e{'4400' * 5}"
STEPS = 150
RATES = (1e-3, 3e-3)


@contextmanager
def as_once_for_all_inherits() -> Iterator[Weights]:
    """Rank channels by the projection's L1 norm, take the centre, make up for nothing."""
    own = efficientnet_lite0()
    ranking = {
        name.removesuffix(".project.conv.weight"): tensor.abs()
        .sum((0, 2, 3))
        .argsort(descending=True, stable=True)
        for name, tensor in own.tensors.items()
        if name.endswith(".project.conv.weight")
    }
    kept = pretrained.CORRECTED, pretrained.RIM
    pretrained.CORRECTED, pretrained.RIM = 0.0, 0.0
    try:
        yield dataclasses.replace(own, ranking=ranking)
    finally:
        pretrained.CORRECTED, pretrained.RIM = kept


def batches(shared, name: str, side: int, most: int) -> tuple[Batches, Batches, int]:
    """Return training and test images, and how many classes there are."""
    dataset = load_dataset(str(need(shared, f"data/{name}")))
    sides = split(dataset, 0)
    rng = np.random.default_rng(0)
    train = rng.permutation(np.concatenate([sides.train, sides.choice]))[:most]
    test = rng.permutation(sides.test)[:most]
    return (
        Batches(dataset, train, side),
        Batches(dataset, test, side),
        len(dataset.classes),
    )


def frozen(text: str, data: dict, weights: Weights) -> list[float]:
    """Return the accuracy, in percent, of a closed-form classifier on each dataset, left out."""
    architecture, found = LITE.parse(text), []
    for train, _, classes in data[LITE.resolution(architecture)].values():
        network = LITE.build(architecture, classes)
        pretrained.inherit(network, weights)
        head = closed_form(network.eval(), train, plan("cpu"), Normalisation())
        found.append(100 * head.accuracy)
    return found


def inheriting(shared) -> list[str]:
    rng = np.random.default_rng(5)
    members = []
    while len(members) < MEMBERS:
        one = LITE.sample(rng)
        if LITE.stages(one) >= 4 and LITE.resolution(one) <= 128:
            members.append(LITE.format(one))
    texts = [text for _, text in CUT] + members
    sides = {LITE.resolution(LITE.parse(text)) for text in texts}
    data = {
        side: {name: batches(shared, name, side, IMAGES) for name in DATASETS} for side in sides
    }
    with as_once_for_all_inherits() as weights:
        theirs = np.array([frozen(text, data, weights) for text in texts])
    ours = np.array([frozen(text, data, efficientnet_lite0()) for text in texts])
    labels = [label for label, _ in CUT]
    lines = [
        (label, f"{a.mean():.1f}", f"{b.mean():.1f}", f"{(b - a).mean():+.1f}")
        for label, a, b in zip(labels, theirs, ours, strict=False)
    ]
    a, b = theirs[len(CUT) :], ours[len(CUT) :]
    lines.append(
        (
            f"{MEMBERS} random members, 32 to 128 px",
            f"{a.mean():.1f}",
            f"{b.mean():.1f}",
            f"{(b - a).mean():+.1f}",
        )
    )
    return [
        f"**Pieces of EfficientNet-Lite0.** Accuracy in percent of a closed-form classifier on "
        f"frozen features, left out, {IMAGES} training images each of {', '.join(DATASETS)}; mean. "
        "Batch norms are not estimated anew. As once-for-all inherits: channels ranked by the L1 "
        "norm of the projection, the centre of the kernel. As here: ranked by what they add to the "
        "output, half of what is cut off made up for (`metad2a/spaces/pretrained.py`). At 96 px.",
        table(("network", "as once-for-all", "as here", "difference"), lines),
    ]


def started(train: Batches, test: Batches, classes: int, start: str, rate: float):
    """Return test accuracies, in percent, of the frozen start and after training."""
    space, place, normal = SPACES.get("mobilenetv3"), plan("cpu"), Normalisation()
    torch.manual_seed(0)
    network = place.place(
        space.build(space.parse(MOBILENET), classes, pretrained=start == "transplanted")
    ).eval()
    recalibrate(network, train, place, normal)
    closed_form(network, train, place, normal)
    before = evaluate(network, test, place, normal).accuracy
    recipe = dataclasses.replace(FINE_TUNE, rate=rate, batch_norm="moving")
    training = Training(network, train, recipe, STEPS, place, normal, flip=True)
    while training.done < STEPS:
        training.step()
    return before, evaluate(training.averaged, test, place, normal).accuracy


def starts(shared) -> list[str]:
    lines, means = [], {}
    for name in DATASETS:
        train, test, classes = batches(shared, name, 64, STARTED)
        row = [name]
        for start in ("random", "transplanted"):
            found = [started(train, test, classes, start, rate) for rate in RATES]
            values = [found[0][0], *(after for _, after in found)]
            row += [f"{value:.1f}" for value in values]
            means.setdefault(start, []).append(values)
        lines.append(tuple(row))
    average = np.concatenate([np.mean(means[start], 0) for start in ("random", "transplanted")])
    lines.append(("**mean**", *(f"**{value:.1f}**" for value in average)))
    head = ["dataset"]
    for start in ("random", "transplanted"):
        head += [f"{start}, frozen", *(f"{start}, rate {rate:g}" for rate in RATES)]
    return [
        f"**MobileNetV3 from random weights and from blocks of EfficientNet-Lite0.** "
        f"`{MOBILENET}`, {STARTED} training images; test accuracy in percent of the closed-form "
        f"classifier on frozen features, batch norms estimated anew, and after {STEPS} steps of 16 "
        "images (AdamW, gradient clipped at 1, batch norms moving). The transplanted start is what "
        "`build(pretrained=True)` gives.",
        table(head, lines),
    ]


def main() -> None:
    shared = parser(__doc__).parse_args().shared
    need(shared, "data")
    publish(
        "mobile_weights",
        "What networks of the mobile spaces begin with",
        [*inheriting(shared), *starts(shared)],
    )


if __name__ == "__main__":
    run(main)
