"""A network that nobody trained, as it leaves: of its space's sizes, or of given ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metad2a.errors import InputError
from metad2a.export.delivery import Delivery, Figures
from metad2a.spaces import Architecture, SearchSpace

LIMITS = {"channels": 4_096, "cells": 200}
"""The most of each that is exported: beyond, a number was mistyped, or is meant to harm."""
MOST_CLASSES = 100_000
MOST_PARAMS = 10**9


def untrained(
    space: SearchSpace, architecture: Architecture, classes: Sequence[str], **macro: Any
) -> Delivery:
    """Return an untrained network with what is known of it; its weights are those of seed 0.

    Torch's global random numbers stay as they were.

    Args:
        space: the space that the architecture is of.
        architecture: one choice index per decision.
        classes: names, one an output.
        macro: sizes that the space has beside its architectures, such as ``channels``.

    Raises:
        InputError: there is no such size, it is no whole number within :data:`LIMITS`, there are
            fewer than two classes, or too many, or the network is too large.
    """
    import torch

    from metad2a.spaces.counting import count

    if not 2 <= len(classes) <= MOST_CLASSES:
        raise InputError(
            f"A network of {len(classes)} classes cannot be exported; give 2 to {MOST_CLASSES:,}."
        )
    for name, value in macro.items():
        most = LIMITS.get(name, MOST_CLASSES)
        if name in space.counted_macro and (type(value) is not int or not 1 <= value <= most):
            raise InputError(
                f"{name}={value!r} cannot be exported; give a whole number from 1 to {most:,}."
            )
    sizes, side = space.sizes(macro), space.resolution(architecture)
    given: dict[str, Any] = dict(sizes)
    with torch.device("meta"):
        skeleton = space.build(architecture, len(classes), **given)
    params = sum(p.numel() for p in skeleton.parameters())
    if params > MOST_PARAMS:
        raise InputError(
            f"A network of {params:,} parameters cannot be exported; choose sizes "
            f"that give {MOST_PARAMS:,} at most."
        )
    cost = (
        space.cost(architecture, len(classes))
        if sizes == space.counted_macro
        else count(skeleton, side)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = space.build(architecture, len(classes), **given)
    return Delivery(
        network=network,
        space=space.name,
        architecture=space.format(architecture),
        classes=tuple(classes),
        resolution=side,
        mean=(0.5, 0.5, 0.5),
        deviation=(0.5, 0.5, 0.5),
        figures=Figures(cost.params, cost.macs),
        trained=False,
    )
