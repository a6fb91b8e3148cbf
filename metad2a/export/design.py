"""What every file of an export is written from: one network, its sizes, costs and figures."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from metad2a.errors import InputError
from metad2a.export._writers import writer
from metad2a.spaces.base import SPACES, Architecture, Cost, SearchSpace

if TYPE_CHECKING:
    from torch import Tensor, nn

    from metad2a.suggestion import Candidate, Measured

LIMITS = {"classes": 100_000, "channels": 4_096, "cells": 200}
"""The most of each that is exported: beyond, a number was mistyped, or is meant to harm."""
MOST_PARAMS = 10**9


@dataclass(frozen=True)
class Standardisation:
    """What a trained network does to images (0..1) first, three values each, red first."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Design:
    """A network as it leaves; made by :meth:`of` or :meth:`new`."""

    space: SearchSpace
    architecture: Architecture
    classes: int
    macro: Mapping[str, int]
    """``channels`` and ``cells``, both given."""
    side: int
    """Height and width, in pixels, of the images that MACs are counted for and ONNX takes."""
    cost: Cost
    """Of the network of these sizes, at ``side``."""
    prediction: tuple[float, float, float] | None = None
    """Predicted test accuracy and the bounds of its 90 % interval, in percent."""
    measured: Measured | None = None
    latency_ms: float | None = None
    """Of one image, where it was measured; of the default sizes."""
    reason: str = ""
    standardisation: Standardisation | None = None
    """None where the network takes images that are standardised already."""
    network: nn.Module | None = None
    """The trained network; its weights are those of :func:`metad2a.export.code`'s by name."""

    @classmethod
    def new(
        cls, space: SearchSpace, architecture: Architecture, classes: Any, **macro: Any
    ) -> Design:
        """Return the design of an untrained network of the space's sizes, or of given ones.

        Args:
            space: the space that the architecture is of.
            architecture: one operation index per slot.
            classes: outputs of the network.
            macro: sizes, such as ``channels`` and ``cells``.

        Raises:
            InputError: the number of classes or a size is no whole number within :data:`LIMITS`,
                or there is no such size.
        """
        sizes = {**space.counted_macro, **macro}
        for name, value in {"classes": classes, **sizes}.items():
            if name not in LIMITS:
                raise InputError(
                    f"The space {space.name!r} has no size {name!r}; give "
                    f"{' or '.join(space.counted_macro)}."
                )
            least = 2 if name == "classes" else 1
            if type(value) is not int or not least <= value <= LIMITS[name]:
                raise InputError(
                    f"{name}={value!r} cannot be exported; give a whole number from "
                    f"{least} to {LIMITS[name]:,}."
                )
        side = space.input_size
        return cls(
            space,
            architecture,
            classes,
            sizes,
            side,
            _cost(space, architecture, classes, sizes, side),
        )

    @classmethod
    def of(cls, candidate: Candidate | Design, **macro: int) -> Design:
        """Return a candidate's design: that of its trained network, if one was kept.

        Args:
            candidate: of ``suggest``, ``search.refine`` or ``search.check``.
            macro: other sizes, of a new, untrained network.

        Raises:
            InputError: a size cannot be exported, or the candidate's network is not one of its
                space, sizes and classes.
        """
        if isinstance(candidate, Design):
            return candidate
        space = SPACES.get(candidate.space)
        trained = None if macro else candidate.network
        sizes = macro if trained is None else _sizes(space, trained)
        design = replace(
            cls.new(space, space.parse(candidate.architecture), candidate.classes, **sizes),
            prediction=(candidate.accuracy, *candidate.interval),
            measured=None if macro else candidate.measured,
            reason=candidate.reason,
            latency_ms=candidate.latency_ms if sizes in ({}, space.counted_macro) else None,
        )
        return design if trained is None else design.trained(trained)

    def trained(self, network: nn.Module) -> Design:
        """Return the same with a trained network, which is kept as it is.

        Raises:
            InputError: it is not a network of this design's space, sizes and classes.
        """
        found = _shapes(_core(network))
        wanted = _shapes(skeleton(self.space, self.architecture, self.classes, self.macro))
        differing = sorted(
            name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)
        )
        if differing:
            sizes = ", ".join(f"{name} {value}" for name, value in self.macro.items())
            raise InputError(
                f"The trained network is not the one of {self.space.name!r} with "
                f"{self.classes} classes and {sizes}: {len(differing)} tensors "
                f"differ, {differing[0]!r} among them. Export it without its "
                "network, or with the one that was trained for it."
            )
        side = int(getattr(network, "side", self.side))
        cost = (
            self.cost
            if side == self.side
            else _cost(self.space, self.architecture, self.classes, self.macro, side)
        )
        return replace(
            self, network=network, standardisation=_standardisation(network), side=side, cost=cost
        )

    def resized(self, classes: int, **macro: int) -> Design:
        """Return the same for another number of classes or other sizes, untrained; or itself.

        Raises:
            InputError: as :meth:`new`.
        """
        sizes = {**self.macro, **macro}
        if classes == self.classes and sizes == self.macro:
            return self
        plain = self.new(self.space, self.architecture, classes, **sizes)
        return replace(plain, prediction=self.prediction, reason=self.reason)

    def build(self) -> nn.Module:
        """Return the network on the CPU: a copy of the trained one, or an untrained one.

        Initial weights are those of seed 0; torch's global generator stays as it was.
        """
        import torch

        if self.network is not None:
            return copy.deepcopy(self.network).cpu()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.space.build(self.architecture, self.classes, **self.macro)

    def weights(self) -> dict[str, Tensor]:
        """Return the trained network's tensors by name, on the CPU; none of an untrained one."""
        state = {} if self.network is None else self.network.state_dict()
        return {name: value.detach().cpu().contiguous() for name, value in state.items()}


def _core(network: nn.Module) -> nn.Module:
    """Return a network without the standardisation before it (``search.delivery``)."""
    return network.get_submodule("network") if hasattr(network, "deviation") else network


def _standardisation(network: nn.Module) -> Standardisation | None:
    if _core(network) is network:
        return None
    mean, deviation = (
        tuple(network.get_buffer(name).flatten().tolist()) for name in ("mean", "deviation")
    )
    return Standardisation(mean, deviation)


def _sizes(space: SearchSpace, network: nn.Module) -> dict[str, int]:
    try:
        return writer(space).sizes(_core(network))
    except AttributeError as error:
        raise InputError(
            f"The trained network is none of the space {space.name!r}: {error}. "
            "Export the candidate without its network, or with the one that was "
            "trained for it."
        ) from error


def _shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in network.state_dict().items()}


def skeleton(
    space: SearchSpace, architecture: Architecture, classes: int, macro: Mapping[str, int]
) -> nn.Module:
    """Return the plain network in evaluation mode, without memory for its weights."""
    import torch

    with torch.device("meta"):
        return space.build(architecture, classes, **macro).eval()


def _cost(
    space: SearchSpace,
    architecture: Architecture,
    classes: int,
    macro: Mapping[str, int],
    side: int,
) -> Cost:
    if macro == space.counted_macro:
        return space.cost(architecture, classes, side)
    return count_cost(space, architecture, classes, macro, side)


def count_cost(
    space: SearchSpace,
    architecture: Architecture,
    classes: int,
    macro: Mapping[str, int],
    side: int,
) -> Cost:
    """Count what :meth:`SearchSpace.cost` knows, in a network of any sizes."""
    import torch
    from torch import nn

    network = skeleton(space, architecture, classes, macro)
    params = sum(p.numel() for p in network.parameters())
    if params > MOST_PARAMS:
        raise InputError(
            f"A network of {params:,} parameters cannot be exported; choose sizes "
            f"that give {MOST_PARAMS:,} at most."
        )
    macs = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal macs
        macs += output.shape[1:].numel() * cast("Tensor", module.weight)[0].numel()

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    # A batch of no images computes nothing, and memory that is not touched is not taken. On the
    # meta device, a pass is many times slower.
    with torch.no_grad():
        network.to_empty(device="cpu")(torch.empty(0, 3, side, side))
    return Cost(params, macs)
