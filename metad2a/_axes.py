"""Round numbers for the axes of charts."""

from __future__ import annotations

import math


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return about ``count`` round numbers, evenly spaced, the ends at or beyond low and high."""
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    raw = (high - low) / (count - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]
