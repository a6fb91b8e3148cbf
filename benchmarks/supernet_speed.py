"""How fast supernets train: our form of a step against the plain one, in one run.

The plain form is what search code usually does: float32 in NCHW order, ``zero_grad`` that fills
with zeros, and a data loader that augments image by image. Both train the same supernet on the same
paths or mixtures with the same optimiser; rounds of the two take turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from _report import cores, parser, publish, required, run, table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from metad2a._torchvision import torchvision
from metad2a.spaces import SPACES, SearchSpace
from metad2a.spaces.supernets.gates import Gates
from metad2a.training.device import plan
from search.data import TaskData
from search.engine.budget import Budget
from search.engine.method import Training
from search.engine.run import Run
from search.methods.fairnas import fair_paths
from search.subspace.subspace import Subspace

BATCH = 64
ROUNDS = 5
FAIR_LIMIT, MIXTURE_LIMIT = 2.0, 1.5
CASES = (
    # name, space, mixture, macro, steps a round
    ("fair paths", "nasbench201", False, {"channels": 16, "cells": 1}, 3),
    ("fair paths", "nasbench201", False, {"channels": 16, "cells": 5}, 1),
    ("mixture", "nasbench201", True, {"channels": 16, "cells": 1}, 3),
    ("fair paths", "darts", False, {"channels": 8, "cells": 5}, 1),
    ("mixture", "darts", True, {"channels": 8, "cells": 5}, 2),
)
Step = Callable[[list[Gates]], int]
"""Takes a step along the gates and returns the images that passed."""


class Augmented(Dataset[tuple[Tensor, int]]):
    """Images that are cropped and normalised one by one, when asked for."""

    def __init__(self, data: TaskData) -> None:
        self.data = data
        transforms = torchvision().transforms
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.ConvertImageDtype(torch.float32),
                transforms.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
            ]
        )

    def __len__(self) -> int:
        return len(self.data.train_y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.data.train_x[index]), int(self.data.train_y[index])


def plain(space: SearchSpace, data: TaskData, macro: dict[str, int]) -> Step:
    """Return a step of the plain form."""
    torch.manual_seed(0)
    network: nn.Module = space.supernet(data.classes, **macro).train()
    optimiser = torch.optim.SGD(network.parameters(), 0.025, 0.9, weight_decay=5e-4)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from DataLoader(Augmented(data), BATCH, shuffle=True, drop_last=True)

    loader = batches()

    def step(choices: list[Gates]) -> int:
        x, y = next(loader)
        optimiser.zero_grad(set_to_none=False)
        for choice in choices:
            F.cross_entropy(network(x, choice), y).backward()
        optimiser.step()
        return len(y) * len(choices)

    return step


def ours(space: SearchSpace, data: TaskData, macro: dict[str, int], device: str) -> Step:
    """Return a step of the search's own form."""
    state = Run(
        space,
        data,
        Subspace(space, data.classes),
        Budget(images=1),
        plan(device),
        dict(macro),
        0,
        lambda: False,
    )
    state.begin_phase(Training(batch=BATCH, weight_decay=5e-4))

    def step(choices: list[Gates]) -> int:
        state.train_weights(state.batch(), choices)
        return BATCH * len(choices)

    return step


def gates(space: SearchSpace, mixture: bool, rng: np.random.Generator) -> list[Gates]:
    """Draw what a step goes through."""
    mask = np.ones((space.slots, len(space.operations)), dtype=bool)
    if mixture:
        return [Gates.mixture(torch.from_numpy(rng.random(mask.shape)).float().softmax(1))]
    return [Gates.path(path, mask.shape[1]) for path in fair_paths(mask, rng)]


def pace(step: Step, choices: list[list[Gates]]) -> float:
    """Return images a second over some steps."""
    start = time.perf_counter()
    images = sum(step(one) for one in choices)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return images / (time.perf_counter() - start)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--device", default="auto")
    args = arguments.parse_args()
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 256, (512, 3, 32, 32), dtype=np.uint8))
    y = torch.from_numpy(rng.integers(0, 10, 512))
    data = TaskData(x, y, x[:2], y[:2], 10)
    rows, ratios = [], {}
    for name, space_name, mixture, macro, steps in CASES:
        space = SPACES.get(space_name)
        forms = (plain(space, data, macro), ours(space, data, macro, args.device))
        paces: list[list[float]] = [[], []]
        for number in range(ROUNDS + 1):
            drawn = [gates(space, mixture, rng) for _ in range(steps)]
            for form, found in zip(forms, paces, strict=True):
                value = pace(form, drawn)
                if number:  # the first round warms up
                    found.append(value)
        before, after = (float(np.median(found)) for found in paces)
        ratios[name, space_name] = max(after / before, ratios.get((name, space_name), 0))
        size = ", ".join(f"{value} {key}" for key, value in macro.items())
        each = sorted(b / a for a, b in zip(*paces, strict=True))
        rows.append(
            (
                f"{space_name}, {name}, {size}",
                f"{before:,.0f}",
                f"{after:,.0f}",
                f"{after / before:.2f}",
                f"{each[0]:.2f} to {each[-1]:.2f}",
            )
        )
        print(rows[-1], flush=True)
    where = plan(args.device)
    gpu = (
        ""
        if where.device.type == "cuda"
        else "The static forms for GPUs (routed fair paths, masked mixtures, compiled) are checked "
        "to equal the plain one in the tests, but no GPU was to be had for this run: there is "
        "no figure."
    )
    publish(
        "supernet_speed",
        "Supernet training speed",
        [
            f"Images a second, {where.device}, {str(where.dtype).removeprefix('torch.')}, batch "
            f"{BATCH}, 32 px, {cores()} cores; a fair path counts each of its images. Medians of "
            f"{ROUNDS} rounds in turn; the last column is the range of the rounds' ratios.",
            table(("supernet", "plain", "ours", "ratio", "range"), rows),
            required(
                [
                    (
                        "fair paths, NAS-Bench-201",
                        ratios["fair paths", "nasbench201"],
                        FAIR_LIMIT,
                        " x",
                        True,
                    ),
                    ("mixture, DARTS space", ratios["mixture", "darts"], MIXTURE_LIMIT, " x", True),
                ]
            ),
            gpu,
        ],
    )


if __name__ == "__main__":
    run(main)
