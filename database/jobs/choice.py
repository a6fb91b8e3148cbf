"""Which architectures a task is measured on, or which pairs of a pretrained network and a recipe.

Of pairs two in three are whole pieces of the pretrained network, the third is a member of the
space, spread over its multiply-adds; in a space without whole pieces all are members. A recipe is a
rate and a number of epochs, as many as a label's time allows. The best of hundreds of expectations
is too good to be true where few were measured. So a part of the
labels is of those pairs that the packaged model expects most of, as `train` chooses them; a model
that learnt from them asks for others.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from database.tasks import Task, seeded
from metad2a.errors import InputError
from metad2a.protocol import FineTune, Protocol, fine_tune
from metad2a.spaces import Architecture, SearchSpace
from metad2a.spaces.efficientnet_lite import SPACE as PARENT
from metad2a.spaces.efficientnet_lite import EfficientNetLite
from metad2a.training.plan import RATES, Time, ways

if TYPE_CHECKING:
    from metad2a.model.landmarks import Landmarks

WHOLE = ((5, 64), (6, 96), (7, 128), (6, 64), (5, 96), (7, 96), (6, 128))
"""Stages and resolution, in pixels, of whole pieces."""
SHALLOW = 0.15
"""Share of the whole pieces that keep one block of each stage."""
DEEP_RATES = RATES[:3]
"""Of networks of all seven stages, which the strongest destroys."""
FROZEN = (0, 0, 2, 3, 5)
"""First stages that stay frozen, each as likely as its share here."""
EPOCHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 11.0, 16.0, 22.0, 32.0, 45.0, 64.0, 90.0)
"""Passes over the training images, nearly evenly spread over their logarithm."""
MOST_EPOCHS = 16.0
MOST_IMAGES = 4000
"""Images that a training of few sees, where that is more than :data:`MOST_EPOCHS` passes."""
MOST_SECONDS = 40.0
"""Of one core, that a training may take by estimate."""
STEP = 4.8
"""Multiply-adds of a training step over those of its forward pass, by the time that it takes."""
MACS_PER_SECOND = 8.5e9
"""Of one core, forward."""
EXPECTED_SECONDS = (80.0, 20.0)
"""Of one core: for these the best expected trainings are asked."""
MOST_RESOLUTION = 128
_CANDIDATES = 4096
"""Networks to choose among in a space that cannot be listed."""
_MEMBERS = 2048
"""Networks that the third of the pairs are chosen among."""
_MACS = 130_000_000
"""Most multiply-adds of networks with a resolution of their own: EfficientNet-Lite0's at 128 px."""
_GOLDEN = (5**0.5 - 1) / 2


@lru_cache(maxsize=8)
def _candidates(space: SearchSpace) -> tuple[np.ndarray, np.ndarray]:
    """Return int (n, slots) distinct members, and their int (n,) parameters.

    All that there are, or, in a space too large for that, a sample that is always the same; in a
    space of networks with a resolution of their own, of those that a label can be had of in time.
    """
    cells = space.listed()
    if cells is None:
        limit = _MACS if space.pretrained else None
        cells = space.as_array(space.pool(_CANDIDATES, seeded("pool", space.name), max_macs=limit))
    return cells, space.costs(cells, classes=10)[:, 0]


def choose(
    space: SearchSpace, count: int, seed: int, key: str, resolution: int | None = None
) -> list[Architecture]:
    """Return ``count`` distinct canonical architectures for the task with ``key``.

    However many are taken from the front, they are spread evenly over the space's parameter
    counts: ordered by parameters, ties at random, they are visited at steps of the golden ratio.
    A larger ``count`` only appends; never more than the space, or its sample, holds. With a
    ``resolution`` they all have it.
    """
    cells, params = _candidates(space)
    if resolution is not None:
        alike = [space.resolution(tuple(cell)) == resolution for cell in cells.tolist()]
        cells, params = cells[alike], params[alike]
    rng = seeded("architectures", seed, key)
    order = np.lexsort((rng.random(len(cells)), params))
    start = rng.random()
    chosen: dict[int, None] = {}
    step = 0
    while len(chosen) < min(count, len(cells)):
        chosen.setdefault(int((start + step * _GOLDEN) % 1 * len(cells)))
        step += 1
    return [tuple(cells[order[place]].tolist()) for place in chosen]


def recipes() -> tuple[Protocol, ...]:
    """Return every recipe that a pair may have."""
    return tuple(
        fine_tune(rate, epochs, frozen)
        for rate in RATES
        for epochs in EPOCHS
        for frozen in sorted(set(FROZEN))
    )


def pairs(
    space: SearchSpace, count: int, seed: int, task: Task
) -> list[tuple[Architecture, Protocol]]:
    """Return distinct pairs for a task, in order of the networks' resolution.

    A larger ``count`` adds to the pairs of a smaller one. Networks whose single epoch would take
    longer than a label may are left out: fewer pairs come back where few are left.

    Raises:
        InputError: networks of the space have no pretrained weights.
    """
    if not space.pretrained:
        raise InputError(
            f"Networks of {space.name!r} have no pretrained weights to fine-tune. Name a space of which "
            "`metad2a spaces` says that it is pretrained, or use the method 'spread'."
        )
    rng = seeded("pairs", seed, task.key)
    wholes = [WHOLE[place] for place in rng.permutation(len(WHOLE))]
    members, start = _members(space), rng.random()
    cut = space if isinstance(space, EfficientNetLite) else None
    found: dict[tuple[Architecture, str], Protocol] = {}
    for step in range(16 * count):
        if len(found) == count:
            break
        turn, part = divmod(step, 1 if cut is None else 3)
        if cut is not None and part < 2:
            stages, resolution = wholes[(2 * turn + part) % len(wholes)]
            architecture = cut.whole(stages, resolution)
            if rng.random() < SHALLOW:
                architecture = _shallow(cut, architecture)
        else:
            place = int((start + turn * _GOLDEN) % 1 * len(members))
            architecture = members[place]
        stages = space.depth_in_stages(architecture)
        rates = DEEP_RATES if stages == 7 else RATES
        rate, luck, frozen = float(rng.choice(rates)), rng.random(), int(rng.choice(FROZEN))
        frozen = frozen if frozen < stages else 0
        allowed = _epochs(space, architecture, task)
        # Few steps teach little: what a user has time for is more.
        allowed = allowed[len(allowed) // 2 :]
        if allowed:
            protocol = fine_tune(rate, allowed[int(luck * len(allowed))], frozen)
            found.setdefault((architecture, protocol.name), protocol)
    pairs = [(architecture, protocol) for (architecture, _), protocol in found.items()]
    return sorted(pairs, key=lambda pair: space.resolution(pair[0]))


def expected(
    space: SearchSpace, count: int, task: Task, landmarks: Landmarks
) -> list[tuple[Architecture, Protocol]]:
    """Return the trainings of which the packaged model expects most, for several amounts of time.

    The best of each amount, then of each the best of another depth or resolution, and so on. A
    larger ``count`` adds to the pairs of a smaller one.

    Args:
        space: of pretrained networks.
        count: of pairs.
        task: whose pairs are asked for.
        landmarks: of its training images.

    Raises:
        InputError: the space has no pretrained network to take pieces of.
    """
    from metad2a.model.performance import packaged

    networks = [
        one for one in _cut(space).anchors(cut=True) if space.resolution(one) <= MOST_RESOLUTION
    ]
    images, classes, most = len(task.train), len(task.classes), _most_epochs(task)
    queues = []
    for seconds in EXPECTED_SECONDS:
        clock = Time(seconds, MACS_PER_SECOND, images, len(task.test))
        options = [
            (networks[number], _listed(recipe, most))
            for number, recipe in ways(space, clock, networks, classes)
            if recipe.rate
        ]
        if not options:
            continue
        architectures, recipes = zip(*options, strict=True)
        answer = packaged().predict(landmarks, space, architectures, recipes, classes, images)
        best: dict[Architecture, FineTune] = {}
        for place in (-answer.mean).argsort(kind="stable").tolist():
            best.setdefault(*options[place])
        queues.append(list(best.items()))
    found: dict[tuple[Architecture, str], Protocol] = {}
    for rank in range(len(networks)):
        for queue in queues:
            if len(found) < count and rank < len(queue):
                architecture, recipe = queue[rank]
                protocol = fine_tune(recipe.rate, recipe.epochs, recipe.frozen_stages)
                found.setdefault((architecture, protocol.name), protocol)
    return [(architecture, protocol) for (architecture, _), protocol in found.items()]


def _listed(recipe: FineTune, most: float) -> FineTune:
    """Return the recipe with the nearest number of epochs below that labels have."""
    epochs = max(one for one in EPOCHS if one <= max(EPOCHS[0], min(recipe.epochs, most)))
    return dataclasses.replace(recipe, epochs=epochs)


def parents(space: SearchSpace) -> list[Architecture]:
    """Return the whole pretrained network at the resolution of most labels, and at its own.

    Raises:
        InputError: the space has no pretrained network.
    """
    return [_cut(space).whole(7, resolution) for resolution in (128, 224)]


def _cut(space: SearchSpace) -> EfficientNetLite:
    if not isinstance(space, EfficientNetLite):
        raise InputError(
            f"Whole pieces and pairs are taken of the space 'efficientnet_lite', not of "
            f"{space.name!r}. Name that space in the plan, or use the method 'spread'."
        )
    return space


def _most_epochs(task: Task) -> float:
    """Return the most epochs that a training on the task may have, however short they are."""
    return max(MOST_EPOCHS, MOST_IMAGES / len(task.train))


def _epochs(space: SearchSpace, architecture: Architecture, task: Task) -> tuple[float, ...]:
    """Return the epochs that a training on the task may have."""
    images = len(task.train)
    macs = space.cost(architecture, len(task.classes)).macs
    most = min(
        _most_epochs(task),
        MOST_SECONDS * MACS_PER_SECOND / (STEP * macs * images),
    )
    return tuple(epochs for epochs in EPOCHS if epochs <= most)


def _shallow(space: EfficientNetLite, architecture: Architecture) -> Architecture:
    """Return a network with one block in each stage."""
    chosen = list(architecture)
    for slot in space.blocks_slots:
        if slot is not None:
            chosen[slot] = 0
    return space.canonical(tuple(chosen))


@lru_cache(maxsize=8)
def _members(space: SearchSpace) -> list[Architecture]:
    """Return members of the space in order of their multiply-adds, always the same."""
    limit = PARENT.cost(PARENT.whole(7, MOST_RESOLUTION), 10).macs
    found = [
        one
        for one in space.pool(_MEMBERS, seeded("pairs", space.name), max_macs=limit)
        if space.resolution(one) <= MOST_RESOLUTION
    ]
    costs = space.costs(np.array(found), classes=10)
    return [found[place] for place in np.lexsort((costs[:, 0], costs[:, 1]))]
