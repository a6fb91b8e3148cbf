"""Images a second that a training learns from, beside a plain loop over the same tensors.

The plain loop is what a tutorial writes: normalised images in memory, forward, loss, backward, clip, step.
Ours augments each batch, keeps averaged weights, and keeps the sums of units' weights beside.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from _report import cores, need, parser, publish, required, run, table
from torch import nn

from metad2a.datasets import load_dataset
from metad2a.datasets.batches import Batches
from metad2a.protocol import FineTune
from metad2a.spaces import SPACES
from metad2a.training.device import plan
from metad2a.training.loop import Normalisation, Training

LIMIT = 1.2
ROUNDS, STEPS = 5, 10
RECIPE = FineTune(rate=1e-3)
NETWORKS = ((64, 5), (96, 6), (128, 7))


def timed(step: Callable[[], object]) -> float:
    """Return the seconds of a step, over several."""
    start = time.perf_counter()
    for _ in range(STEPS):
        step()
    return (time.perf_counter() - start) / STEPS


def plain(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> Callable[[], object]:
    """Return a step of the plain loop."""
    optimiser = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
    loss = nn.CrossEntropyLoss(label_smoothing=0.1)
    rng = np.random.default_rng(0)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # Statistics are kept, as by ours.
            module.eval()

    def step() -> None:
        rows = torch.from_numpy(rng.choice(len(images), RECIPE.batch, replace=False))
        optimiser.zero_grad(set_to_none=True)
        loss(network(images[rows]), labels[rows]).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()

    return step


def main() -> None:
    arguments = parser(__doc__)
    args = arguments.parse_args()
    space, place, normal = SPACES.get("efficientnet_lite"), plan("cpu"), Normalisation()
    lines, worst = [], 0.0
    with load_dataset(need(args.shared, "data/rsscn7")) as dataset:
        for resolution, stages in NETWORKS:
            architecture = space.whole(stages, resolution)
            batches = Batches(dataset, np.flatnonzero(dataset.split == 0), resolution)
            classes = len(dataset.classes)

            def built() -> nn.Module:
                return place.place(space.build(architecture, classes, pretrained=True))  # noqa: B023

            images = normal(batches.take(torch.arange(len(batches))))
            images = images.contiguous(memory_format=place.memory_format)
            steps = {
                "plain": plain(built(), images, batches.labels),
                "ours": Training(built(), batches, RECIPE, 10_000, place, normal).step,
            }
            found: dict[str, list[float]] = {name: [] for name in steps}
            for step in steps.values():
                timed(step)  # what is made once
            for _ in range(ROUNDS):
                for name, step in steps.items():
                    found[name].append(timed(step))
            ratios = np.array(found["ours"]) / np.array(found["plain"])
            worst = max(worst, float(np.median(ratios)))
            lines.append(
                (
                    space.format(architecture),
                    *(f"{RECIPE.batch / np.median(found[name]):.0f}" for name in steps),
                    f"{np.median(ratios):.2f}",
                    f"{ratios.min():.2f} to {ratios.max():.2f}",
                )
            )
    publish(
        "throughput",
        "Training, beside a plain loop",
        [
            f"Images a second on {cores()} cores; medians of {ROUNDS} rounds of {STEPS} steps in turn. No stage is "
            "frozen. The ratio is of times, ours over the plain loop's.",
            table(("network", "plain", "ours", "ratio", "range"), lines),
            required([("time over that of a plain loop", worst, LIMIT, "", False)]),
        ],
    )


if __name__ == "__main__":
    run(main)
