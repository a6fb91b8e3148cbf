"""The pictures of a card: the confusion matrix, and the accuracy during the training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metad2a._axes import ticks
from metad2a._svg import FRAME, INK, PAPER, document, text

BLUE = (0, 98, 168)
"""Of a full cell, and of the curve."""
_SIDE, _LARGEST_CELL, _LONGEST = 620, 44, 22
_NAMED, _NUMBERED = 60, 16
"""Most classes whose names, and whose numbers, can be read."""
_LETTER = 6.3
"""Width of a letter of 11 px."""


def confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Draw a confusion matrix: a row for each true class, dark where many of its images went.

    Args:
        matrix: int (classes, classes), images by true (row) and given (column) class.
        classes: their names, written where there are 60 or fewer.

    Returns:
        One ``<svg>`` element.
    """
    count = len(classes)
    cell = min(_LARGEST_CELL, _SIDE / count)
    names = [_short(name) for name in classes] if count <= _NAMED else []
    size = min(11.0, max(7.0, cell - 1))
    margin = 30 + max((len(name) for name in names), default=0) * _LETTER * size / 11
    turn = 45 if cell > 24 else 90  # where names stand close
    top, left = margin * (0.75 if turn == 45 else 1) + 16, margin
    side = cell * count
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    parts = [
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}" '
        f'fill="{PAPER}" stroke="{FRAME}"/>'
    ]
    for row, column in np.argwhere(matrix > 0):
        x, y, share = left + column * cell, top + row * cell, float(shares[row, column])
        parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
            f'fill="{_shade(share)}"/>'
        )
        if count <= _NUMBERED:
            ink = PAPER if share > 0.45 else INK
            place = (x + cell / 2, y + cell / 2 + 4)
            parts.append(text(place, f"{matrix[row, column]:,}", ink, 12 if cell > 30 else 10))
    for index, name in enumerate(names):
        middle = (index + 0.5) * cell
        place = (left - 6, top + middle + size * 0.35)
        parts.append(text(place, name, INK, round(size), anchor="end"))
        x, y = left + middle + size * 0.35, top - 6
        written = text((x, y), name, INK, round(size), anchor="start")
        parts.append(f'<g transform="rotate({-turn} {x:.1f} {y:.1f})">{written}</g>')
    foot = top + side
    parts.append(text((left + side / 2, foot + 20), "given class", INK, 12, 600))
    x, y = 16.0, top + side / 2
    upright = text((x, y), "true class", INK, 12, 600)
    parts.append(f'<g transform="rotate(-90 {x} {y:.1f})">{upright}</g>')
    right = sum(int(matrix[i, i]) for i in range(count))
    told = f"Confusion matrix: {right:,} of {int(matrix.sum()):,} images right"
    # The last column's name leans out to the right.
    lean = len(names[-1]) * _LETTER * size / 11 * 0.72 if names and turn == 45 else 0.0
    return document(round(left + side + max(16, lean)), foot + 34, told, parts)


def curve(points: Sequence[tuple[float, float]], across: str = "epochs") -> str:
    """Draw the accuracy during a training.

    Args:
        points: (epoch, accuracy in percent), one at least.
        across: name of the horizontal axis.

    Returns:
        One ``<svg>`` element.
    """
    width, height, left, right, top, bottom = 480, 300, 58, 20, 20, 48
    columns = ticks(0, max(x for x, _ in points))
    rows = ticks(min(y for _, y in points), max(y for _, y in points))

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - columns[0]) / (columns[-1] - columns[0]) * (width - left - right),
            height - bottom - (y - rows[0]) / (rows[-1] - rows[0]) * (height - top - bottom),
        )

    parts = []
    for row in rows:
        _, y = place(columns[0], row)
        parts.append(f'<path d="M{left} {y:.1f}H{width - right}" stroke="{FRAME}"/>')
        parts.append(text((left - 8, y + 4), f"{row:g}", INK, 12, anchor="end"))
    for column in columns:
        x, _ = place(column, rows[0])
        parts.append(text((x, height - bottom + 18), f"{column:g}", INK, 12))
    line = [place(x, y) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in line)
    parts.append(
        f'<polyline points="{path}" fill="none" stroke="{_shade(1)}" stroke-width="2.2" '
        'stroke-linejoin="round"/>'
    )
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{_shade(1)}"/>' for x, y in line]
    middle = (top + height - bottom) / 2
    parts.append(text(((left + width - right) / 2, height - 10), across, INK, 12, 600))
    upright = text((16, middle), "accuracy, %", INK, 12, 600)
    parts.append(f'<g transform="rotate(-90 16 {middle})">{upright}</g>')
    last = f"Accuracy during the training: {points[-1][1]:.1f} % at the end"
    return document(width, height, last, parts)


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _shade(share: float) -> str:
    """Return white for 0, :data:`BLUE` for 1; the first images are seen already."""
    weight = 0.0 if share == 0 else 0.08 + 0.92 * share
    red, green, blue = (round(255 + weight * (tone - 255)) for tone in BLUE)
    return f"#{red:02x}{green:02x}{blue:02x}"
