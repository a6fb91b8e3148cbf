"""``search``: one weight-sharing search on a user's dataset, within a budget and limits."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from metad2a._onednn import spare_narrow
from metad2a._torch_state import usual
from metad2a.datasets import ImageDataset, load_dataset
from metad2a.errors import InputError
from metad2a.export.delivered import Delivered
from metad2a.export.untrained import LIMITS as MACRO_LIMITS
from metad2a.spaces import SPACES, Architecture, SearchSpace, WeightSharing
from metad2a.spaces._chain import Chain
from metad2a.training.device import DevicePlan, plan
from search.data import MOST_IMAGES, TaskData, search_task, training_side
from search.engine.budget import Budget
from search.engine.composition import Composition, compose
from search.engine.loop import Engine, Progress
from search.engine.method import Ranking
from search.engine.run import SMALLEST_BATCH, Run
from search.result import SearchResult
from search.subspace.resolution import of_images, suggested
from search.subspace.subspace import Subspace
from search.subspace.weight_sharing import at, sharing

METHOD, PRETRAINED_METHOD = "dropnas", "sandwich"
"""What searches where no method is named: spaces of cells, and networks that begin pretrained."""
_FEWEST_IMAGES = 500  # taken of a dataset however short the time
_CANCELLED = 5.0  # seconds, for the accuracy of what a cancelled search found
_MOST_PARAMS = 500_000_000  # weights, their gradients, momentum and base are four times as many
_FASTEST = {"cpu": 1e11, "cuda": 1e15}  # multiply-adds a second, in orders of magnitude
_IMAGES_A_SECOND = 40  # taken for each second of the budget: reading must not use the time up


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
    published: bool = False,
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
        published: search as the literature does, in spaces of cells: a supernet of the published
            size, for the method's own epochs over all images, in the place of ``minutes``.
        options: settings of the method's parts, such as ``{"dropnas.rate": 1e-5}``.

    Raises:
        InputError: the dataset or an argument cannot be used, or the loss is no number whatever
            the learning rate.
        BudgetError: a limit is below the smallest network; names the smallest feasible value.
        ArtifactError: the checkpoint is damaged or cannot be written.
    """
    return Search(**locals()).conduct().result()  # its fields are these arguments


@dataclass(frozen=True, eq=False)
class Search:
    """A search that is asked for: the arguments of :func:`search`, and two more liberties.

    ``dataset`` may also be a :class:`~search.data.TaskData`; ``warm`` are architectures to start
    from, best first.

    Raises:
        InputError: the seed, the minutes or a size cannot be used.
    """

    dataset: Any
    space: str = "nasbench201"
    method: str | None = None
    minutes: float = 10
    seed: int = 0
    device: str = "auto"
    max_params: int | None = None
    max_macs: int | None = None
    progress: Callable[[Progress], None] | None = None
    images: int | None = field(default=None, kw_only=True)
    channels: int | None = field(default=None, kw_only=True)
    cells: int | None = field(default=None, kw_only=True)
    resolution: int | None = field(default=None, kw_only=True)
    checkpoint: str | Path | None = field(default=None, kw_only=True)
    should_stop: Callable[[], bool] | None = field(default=None, kw_only=True)
    faithful: bool = field(default=False, kw_only=True)
    published: bool = field(default=False, kw_only=True)
    options: Mapping[str, Any] | None = field(default=None, kw_only=True)
    warm: tuple[Architecture, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise InputError(f"seed={self.seed!r} must be a whole number from 0 up.")
        if not isinstance(self.minutes, (int, float)) or not 0 < self.minutes < math.inf:
            raise InputError(f"minutes={self.minutes!r} must be a positive number.")
        for name, value in self._size.items():
            if value is not None and (
                type(value) is not int or not 1 <= value <= MACRO_LIMITS[name]
            ):
                raise InputError(
                    f"{name}={value!r} must be a whole number from 1 to {MACRO_LIMITS[name]:,}: the size of "
                    "the supernet."
                )
        if self.published and self.images is not None:
            raise InputError(
                f"images={self.images!r} is a budget, and a published search has its own: the method's "
                "epochs. Give one of the two."
            )

    @property
    def _size(self) -> dict[str, int | None]:
        return {"channels": self.channels, "cells": self.cells}

    @usual()
    def conduct(self) -> Conducted:
        """Return the conducted search with its shared weights; raises what :func:`search` does."""
        budget = self._budget()
        place, asked = plan(self.device), SPACES.get(self.space)
        usual_method = PRETRAINED_METHOD if asked.pretrained else METHOD
        composed = compose(self.method or usual_method, self.options, self.faithful)
        composed.check(asked)
        self._check_sizes(asked)
        space, data = self._opened(asked, budget, place)
        if self.published:
            passed = composed.method.published_images(len(data.train_y), len(space.operations))
            budget = Budget(images=passed)
        warm = tuple(map(space.of, self.warm)) if isinstance(space, Chain) else self.warm
        subspace = Subspace(space, data.classes, self.max_params, self.max_macs)
        small = place.device.type == "cpu" and not self.published
        usual_size = dict(space.search_macro if small else space.published_macro)
        if self.published:
            usual_size |= composed.method.published_sizes.get(space.name, {})
        macro = {name: self._size[name] or value for name, value in usual_size.items()}
        if macro:
            _refuse_absurd(space, data, macro, budget, place)
            if place.device.type == "cpu":
                spare_narrow(macro["channels"])
        identity = {
            "kind": "search",
            "space": self.space,
            "method": composed.name,
            "options": {
                name: value if isinstance(value, (bool, int, float, str)) else repr(value)
                for name, value in (self.options or {}).items()
            },
            "faithful": self.faithful,
            "published": self.published,
            "seed": self.seed,
            "seconds": budget.seconds,
            "images": self.images,
            "data": data.fingerprint(),
            "classes": data.classes,
            "macro": macro,
            "resolution": space.input_size,
            "max_params": self.max_params,
            "max_macs": self.max_macs,
            "warm": [list(a) for a in warm],
        }
        if warm and not composed.method.population:
            subspace.keep(np.array(warm))
        run = Run(
            space,
            data,
            subspace,
            budget,
            place,
            dict(macro),
            self.seed,
            self.should_stop or (lambda: False),
            warm,
        )
        checkpoint = None if self.checkpoint is None else Path(self.checkpoint)
        engine = Engine(run, composed, identity, checkpoint, self.progress)
        complete = engine.train()
        return Conducted(run, composed, engine.judge(), complete)

    def _budget(self) -> Budget:
        """Return what the search may take; a published one's is known once its images are."""
        if self.published:
            return Budget(images=1)
        return (
            Budget(seconds=60 * self.minutes) if self.images is None else Budget(images=self.images)
        )

    def _check_sizes(self, space: SearchSpace) -> None:
        """Refuse sizes that the networks of a space do not have.

        Raises:
            InputError: one is given.
        """
        if not space.pretrained and self.resolution is not None:
            raise InputError(
                f"resolution={self.resolution!r} is a decision of spaces such as 'efficientnet_lite'; networks "
                f"of {space.name!r} take images as they are. Leave it out."
            )
        if self.published and space.pretrained:
            raise InputError(
                f"Searches of cells are published, not of pretrained networks as in {space.name!r}. Leave "
                "out published, or name a space such as 'darts'."
            )
        for name, value in self._size.items():
            if space.pretrained and value is not None:
                raise InputError(
                    f"{name}={value!r} is a size of supernets of cells; that of {space.name!r} is the "
                    "largest network of the space. Leave it out."
                )

    def _opened(
        self, space: SearchSpace, budget: Budget, place: DevicePlan
    ) -> tuple[WeightSharing, TaskData]:
        """Return the space as it is searched, and as many images as there is time to learn from.

        Raises:
            InputError: the dataset cannot be searched (see :func:`search.data.search_task`).
            BudgetError: a limit is below the smallest network.
        """
        if isinstance(self.dataset, TaskData):
            if not space.pretrained:
                return sharing(space), self.dataset
            side = of_images(self.dataset.train_x.shape[-1])
            return at(space, side), replace(self.dataset, normal=(0.5, 0.5))
        opened = load_dataset(self.dataset)
        try:
            resolution, flip = self.resolution, False
            if space.pretrained and resolution is None:
                left = None if budget.seconds is None else budget.seconds - budget.elapsed
                limits = {"max_params": self.max_params, "max_macs": self.max_macs}
                resolution, flip = suggested(opened, space, left, place, self.seed, **limits)
            chosen = at(space, resolution or 0)
            most = len(opened) if space.pretrained else MOST_IMAGES
            if budget.seconds is not None:
                most = min(most, max(_FEWEST_IMAGES, int(_IMAGES_A_SECOND * budget.seconds)))
            if self.published:
                flip = self._mirrors(opened)
            task = search_task(opened, chosen.input_size, self.seed, most, space.pretrained)
            return chosen, replace(task, flip=flip)
        finally:
            if opened is not self.dataset:  # What was open before stays so.
                opened.close()

    def _mirrors(self, dataset: ImageDataset) -> bool:
        """Return whether a mirrored image is as good as its original: found out, not assumed."""
        from metad2a.model.landmarks import described

        marks, _ = described(dataset, training_side(dataset), self.seed)
        return not marks.flips_harm


@dataclass(frozen=True, eq=False)
class Conducted:
    """A search that was conducted, with everything it learnt."""

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
        return None if kept is None else _delivered(kept, self.run.data)

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


def _delivered(network: nn.Module, data: TaskData) -> Delivered:
    """Return a copy on the CPU, in float32 and evaluation mode, that takes images from 0 to 1."""
    plain = copy.deepcopy(network).float().cpu()
    mean, deviation = (value.flatten().tolist() for value in data.statistics())
    return Delivered(plain, mean, deviation).eval()
