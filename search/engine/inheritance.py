"""What networks begin with and what they keep: pretrained weights, and those of a supernet.

Networks that begin pretrained take the decisions of ``metad2a.train`` (docs/training.md): the
classifier begins in closed form and is found so again at the end. Batch norms have the statistics of
the user's images from the start, since they follow the batches from then on.

Plain networks keep the weights of a supernet. Batch norms of a supernet have no affine part and
their convolutions may have a bias. A plain network has it the other way round, so that the bias is
folded into the mean that is subtracted: what it computes is the same. Only the batch norm that
follows a pool in the DARTS supernet has no counterpart. Networks with pools therefore start from
other statistics, and need training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.model.ridge import fit_ridge
from metad2a.spaces import Architecture, WeightSharing
from metad2a.spaces.supernets.base import SuperNet
from metad2a.spaces.supernets.mobile import MobileSuperNet
from metad2a.training.cpu_layers import quicken
from metad2a.training.device import DevicePlan
from metad2a.training.loop import average_statistics, passed, set_linear

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from search.engine.run import Run

_FITTED_A_SECOND = 10  # images, for each second of the budget: one pass must not use it up
_FEWEST_FITTED = 500
_SEED = 0  # of the order in which images are taken for statistics and classifiers
_BATCH, _BATCHES = 64, 8  # of the images that give pretrained batch norms their statistics
_KEPT_BATCH, _KEPT_BATCHES = 128, 4  # of those that give kept weights of cells theirs


def exact(place: DevicePlan) -> DevicePlan:
    """Return the plan in float32: a network that is handed out is used and judged in it."""
    return replace(place, dtype=torch.float32)


def inherited(run: Run, architecture: Architecture) -> nn.Module:
    """Return a plain network with the supernet's weights, and statistics of its own."""
    network = run.place.place(
        inherit(run.space, run.supernet, architecture, run.data.classes, run.macro)
    )
    if run.space.pretrained:
        finish(run, cast("InvertedResidualNetwork", network))
        return network
    size = min(_KEPT_BATCH, len(run.train_x))
    order = np.random.default_rng(run.seed).permutation(len(run.train_x))
    chosen = torch.from_numpy(order[: min(_KEPT_BATCHES, len(order) // size) * size])
    average_statistics(
        network, run.train_x[chosen.to(run.place.device)].split(size), exact(run.place)
    )
    return network


@torch.no_grad()
def inherit(
    space: WeightSharing,
    supernet: SuperNet,
    architecture: Architecture,
    classes: int,
    macro: Mapping[str, Any],
) -> nn.Module:
    """Return the plain network of an architecture with a supernet's weights and statistics.

    The statistics belong to whatever went through the supernet last; see :func:`metad2a.training.loop.average_statistics`.

    Args:
        space: of both.
        supernet: where the weights come from; it is left as it is.
        architecture: one operation index per slot.
        classes: outputs of both.
        macro: ``channels`` and ``cells`` of both.
    """
    if isinstance(supernet, MobileSuperNet):
        return supernet.plain(architecture)
    network = space.build(architecture, classes, **macro)
    bias: Tensor | None = None
    for heir, parent in _pairs(network, cast(nn.Module, supernet), _chosen(supernet, architecture)):
        if isinstance(heir, nn.BatchNorm2d):
            # A new one scales by 1 and adds 0, as a parent without affine part does.
            state = {**heir.state_dict(), **parent.state_dict()}
            if bias is not None:
                state["running_mean"] = state["running_mean"] - bias
            heir.load_state_dict(state)
            bias = None
        elif isinstance(heir, nn.Conv2d):
            state = parent.state_dict()
            bias = state.pop("bias", None)
            heir.load_state_dict(state)
        elif isinstance(heir, nn.Linear):
            heir.load_state_dict(parent.state_dict())
    return network


def _chosen(supernet: SuperNet, architecture: Architecture) -> dict[nn.Module, nn.Module | None]:
    """Return the operation that an architecture uses at each edge of each cell, None for none."""
    leads = {(slot, operation): by for slot, operation, by in supernet.clones}
    found: dict[nn.Module, nn.Module | None] = {}
    for slot, operation in enumerate(architecture):
        copy = architecture[leads[slot, operation]] if (slot, operation) in leads else 0
        for edge in supernet.edges(slot):
            copies = edge.operation(operation)
            found[edge] = copies[copy] if copies else None
    return found


def _pairs(
    heir: nn.Module, parent: nn.Module, chosen: dict[nn.Module, nn.Module | None]
) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield the innermost modules of a plain network with what they correspond to.

    A plain cell holds a module for each edge that it uses, where the supernet's holds every edge.
    """
    if isinstance(heir, nn.ModuleDict):
        used = [one for edge in parent.children() if (one := chosen[edge]) is not None]
        for child, counterpart in zip(heir.values(), used, strict=True):
            yield from _pairs(child, counterpart, chosen)
    elif not list(heir.children()):
        yield heir, parent
    else:
        for name, child in heir.named_children():
            yield from _pairs(child, parent.get_submodule(name), chosen)


def begin_pretrained(run: Run) -> None:
    """Give a new supernet the user's statistics and classifiers in closed form, one for each end."""
    supernet = cast(MobileSuperNet, run.network)
    if run.place.device.type == "cpu":
        quicken(supernet)
    largest = supernet.chain.discretise(supernet.chain.cost_table(1, 32)[1][..., 0].astype(float))
    every = supernet.every_end(largest)
    average_statistics(
        supernet, _calibration(run), run.place, lambda x: list(supernet.ends(x, every))
    )
    fit_classifiers(run, lambda x: [(f, c) for f, _, c in supernet.ends(x, every)])


def begin_alone(run: Run, network: InvertedResidualNetwork) -> None:
    """Do the same for a network that is trained alone."""
    if run.place.device.type == "cpu":
        quicken(network)
    average_statistics(network, _calibration(run), run.place)
    fit_classifiers(run, lambda x: [(network.features(x), network.classifier)])


def finish(run: Run, network: InvertedResidualNetwork) -> None:
    """Give a trained network statistics of its own and, where it is better, a classifier anew.

    Which of the two classifiers is better is told by the held-out images.
    """
    average_statistics(network, _calibration(run), run.place)
    trained = {name: value.clone() for name, value in network.classifier.state_dict().items()}
    before = _right(run, network)
    fit_classifiers(run, lambda x: [(network.features(x), network.classifier)])
    if _right(run, network) < before:
        network.classifier.load_state_dict(trained)


@torch.no_grad()
def fit_classifiers(run: Run, ends: Callable[[Tensor], list[tuple[Tensor, nn.Linear]]]) -> None:
    """Give classifiers the closed form of the images that weights learn from.

    Args:
        run: the search.
        ends: features float (n, f) of images (n, 3, side, side), with the classifier of them.
    """
    most = len(run.train_y)
    if run.budget.seconds is not None:
        most = max(_FEWEST_FITTED, int(_FITTED_A_SECOND * run.budget.seconds))
    index = torch.from_numpy(run.sides["weights"][:most]).to(run.place.device)
    found: list[list[Tensor]] = []
    classifiers: list[nn.Linear] = []
    for part in index.split(passed(run.train_x.shape[-1])):
        with run.place.autocast():
            pairs = ends(run.train_x[part])
        classifiers = [classifier for _, classifier in pairs]
        found.append([features.float().cpu() for features, _ in pairs])
    labels = run.train_y[index].cpu()
    for parts, classifier in zip(zip(*found, strict=True), classifiers, strict=True):
        head = fit_ridge(torch.cat(parts), labels, run.data.classes)
        set_linear(classifier, head)


def _calibration(run: Run) -> Iterator[Tensor]:
    """Yield images for the statistics of batch norms, in batches of one size."""
    order = np.random.default_rng((run.seed, _SEED)).permutation(run.sides["weights"])
    size = min(_BATCH, len(order))
    for number in range(min(_BATCHES, len(order) // size)):
        part = torch.from_numpy(order[number * size : (number + 1) * size])
        yield run.train_x[part.to(run.place.device)]


@torch.no_grad()
def _right(run: Run, network: nn.Module) -> int:
    """Count the held-out images that a network in evaluation mode gets right."""
    right = 0
    size = passed(run.valid_x.shape[-1])
    for x, y in zip(run.valid_x.split(size), run.valid_y.split(size), strict=True):
        with run.place.autocast():
            right += int((network(x).argmax(1) == y).sum())
    return right
