"""``search``: one weight-sharing search on a user's dataset, within a budget and limits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metad2a._onednn import spare_narrow
from metad2a._torch_state import usual
from metad2a.datasets import load_dataset
from metad2a.errors import InputError
from metad2a.export.delivered import Delivered
from metad2a.export.untrained import LIMITS as MACRO_LIMITS
from metad2a.spaces import SPACES, Architecture, SearchSpace, WeightSharing
from metad2a.spaces._chain import Chain
from metad2a.training.device import DevicePlan, plan
from search.budget import Budget
from search.composition import Composition, compose
from search.data import MOST_IMAGES, TaskData, search_task
from search.delivery import deliver
from search.engine import Engine, Progress
from search.method import Ranking
from search.resolution import of_images, suggested
from search.result import SearchResult
from search.run import SMALLEST_BATCH, Run
from search.sharing import at, sharing
from search.subspace import Subspace

METHOD, PRETRAINED_METHOD = "dropnas", "sandwich"
"""What searches where no method is named: spaces of cells, and networks that begin pretrained."""
_FEWEST_IMAGES = 500  # taken of a dataset however short the time
_CANCELLED = 5.0  # seconds, for the accuracy of what a cancelled search found
_MOST_PARAMS = 500_000_000  # weights, their gradients, momentum and base are four times as many
_FASTEST = {"cpu": 1e11, "cuda": 1e15}  # multiply-adds a second, in orders of magnitude
_IMAGES_A_SECOND = 40  # taken for each second of the budget: reading must not use the time up
_PIXELS = 2**27  # that are kept as floats, in 1.6 GB: 14,500 images at 96 px, 2,600 at 224


@dataclass(frozen=True, eq=False)
class Search:
    """A search that was conducted, with everything it learnt: what :func:`search` works with."""

    run: Run
    composed: Composition
    ranking: Ranking
    complete: bool

    def member(self, architecture: Architecture) -> Architecture:
        """Return an architecture of the ranking as its space has it."""
        space = self.run.space
        return space.member(architecture) if isinstance(space, Chain) else architecture

    def searched(self, architecture: Architecture) -> Architecture | None:
        """Return a space's architecture as the ranking has it; None if it was out of reach.

        Networks of another resolution than that of the search are.
        """
        space = self.run.space
        if not isinstance(space, Chain):
            return architecture
        found = space.of(architecture)
        same = space.space.resolution(architecture) == space.input_size
        return found if same and self.run.subspace.contains(found) else None

    def delivered(self, architecture: Architecture) -> Delivered | None:
        """Return the trained network of an architecture, if the method keeps it."""
        kept = self.composed.method.network(self.run, architecture)
        return None if kept is None else deliver(kept, self.run.data)

    def accuracy(
        self,
        architecture: Architecture,
        delivered: Delivered | None = None,
        seconds: float | None = None,
    ) -> float | None:
        """Return an architecture's accuracy (0..1) on held-out images; None if not measured.

        Args:
            architecture: of the ranking.
            delivered: its trained network, if the method keeps it; looked up where None.
            seconds: after which it is of those images that were seen by then; where None, those
                that are left of the budget, or a few where the search was cancelled.
        """
        judge, budget = self.run.judge, self.run.budget
        if seconds is None:
            seconds = budget.limit - budget.elapsed if self.complete else _CANCELLED
        judge.seconds = seconds
        kept = delivered or self.delivered(architecture)
        if kept is not None:
            return judge.delivered(kept)
        return self.composed.method.accuracy(self.run, architecture)

    @property
    def protocol(self) -> str:
        """How the winner's accuracy is measured, and on which images."""
        own = self.composed.method.protocol
        third = self.run.data.report_x is not None
        return f"{own} that {'chose nothing' if third else 'chose it, too'}"

    def result(self) -> SearchResult:
        """Sum up."""
        run = self.run
        best = self.ranking[0][0]
        kept = self.delivered(best)
        accuracy = self.accuracy(best, kept)
        width, depth = run.space.width_depth(best)
        return SearchResult(
            space=run.space.name,
            method=self.composed.name,
            architecture=run.space.format(best),
            scores={run.space.format(a): s for a, s in self.ranking},
            accuracy=accuracy,
            protocol=self.composed.method.protocol if accuracy is None else self.protocol,
            cost=run.space.cost(best, run.data.classes),
            width=width,
            depth=depth,
            seconds=run.budget.elapsed,
            images=run.images,
            steps=run.steps,
            complete=self.complete,
            seed=run.seed,
            device=str(run.place.device),
            classes=run.data.classes,
            macro=dict(run.macro),
            history=tuple(run.history),
            network=kept,
            class_names=run.data.names,
        )


@usual()
def search(
    dataset: Any,
    space: str = "nasbench201",
    method: str | None = None,
    minutes: float = 10,
    seed: int = 0,
    device: str = "auto",
    max_params: int | None = None,
    max_macs: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    images: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    resolution: int | None = None,
    checkpoint: str | Path | None = None,
    should_stop: Callable[[], bool] | None = None,
    faithful: bool = False,
    options: Mapping[str, Any] | None = None,
) -> SearchResult:
    """Search for the architecture that does best on a dataset.

    Args:
        dataset: anything that :func:`metad2a.load_dataset` takes. Every fifth image of a class is
            held out, half of them to choose by, half for the accuracy that is reported (all to
            choose by, where a class has five images or fewer); the dataset's own test side is left
            alone. A short search takes part of a large dataset only, as many of each class as can
            be.
        space: name of the search space.
        method: a method and any wrappers, ``"dropnas+curriculum+pwsnas"``; where None,
            :data:`METHOD` in spaces of cells, :data:`PRETRAINED_METHOD` where networks begin
            pretrained.
        minutes: of wall clock, in all.
        seed: 0 or greater. With a budget of ``images``, the same seed gives the same result on
            the CPU; time is never the same twice.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        max_params: most trainable parameters of the network in the space's default size.
        max_macs: most multiply-adds of one image, likewise.
        progress: told after each step.
        images: a budget of images that pass forward and backward, in the place of ``minutes``.
        channels: of the supernet's first stage; the space's own for the device where None.
        cells: of the supernet; likewise.
        resolution: side of the images in pixels, in spaces where that is a decision; what the
            dataset's landmarks suggest for the time where None.
        checkpoint: a file to go on from where it exists, and written on the way.
        should_stop: asked between steps; True ends the search early, with what it has.
        faithful: restore the quirks of published code where they differ from the paper's intent.
        options: settings of the method's parts, such as ``{"dropnas.rate": 1e-5}``.

    Raises:
        InputError: the dataset or an argument cannot be used, or the loss is no number whatever
            the learning rate.
        BudgetError: a limit is below the smallest network; names the smallest feasible value.
        ArtifactError: the checkpoint is damaged or cannot be written.
    """
    return conduct(
        dataset,
        space,
        method,
        minutes,
        seed,
        device,
        max_params,
        max_macs,
        progress,
        images=images,
        channels=channels,
        cells=cells,
        resolution=resolution,
        checkpoint=checkpoint,
        should_stop=should_stop,
        faithful=faithful,
        options=options,
    ).result()


@usual()
def conduct(
    dataset: Any,
    space: str = "nasbench201",
    method: str | None = None,
    minutes: float = 10,
    seed: int = 0,
    device: str = "auto",
    max_params: int | None = None,
    max_macs: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    *,
    images: int | None = None,
    channels: int | None = None,
    cells: int | None = None,
    resolution: int | None = None,
    checkpoint: str | Path | None = None,
    should_stop: Callable[[], bool] | None = None,
    faithful: bool = False,
    options: Mapping[str, Any] | None = None,
    warm: tuple[Architecture, ...] = (),
) -> Search:
    """Conduct a search and return it with its shared weights; arguments as in :func:`search`.

    ``dataset`` may also be a :class:`~search.data.TaskData`; ``warm`` are architectures to start
    from, best first.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed={seed!r} must be a whole number from 0 up.")
    if not isinstance(minutes, (int, float)) or not 0 < minutes < math.inf:
        raise InputError(f"minutes={minutes!r} must be a positive number.")
    for name, value in (("channels", channels), ("cells", cells)):
        if value is not None and (type(value) is not int or not 1 <= value <= MACRO_LIMITS[name]):
            raise InputError(
                f"{name}={value!r} must be a whole number from 1 to {MACRO_LIMITS[name]:,}: the size of "
                "the supernet."
            )
    budget = Budget(images=images) if images is not None else Budget(seconds=60 * minutes)
    place, asked = plan(device), SPACES.get(space)
    usual_method = PRETRAINED_METHOD if asked.pretrained else METHOD
    composed = compose(method or usual_method, options, faithful)
    composed.check(asked)
    _check_sizes(asked, resolution, channels=channels, cells=cells)
    chosen, data = _opened(
        dataset,
        asked,
        resolution,
        seed,
        budget,
        place,
        {"max_params": max_params, "max_macs": max_macs},
    )
    warm = tuple(chosen.of(one) for one in warm) if isinstance(chosen, Chain) else warm
    subspace = Subspace(chosen, data.classes, max_params, max_macs)
    usual = chosen.search_macro if place.device.type == "cpu" else chosen.published_macro
    given = {"channels": channels, "cells": cells}
    macro = {name: given[name] or value for name, value in usual.items()}
    if macro:
        _refuse_absurd(chosen, data, macro, budget, place)
        if place.device.type == "cpu":
            spare_narrow(macro["channels"])
    identity = {
        "kind": "search",
        "space": space,
        "method": composed.name,
        "options": {
            name: value if isinstance(value, (bool, int, float, str)) else repr(value)
            for name, value in (options or {}).items()
        },
        "faithful": faithful,
        "seed": seed,
        "seconds": budget.seconds,
        "images": images,
        "data": fingerprint(data),
        "classes": data.classes,
        "macro": macro,
        "resolution": chosen.input_size,
        "max_params": max_params,
        "max_macs": max_macs,
        "warm": [list(a) for a in warm],
    }
    if warm and not composed.method.population:
        subspace.keep(np.array(warm))
    run = Run(
        chosen,
        data,
        subspace,
        budget,
        place,
        dict(macro),
        seed,
        should_stop or (lambda: False),
        warm,
    )
    engine = Engine(
        run, composed, identity, None if checkpoint is None else Path(checkpoint), progress
    )
    complete = engine.train()
    return Search(run, composed, engine.judge(), complete)


def _refuse_absurd(
    space: WeightSharing,
    data: TaskData,
    macro: Mapping[str, int],
    budget: Budget,
    place: DevicePlan,
) -> None:
    """Refuse a supernet that no memory would hold, or of which no step would end in the time.

    Raises:
        InputError: with the size, the limit and what to do.
    """
    counted = space.counted_macro
    scale = (macro["channels"] / counted["channels"]) ** 2 * macro["cells"] / counted["cells"]
    table = space.cost_table(data.classes, data.train_x.shape[-1])[1]
    params, macs = table.sum((0, 1)) * scale
    named = f"A supernet of {macro['channels']} channels and {macro['cells']} cells"
    if params > _MOST_PARAMS:
        raise InputError(
            f"{named} would have about {params:,.0f} parameters, and {_MOST_PARAMS:,} is the most "
            "that is searched with. Give fewer channels or cells."
        )
    # Half of what an average path costs, forward and backward, at a pace that none keeps up.
    path = macs / (2 * len(space.operations))
    least = 3 * SMALLEST_BATCH * path / _FASTEST[place.device.type]
    if least > budget.limit:
        raise InputError(
            f"{named} would take {least:.2g} s or more for its first step, and the whole search has "
            f"{budget.limit:g} s. Give fewer channels or cells, or more minutes."
        )


def fingerprint(data: TaskData) -> str:
    """Return the SHA-256 (hex) of all images and labels of a task."""
    content = hashlib.sha256()
    sides = (data.train_x, data.train_y, data.test_x, data.test_y, data.report_x, data.report_y)
    for tensor in sides:
        if tensor is None:
            continue
        content.update(str(tuple(tensor.shape)).encode())
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


def _check_sizes(space: SearchSpace, resolution: int | None, **sizes: int | None) -> None:
    """Refuse sizes that the networks of a space do not have.

    Raises:
        InputError: one is given.
    """
    if not space.pretrained and resolution is not None:
        raise InputError(
            f"resolution={resolution!r} is a decision of spaces such as 'efficientnet_lite'; networks "
            f"of {space.name!r} take images as they are. Leave it out."
        )
    for name, value in sizes.items():
        if space.pretrained and value is not None:
            raise InputError(
                f"{name}={value!r} is a size of supernets of cells; that of {space.name!r} is the "
                "largest network of the space. Leave it out."
            )


def _opened(
    dataset: Any,
    space: SearchSpace,
    resolution: int | None,
    seed: int,
    budget: Budget,
    place: DevicePlan,
    limits: Mapping[str, int | None],
) -> tuple[WeightSharing, TaskData]:
    """Return the space as it is searched, and as many images as there is time to learn from.

    Raises:
        InputError: the dataset cannot be searched (see :func:`search.data.search_task`).
        BudgetError: a limit is below the smallest network.
    """
    if isinstance(dataset, TaskData):
        if not space.pretrained:
            return sharing(space), dataset
        side = of_images(dataset.train_x.shape[-1])
        return at(space, side), replace(dataset, normal=(0.5, 0.5))
    opened = load_dataset(dataset)
    try:
        flip = False
        if space.pretrained and resolution is None:
            left = None if budget.seconds is None else budget.seconds - budget.elapsed
            resolution, flip = suggested(opened, space, left, place, seed, **limits)
        chosen = at(space, resolution or 0)
        most = MOST_IMAGES
        if budget.seconds is not None:
            most = min(most, max(_FEWEST_IMAGES, int(_IMAGES_A_SECOND * budget.seconds)))
        if space.pretrained:
            most = min(most, _PIXELS // chosen.input_size**2)
        task = search_task(opened, chosen.input_size, seed, most, space.pretrained)
        return chosen, replace(task, flip=flip)
    finally:
        if opened is not dataset:  # What was open before stays so.
            opened.close()
