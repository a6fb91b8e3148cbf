"""A picture of a visitor, named by the network that was trained for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from metad2a.datasets.base import read_image_file
from metad2a.datasets.decode import UnreadableImage
from metad2a.errors import InputError
from metad2a.page.described import thumbnail

if TYPE_CHECKING:
    from metad2a.page.training import TrainedHere
    from metad2a.prediction import Prediction

TOP = 5
_SHOWN = 160
_LEAST = 2 * _SHOWN
"""Side, in pixels, below which a picture is not decoded, so that it can be shown."""


def attempt(trained: TrainedHere, path: Path) -> tuple[Prediction, str]:
    """Name what a picture shows; it may be anybody's, and is decoded in a sandbox.

    Returns:
        The likeliest classes, and the picture, small, as a data URI.

    Raises:
        InputError: it cannot be read.
        ArtifactError: the network is no longer there.
    """
    from metad2a.datasets.sandbox import Sandbox
    from metad2a.prediction import load

    predictor = load(trained.folder)
    sandbox = Sandbox()
    try:
        side = max(2 * predictor.resolution, _LEAST)
        image, _ = sandbox.decode(read_image_file(path), side, predictor.levels)
    except UnreadableImage as error:
        raise InputError(f"{path.name!r} cannot be read as a picture: {error}.") from error
    finally:
        sandbox.close()
    (prediction,) = predictor.predict(image, top=TOP)
    return prediction, thumbnail(image, _SHOWN)
