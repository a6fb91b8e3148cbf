"""What a search does with networks that begin with pretrained weights.

They take the decisions of ``metad2a.train`` (docs/training.md): the classifier begins in closed form
and is found so again at the end. Batch norms have the statistics of the user's images from the
start, since they follow the batches from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn

from metad2a.model.ridge import fit_ridge
from metad2a.spaces.supernets.mobile import MobileSuperNet
from metad2a.training.depthwise import quicken
from metad2a.training.loop import passed, set_linear
from search.inherit import recalibrate

if TYPE_CHECKING:
    from metad2a.spaces.networks.inverted_residual import InvertedResidualNetwork
    from search.run import Run

_FITTED_A_SECOND = 10  # images, for each second of the budget: one pass must not use it up
_FEWEST_FITTED = 500
_SEED = 0  # of the order in which images are taken for statistics and classifiers
_BATCH, _BATCHES = 64, 8  # of the images that give batch norms their statistics


def begin_pretrained(run: Run) -> None:
    """Give a new supernet the user's statistics and classifiers in closed form, one for each end."""
    supernet = cast(MobileSuperNet, run.network)
    if run.place.device.type == "cpu":
        quicken(supernet)
    largest = supernet.chain.discretise(supernet.chain.cost_table(1, 32)[1][..., 0].astype(float))
    every = supernet.every_end(largest)
    recalibrate(supernet, _calibration(run), run.place, lambda x: list(supernet.ends(x, every)))
    fit_classifiers(run, lambda x: [(f, c) for f, _, c in supernet.ends(x, every)])


def begin_alone(run: Run, network: InvertedResidualNetwork) -> None:
    """Do the same for a network that is trained alone."""
    if run.place.device.type == "cpu":
        quicken(network)
    recalibrate(network, _calibration(run), run.place)
    fit_classifiers(run, lambda x: [(network.features(x), network.classifier)])


def finish(run: Run, network: InvertedResidualNetwork) -> None:
    """Give a trained network statistics of its own and, where it is better, a classifier anew.

    Which of the two classifiers is better is told by the held-out images.
    """
    recalibrate(network, _calibration(run), run.place)
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
