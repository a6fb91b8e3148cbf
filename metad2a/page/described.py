"""What is kept of a dataset: enough to show it and to suggest anew, and none of its files open."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from metad2a.datasets import DatasetReport, ImageDataset, UnreadableImage, load_dataset
from metad2a.page import values
from metad2a.page.examples import open_example

if TYPE_CHECKING:
    from metad2a.result import CostLimits, Suggestions

SHOWN_CLASSES, SHOWN_IMAGES = 12, 8
_THUMBNAIL, _DOUBTED = 56, 112
_TRIES = 3
"""Images tried for each one shown, where some cannot be read."""


@dataclass(frozen=True, eq=False)
class Described:
    """A dataset as it was read."""

    source: str
    uploaded: bool
    report: DatasetReport
    counts: tuple[tuple[str, int], ...]
    """Every class and its listed images."""
    samples: tuple[tuple[str, ...], ...]
    """Some images of each of the first classes, as data URIs."""
    first: Suggestions
    """All that is suggested without limits, best first."""
    doubted: tuple[str, ...] = ()
    """The pictures whose labels are in doubt, as ``report.quality.doubts`` lists them, as data
    URIs; empty where one cannot be read again."""

    def within(self, limits: CostLimits, k: int) -> Suggestions:
        """Return all that is suggested within limits, best first; the dataset is not read again.

        Args:
            limits: on parameters, work, and the time of one picture.
            k: how many are enough where each is to be timed.

        Raises:
            BudgetError: a limit is below the smallest network; names the smallest feasible value.
        """
        from metad2a.result import CANDIDATES

        if limits == self.first.limits:
            return self.first
        return self.first.within(
            limits.max_params,
            limits.max_macs,
            limits.max_latency_ms,
            k=CANDIDATES if limits.max_latency_ms is None else k,
        )


def open_source(source: str, uploaded: bool) -> ImageDataset:
    """Open an upload, which may be anybody's, or an example by its name.

    Raises:
        InputError: it cannot be used.
    """
    return load_dataset(source, sandbox=True) if uploaded else open_example(source)


def describe_source(source: str, uploaded: bool, space: str) -> Described:
    """Read a dataset once, for everything that is shown and asked later, and close it.

    Args:
        source: an upload's path, or the name of an example.
        uploaded: which of the two it is.
        space: name of the search space of the suggestions.

    Raises:
        InputError: it cannot be used.
    """
    from metad2a.result import CANDIDATES
    from metad2a.suggestion import suggest

    with open_source(source, uploaded) as dataset:
        first = suggest(dataset, k=CANDIDATES, minutes=values.TRAINING, space=space)
        counts = np.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
        samples = tuple(
            _samples(dataset, number) for number in range(min(SHOWN_CLASSES, len(dataset.classes)))
        )
        return Described(
            source,
            uploaded,
            first.report,
            tuple(zip(dataset.classes, counts, strict=True)),
            samples,
            first,
            _doubted(dataset, first.report),
        )


def _doubted(dataset: ImageDataset, report: DatasetReport) -> tuple[str, ...]:
    found = []
    for one in report.quality.doubts if report.quality else ():
        try:
            image, _ = dataset.reduced(one.index, _DOUBTED)
            found.append(thumbnail(image, _DOUBTED))
        except UnreadableImage:
            found.append("")
    return tuple(found)


def _samples(dataset: ImageDataset, label: int) -> tuple[str, ...]:
    """Return a few images of a class, evenly spread over it, as data URIs."""
    own = np.flatnonzero(dataset.labels == label)
    places = np.linspace(0, len(own) - 1, min(len(own), _TRIES * SHOWN_IMAGES)).astype(int)
    found: list[str] = []
    # The ones tried first are spread as well as the ones that stand in for them.
    for place in np.concatenate([places[start::_TRIES] for start in range(_TRIES)]):
        if len(found) == SHOWN_IMAGES:
            break
        try:
            image, _ = dataset.reduced(int(own[place]), _THUMBNAIL)
        except UnreadableImage:
            continue
        found.append(thumbnail(image, _THUMBNAIL))
    return tuple(found)


def thumbnail(image: np.ndarray, most: int) -> str:
    """Return the middle square of uint8 (h, w, 3), at most so many pixels wide, as a data URI."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = Image.fromarray(image[top : top + side, left : left + side])
    square.thumbnail((most, most))
    buffer = io.BytesIO()
    # Tiny pictures keep every pixel; of others, a JPEG is a third of the size.
    kind = "PNG" if side <= most // 2 else "JPEG"
    square.save(buffer, kind, quality=82)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
