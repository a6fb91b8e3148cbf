"""Arguments of strangers: numbers of the right kind and size, or a sentence that says what is."""

from __future__ import annotations

import math
from typing import Any

from metad2a.errors import InputError

NETWORKS = (1, 20)
MINUTES = (0.1, 10.0)
"""Shortest and longest training, check or refinement that a visitor may ask of this server."""
TRAINING = 2.0
"""Minutes of training that suggestions of this server are for, and that are offered first."""
LONGEST_MS = 10_000.0
"""Greatest limit on the time of one picture, in milliseconds."""
SPACES = {
    "efficientnet_lite": "EfficientNet-Lite, pretrained",
    "mobilenetv3": "MobileNetV3, pretrained",
    "nasbench201": "NAS-Bench-201 cells, from random weights",
}
"""Search spaces in which suggestions can be made, the usual one first, and what they are called."""
SPACE = next(iter(SPACES))
_LONGEST = 2_000


def whole(name: str, value: Any, least: int, most: int) -> int:
    """Return a number as an int.

    Raises:
        InputError: it is no whole number from ``least`` to ``most``.
    """
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
    if not fine or not least <= value <= most:
        raise InputError(
            f"{name}={shown(value)} must be a whole number from {least:,} to {most:,}."
        )
    return int(value)


def limit(name: str, value: Any) -> int | None:
    """Return a most number of parameters or MACs; None for 0, which stands for no limit.

    Raises:
        InputError: it is no whole number from 0 up.
    """
    return whole(name, value, 0, 10**15) or None


def milliseconds(value: Any) -> float | None:
    """Return a most time of one picture; None where there is no limit: nothing, or 0.

    Raises:
        InputError: it is no number from 0 to :data:`LONGEST_MS`.
    """
    if value is None:
        return None
    fine = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fine or not math.isfinite(value) or not 0 <= value <= LONGEST_MS:
        raise InputError(
            f"The longest time of one picture is {shown(value)}; it must be a number of "
            f"milliseconds up to {LONGEST_MS:,.0f}, or empty."
        )
    return float(value) or None


def minutes(value: Any) -> float:
    """Return the minutes of a job.

    Raises:
        InputError: it is no number within :data:`MINUTES`.
    """
    fine = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fine or not math.isfinite(value) or not MINUTES[0] <= value <= MINUTES[1]:
        raise InputError(
            f"minutes={shown(value)} must be a number from {MINUTES[0]:g} to {MINUTES[1]:g}."
        )
    return float(value)


def space(value: Any) -> str:
    """Return the name of a search space.

    Raises:
        InputError: it is none of :data:`SPACES`.
    """
    if not isinstance(value, str) or value not in SPACES:
        raise InputError(f"space={shown(value)} must be one of {', '.join(SPACES)}.")
    return value


def network(value: Any) -> str | int | None:
    """Return which network is to be trained: a suggestion's number, a string form, or None.

    Raises:
        InputError: it is no text, or far too long for a network.
    """
    if not isinstance(value, str) or len(value) > _LONGEST:
        raise InputError(
            f"network={shown(value)} must be a text: the number of a suggestion, the string of a "
            f"network of at most {_LONGEST:,} letters, or empty for the best in the time."
        )
    text = value.strip()
    if text.isascii() and text.isdigit():
        return whole("network", int(text[:30]), *NETWORKS)
    return text or None


def shown(value: Any) -> str:
    """Return a value as a message shows it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
