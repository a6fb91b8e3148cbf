"""Fisher prior: the search starts in the space of what did best on the nearest past tasks.

Source: Le, Soltani, Dong, Tarokh, "Fisher Task Distance and its Application in Neural Architecture
Search", IEEE Access 2022. The distance from each past task to the new one is measured, and the best
architectures of the k nearest define the space: a slot keeps the operations that one of them has
there. The authors then mix a few children of that space ("FUSE"); here any method searches it. They
report 99.86 % test accuracy on their second task of MNIST, at 2.14 M parameters, and 92.58 % on four
classes of CIFAR-10.

How far one task is from another is told by the Fisher information of networks trained on them
(definition of the distance and algorithm 1). Networks of one architecture are trained on either
task, and what the target's data makes of their weights is compared: d = 0 where the source's network
is as good as the target's own, 1 where they use no weight alike. The published code squares the mean
gradient of a batch; here gradients are squared image by image, as the definition says, and the
square root of the sum is taken.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from metad2a.errors import InputError
from metad2a.protocol import Standalone
from metad2a.spaces import Architecture, SearchSpace, WeightSharing
from search.data import TaskData
from search.engine.method import WRAPPERS, Wrapper
from search.engine.run import Run
from search.labellers.standalone import train
from search.subspace.weight_sharing import sharing

SPACE = sharing("nasbench201")
CELL = SPACE.parse(
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_3x3~1|+"
    "|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"
)
"""A residual cell: what tells tasks apart is the weights, so any that learns them well will do."""
RECIPE = Standalone(channels=8, steps=100, peak_lr=0.005)
"""A low learning rate: networks that are far from their common start differ whatever the tasks."""
IMAGES = 128
"""Images of the target by which two networks are compared; all where there are fewer."""
_MOST = 0.5  # of the time; what was not measured by then is left out


def diagonal_fisher(network: nn.Module, x: Tensor, y: Tensor, batch: int = 64) -> dict[str, Tensor]:
    """Return the diagonal of the empirical Fisher information, which sums to one over all weights.

    The mean over images of the squared gradient of log p(label | image), each image on its own.

    Args:
        network: maps images to logits (n, classes); it is put in evaluation mode, so that batch
            norms do not mix images.
        x: float32 (n, 3, h, w).
        y: int64 (n,) labels.
        batch: images at a time, which take ``batch`` times the memory of the weights.

    Returns:
        float64 tensors by name of parameter, each of its parameter's shape.

    Raises:
        InputError: no images, a label that the network has no output for, or no gradient at all.
    """
    return _normalised_squares(network, dict(network.named_parameters()), x, y, batch)


def fisher_distance(
    source_network: nn.Module, target_network: nn.Module, x: Tensor, y: Tensor, batch: int = 64
) -> float:
    """Return how far the source's task is from the target's, 0 to 1; not symmetric.

    That is |sqrt(F_s) - sqrt(F_t)| / sqrt(2), both on the target's data. What one classifier has
    and the other lacks counts as zero. A source of fewer classes knows nothing of the target's
    further ones, so for the gradients its classifier gives them a logit of zero.

    Args:
        source_network: trained on the source's task.
        target_network: of the same architecture but for the number of classes, trained on the
            target's task.
        x: float32 (n, 3, h, w) images of the target's task.
        y: int64 (n,) their labels.
        batch: images at a time.

    Raises:
        InputError: the architectures differ, or as in :func:`diagonal_fisher`.
    """
    own = dict(source_network.named_parameters())
    others = dict(target_network.named_parameters())
    if own.keys() != others.keys() or any(
        own[name].shape[1:] != others[name].shape[1:] for name in own
    ):
        raise InputError(
            "The networks of a source and a target differ in more than the number of "
            "classes; train both with one architecture, channels and cells."
        )
    rows = {name: max(len(own[name]), len(others[name])) for name in own}
    known = {name: _padded(own[name], len(others[name])) for name in own}
    source = _normalised_squares(source_network, known, x, y, batch)
    target = diagonal_fisher(target_network, x, y, batch)
    squared = sum(
        float(
            (_padded(source[name], count).sqrt() - _padded(target[name], count).sqrt())
            .square()
            .sum()
        )
        for name, count in rows.items()
    )
    return min(1.0, math.sqrt(squared / 2))


def approximation_network(
    data: TaskData,
    seed: int,
    device: str = "cpu",
    on_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Return the small network that stands for a task, trained on its training images.

    Args:
        data: the task; its test images play no part but in the trainer's own record.
        seed: of initial weights and order; networks of one seed start alike but for the classifier.
        device: "cpu" or "cuda".
        on_step: told the number of steps after each; what it raises ends the training.
    """
    return train(data, SPACE, CELL, seed, RECIPE, device, on_step).network


def task_distance(
    source: TaskData,
    target: TaskData,
    seeds: Sequence[int],
    device: str = "cpu",
    own: dict[int, nn.Module] | None = None,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Return the mean distance (0 to 1) from a source's to a target's task; not symmetric.

    Args:
        source: a past task.
        target: the new task, on whose training images the distance is measured.
        seeds: of the pairs of networks that are trained; the papers take 5 to 10.
        device: "cpu" or "cuda".
        own: the target's networks by seed, where several sources are compared with it; those that
            are missing are trained and put there.
        on_step: as :func:`approximation_network` takes it.

    Raises:
        InputError: no seeds.
    """
    own = {} if own is None else own
    if not seeds:
        raise InputError("A task distance is a mean over seeds and needs one or more; none given.")
    distances = []
    for seed in seeds:
        if seed not in own:
            own[seed] = approximation_network(target, seed, device, on_step)
        past = approximation_network(source, seed, device, on_step)
        place = next(past.parameters()).device
        order = np.random.default_rng(seed).permutation(len(target.train_y))
        chosen = torch.from_numpy(order[:IMAGES])
        x = target.standardised(target.train_x[chosen], place)
        distances.append(fisher_distance(past, own[seed], x, target.train_y[chosen].to(place)))
    return sum(distances) / len(distances)


def _padded(values: Tensor, rows: int) -> Tensor:
    """Append zeros to (r, ...) until there are ``rows`` rows; more are kept."""
    missing = max(0, rows - len(values))
    return torch.cat([values.detach(), values.new_zeros(missing, *values.shape[1:])])


def _normalised_squares(
    network: nn.Module, parameters: Mapping[str, Tensor], x: Tensor, y: Tensor, batch: int
) -> dict[str, Tensor]:
    """Return :func:`diagonal_fisher` of ``network`` with other values of its parameters."""
    network.eval()
    # Pooling in channels_last order has no batching rule. Only a copy loses that order for sure.
    plain = torch.contiguous_format
    x = x.clone(memory_format=plain)
    weights = {name: p.detach().clone(memory_format=plain) for name, p in parameters.items()}
    with torch.no_grad():
        classes = functional_call(network, weights, (x[:1],)).shape[1] if len(x) else 0
    if not len(x) or not 0 <= int(y.min()) <= int(y.max()) < classes:
        raise InputError(
            f"Fisher information needs images with labels from 0 to {classes - 1}; "
            f"there are {len(x)}, labelled "
            f"{sorted(set(y.tolist()))[:20]}. Give images of the network's classes."
        )

    def loss(values: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(network, values, (image[None],))
        return F.cross_entropy(logits, label[None])

    each = vmap(grad(loss), in_dims=(None, 0, 0))
    total = {name: torch.zeros_like(w, dtype=torch.float64) for name, w in weights.items()}
    for images, labels in zip(x.split(batch), y.split(batch), strict=True):
        for name, gradients in each(weights, images, labels).items():
            total[name] += gradients.double().square().sum(0)
    mass = sum(float(value.sum()) for value in total.values())
    if not 0 < mass < math.inf:
        raise InputError(
            f"The gradients of {len(x)} images have squares that sum to {mass}, so "
            "there is no Fisher information. Train the network for fewer steps, or "
            "with label smoothing."
        )
    return {name: value / mass for name, value in total.items()}


class _CancelledError(Exception):
    """The search is to end."""


class _LateError(Exception):
    """The time for distances is up."""


@dataclass(frozen=True, eq=False)
class PastTask:
    """A task that was searched before."""

    name: str
    data: TaskData
    best: tuple[Architecture, ...]
    """What did best on it."""

    def __repr__(self) -> str:
        """Say which task this is, by its content: a checkpoint belongs to it."""
        return f"PastTask({self.name!r}, {self.data.fingerprint()}, {self.best})"


@WRAPPERS.register("fisher")
class FisherPrior(Wrapper):
    """Narrow the space to what did best on the nearest past tasks (Le et al., 2022).

    Args:
        tasks: :class:`PastTask` items; from Python only.
        nearest: k, how many of them count.
        seeds: pairs of networks trained for a distance; the papers take 5 to 10.

    Raises:
        InputError: an option is out of range, or two tasks have one name.
    """

    def __init__(self, tasks: Sequence[PastTask] = (), nearest: int = 3, seeds: int = 5) -> None:
        if nearest < 1 or seeds < 1:
            raise InputError(f"nearest={nearest} and seeds={seeds} must both be 1 or more.")
        names = [task.name for task in tasks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(
                f"Several past tasks are called {twice[0]!r}; give each a name of its own."
            )
        self.tasks, self.nearest, self.seeds = tuple(tasks), nearest, seeds

    def unfit(self, space: SearchSpace) -> str | None:
        """Refuse spaces whose networks begin pretrained."""
        return (
            (
                "it compares tasks by networks of cells trained from scratch, and past tasks have their "
                "best networks at other resolutions."
            )
            if space.pretrained
            else None
        )

    def begin(self, run: Run) -> None:
        """Measure the distances and narrow the space; a checkpoint knows both already.

        Raises:
            InputError: no past tasks, or one without a best architecture of the searched space.
        """
        if not self.tasks:
            raise InputError(
                "The wrapper 'fisher' narrows the space to what did best on past "
                "tasks, and has none: give some, options={'fisher.tasks': "
                "[search.wrappers.fisher.PastTask(name, data, best), ...]}."
            )
        for task in self.tasks:
            _check(task, run.space)
        self.run = run
        self.distances: dict[str, float] = {}
        self.narrowed = False
        if not run.resumed:
            self._narrow(run)

    def _narrow(self, run: Run) -> None:
        """Do both; nothing where the search is cancelled meanwhile."""
        seeds, own = range(run.seed, run.seed + self.seeds), dict[int, nn.Module]()

        def ask(step: int = 0) -> None:
            if run.stop():
                raise _CancelledError
            if run.budget.elapsed > _MOST * run.budget.limit:
                raise _LateError

        try:
            for task in self.tasks:
                if task.name not in self.distances:  # measured before a cancellation
                    ask()
                    self.distances[task.name] = task_distance(
                        task.data, run.data, seeds, str(run.place.device), own, ask
                    )
        except _CancelledError:
            return
        except _LateError:
            run.note("no time to measure the distance from every past task")
        near = sorted(
            (task for task in self.tasks if task.name in self.distances),
            key=lambda task: self.distances[task.name],
        )[: self.nearest]
        best = [architecture for task in near for architecture in task.best]
        if best:
            wanted = copy.copy(run.subspace)
            wanted.mask = wanted.mask.copy()
            wanted.keep(run.space.as_array(best))
            # One by one, since limits may forbid what was best elsewhere.
            for slot, operation in np.argwhere(run.subspace.choices() & ~wanted.mask):
                run.subspace.drop(int(slot), int(operation))
        self.narrowed = True
        told = ", ".join(
            f"{name} {distance:.3f}"
            for name, distance in sorted(self.distances.items(), key=lambda pair: pair[1])
        )
        run.note(
            f"Fisher distances of past tasks: {told or 'none measured'}; the best "
            f"architectures of {', '.join(task.name for task in near) or 'none'} leave "
            f"{int(run.subspace.mask.sum())} of {run.subspace.mask.size} operations"
        )

    def facts(self) -> dict[str, Any]:
        """Return the distances and whether the space was narrowed."""
        return {"distances": self.distances, "narrowed": self.narrowed}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Take them over, and go on where the search was cancelled on the way."""
        self.distances, self.narrowed = dict(facts["distances"]), facts["narrowed"]
        if not self.narrowed:
            self._narrow(self.run)


def _check(task: PastTask, space: WeightSharing) -> None:
    allowed = len(space.operations)
    for one in task.best:
        if (
            len(one) != space.slots
            or not all(0 <= op < allowed for op in one)
            or (not space.is_connected(one))
        ):
            raise InputError(
                f"{one} is called best on the past task {task.name!r} and is no "
                f"architecture of {space.name!r}; give those of the searched space."
            )
    if not task.best:
        raise InputError(f"The past task {task.name!r} has no best architecture; give one or more.")
