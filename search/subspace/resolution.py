"""The resolution at which the networks of a mobile space are searched, decided before the search.

Images of two sizes fit neither into one batch nor into one set of batch-norm statistics, and a search
lives on comparing networks under equal conditions. So the resolution is no decision of the search:
what ``metad2a.train`` would expect most of in about this time, from the dataset's landmarks, says it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metad2a.errors import InputError
from metad2a.spaces import SearchSpace
from metad2a.spaces._mobile import RESOLUTIONS
from metad2a.training import plan as planning
from search.data import image_side, training_side

if TYPE_CHECKING:
    from metad2a.datasets import ImageDataset
    from metad2a.training.device import DevicePlan

UNTIMED = 96
"""Pixels a side, at most, with a budget of images, which says nothing of the time."""
_DEARER = 3.0
"""How much a step of shared weights costs: of four networks, the largest and two at random."""


def suggested(
    dataset: ImageDataset,
    space: SearchSpace,
    seconds: float | None,
    place: DevicePlan,
    seed: int = 0,
    max_params: int | None = None,
    max_macs: int | None = None,
) -> tuple[int, bool]:
    """Return a resolution in pixels, and whether mirrored images are as good as their originals.

    With a budget of images it is the largest that the images have, 96 px at most; flips are left
    out, as landmarks are.

    Args:
        dataset: of the user.
        space: one of inverted residual networks.
        seconds: that are left; None with a budget of images.
        place: where the search computes.
        seed: of the images that are looked at.
        max_params: most trainable parameters.
        max_macs: most multiply-adds.

    Raises:
        InputError: the dataset cannot be used.
        BudgetError: a limit is below the smallest network of the space.
    """
    from metad2a.model import landmarks
    from metad2a.model.performance import packaged

    classes = len(dataset.classes)
    space.check_limits(classes, max_params, max_macs)
    limited = max_params is not None or max_macs is not None
    candidates = planning.admissible(
        space, classes, seed, max_params, max_macs, cut=limited, drawn=64
    )
    own = training_side(dataset)
    sides = sorted({space.resolution(one) for one in candidates})
    if seconds is None:
        most = min(UNTIMED, image_side(dataset))
        return max([side for side in sides if side <= most], default=sides[0]), False
    marks, _ = landmarks.described(dataset, own, seed)
    clock = planning.Time(seconds / _DEARER, planning.pace(space, place), len(own), len(own) // 5)
    planner = planning.Planner(space, packaged(), marks, clock, classes, candidates)
    pairs = [
        (candidates[number], recipe)
        for number, recipe in planning.ways(space, clock, candidates, classes)
        if recipe.rate
    ]
    if not pairs:
        return sides[0], not marks.flips_harm
    best = max(planner.expected(pairs, "", planner.outlook), key=lambda one: one.expected or 0.0)
    return space.resolution(best.architecture), not marks.flips_harm


def of_images(side: int) -> int:
    """Return the resolution of images that are there already.

    Raises:
        InputError: no network runs at it.
    """
    if side not in RESOLUTIONS:
        raise InputError(
            f"Images of {side} px fit no network of a mobile space; give "
            f"{', '.join(map(str, RESOLUTIONS))} px."
        )
    return side
