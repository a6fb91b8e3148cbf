"""Black and white of pictures with more than 8 bits a channel: one rule, for a whole set.

Such pictures rarely use all of their range: cameras and scanners put 10, 12 or 14 bits into 16, and
floats may mean anything. One picture does not tell which, so some of the whole set are looked at,
and all of the set are shown alike. The rule, which never leaves a set nearly black or binary:

* values from 0 to 1: white is 1; other values from 0 on: white is the highest number of 8, 10, 12,
  14 or 16 bits that holds them all;
* where that range is used to less than an eighth, and for values below 0 or above 65,535: black and
  white are the lowest and the highest value of the set, less the last thousandth of each picture,
  so that a few odd pixels do not make the rest dark;
* values that are not finite (a border without data) become black.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

LOOKED = 64
"""Pictures of a set, evenly spread, that the rule is applied to."""
_BITS = (8, 10, 12, 14, 16)
_TAIL = 0.1
"""Percent of the values of a picture, at either end, that may be odd pixels."""
_USED = 1 / 8
"""Share of a range that must be used for it to be taken."""
_MOST = 2**20
"""Values of a picture that percentiles are taken of, evenly spread."""


@dataclass(frozen=True)
class Spread:
    """The finite values of one picture."""

    lowest: float
    highest: float
    low: float
    """Without the odd pixels..."""
    high: float
    """...at either end."""


@dataclass(frozen=True)
class Levels:
    """The values that become 0 and 255; what lies beyond is cut off."""

    black: float
    white: float

    def __str__(self) -> str:
        return (
            f"Pictures of more than 8 bits: {self.black:g} is shown as black and {self.white:g} "
            "as white."
        )

    def eight_bits(self, values: np.ndarray) -> np.ndarray:
        """Return values of any real type as uint8, in the same shape."""
        scaled = (values.astype(np.float64) - self.black) * (255.0 / (self.white - self.black))
        eight: np.ndarray = np.nan_to_num(np.rint(scaled), nan=0.0, posinf=0.0, neginf=0.0)
        return eight.clip(0, 255).astype(np.uint8)


EIGHT_BITS = Levels(0.0, 255.0)


def spread_of(values: np.ndarray) -> Spread | None:
    """Measure the values of a picture, of any real type and shape; None where none is finite."""
    if not values.size:
        return None
    if values.dtype.kind == "f" and not np.isfinite([values.min(), values.max()]).all():
        values = values[np.isfinite(values)]
        if not values.size:
            return None
    flat = values.reshape(-1)
    flat = flat[:: max(1, len(flat) // _MOST)].astype(np.float64)
    low, high = np.percentile(flat, (_TAIL, 100 - _TAIL))
    return Spread(float(values.min()), float(values.max()), float(low), float(high))


def levels_of(spreads: Iterable[Spread]) -> Levels:
    """Return black and white of a set; without any picture those of 8 bits."""
    found = list(spreads)
    if not found:
        return EIGHT_BITS
    lowest, highest = min(s.lowest for s in found), max(s.highest for s in found)
    low, high = min(s.low for s in found), max(s.high for s in found)
    if lowest >= 0 and highest <= 65535:
        white = next(2.0**bits - 1 for bits in _BITS if highest <= 2**bits - 1)
        if highest <= 1:
            white = 1.0
        if high - low >= white * _USED:
            return Levels(0.0, white)
        if high == low:  # Flat pictures show their shade.
            return Levels(0.0, white)
    return Levels(low, high if high > low else low + 1.0)
