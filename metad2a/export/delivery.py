"""What a folder is written from: a network, the names of its classes, and what is known of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from metad2a.datasets.levels import Levels

FIT = "shorter side to the resolution, middle of the longer side"
"""What becomes of a picture's sides, as ``preprocessing.json`` says it."""


@dataclass(frozen=True, eq=False)
class Figures:
    """What is known of a network in numbers; whatever is missing is left out of the card."""

    params: int
    """Trainable parameters."""
    macs: int
    """Multiply-adds of one image at the network's resolution."""
    accuracy: float | None = None
    """Percent of the images that neither trained nor chose anything."""
    balanced_accuracy: float | None = None
    """Mean over the classes of the percentage of their images that is right."""
    confusion: np.ndarray | None = None
    """int (classes, classes): images by true (row) and given (column) class."""
    curve: Sequence[tuple[float, float]] = ()
    """(epoch, accuracy in percent) during the training."""
    predicted: float | None = None
    """Accuracy in percent that was predicted before the training."""
    interval: tuple[float, float] | None = None
    """In which it was predicted to lie, percent."""
    plan: Mapping[str, Any] = field(default_factory=dict)
    """What the training was made of: JSON values by name."""
    images: int | None = None
    """That trained the network."""
    epochs: float | None = None
    seconds: float | None = None
    """Of the training, reading and judging counted."""


@dataclass(frozen=True, eq=False)
class Delivery:
    """A network that leaves."""

    network: nn.Module
    """A plain network (``metad2a.spaces.networks``) on any device; it is not changed."""
    space: str
    """Name of its search space."""
    architecture: str
    """String form of the space."""
    classes: Sequence[str]
    """Names, in the order of the network's outputs."""
    resolution: int
    """Height and width of its images, in pixels."""
    mean: Sequence[float]
    """Of the three channels, for values from 0 to 1: subtracted first..."""
    deviation: Sequence[float]
    """...and what is divided by then."""
    figures: Figures
    report: str = ""
    """What was read of the dataset, in words."""
    pretrained: str = ""
    """Name of the weights that the training started from; empty: none."""
    weights_licence: str = ""
    """Their licence's SPDX identifier."""
    calibration: Tensor | None = None
    """uint8 (n, 3, resolution, resolution): training images that set the ranges of int8."""
    test: Iterable[tuple[Tensor, ...]] = ()
    """Batches of uint8 (m, 3, resolution, resolution) images and int64 (m,) labels, by which the
    drop of int8 is measured; what else a batch holds is passed over."""
    trained: bool = True
    """An untrained network leaves without weights."""
    levels: Levels | None = None
    """Black and white of the training's pictures with more than 8 bits; None: there were none."""

    def __post_init__(self) -> None:
        outputs = getattr(getattr(self.network, "classifier", None), "out_features", None)
        if outputs != len(self.classes):
            raise InputError(
                f"The network has {outputs} outputs, but {len(self.classes)} names of classes are "
                "given; give one for each output."
            )

    def preprocessing(self) -> dict[str, Any]:
        """Return what happens to an image before the network, as JSON values."""
        from metad2a.datasets.decode import FILL, LONGEST

        return {
            "colour": "RGB",
            "resolution": self.resolution,
            "fit": FIT,
            "longest": LONGEST,
            "filter": "bilinear, antialiased",
            "fill": FILL,
            "alpha": "on white",
            "layout": "NCHW",
            "range": [0, 1],
            "levels": None if self.levels is None else [self.levels.black, self.levels.white],
            "normalisation": {
                "mean": list(map(float, self.mean)),
                "deviation": list(map(float, self.deviation)),
                "where": "inside model.onnx and what load() of model.py returns",
            },
        }
