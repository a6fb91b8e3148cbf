"""Drawings of networks whose blocks follow one another: a row a block, from the images down."""

from __future__ import annotations

from collections.abc import Sequence

from metad2a._svg import COLOURS, FRAME, INK, NODE, text
from metad2a.spaces.sketch import Block

WIDTH = 400
_LEFT, _RIGHT = 16, 384
_BOX, _NARROW, _WIDE = 92, 60, 158
"""Where blocks begin, and how wide they are, in pixels."""
_ROW, _TALL, _SPACE, _RIM = 26, 20, 8, 14


def height(blocks: Sequence[Block]) -> int:
    """Return how high the drawing is, in pixels."""
    return 2 * _RIM + _ROW * len(blocks) + _SPACE * len(_breaks(blocks))


def column(blocks: Sequence[Block], top: float) -> list[str]:
    """Draw blocks; a group's name stands beside its first one.

    Args:
        blocks: in the order of the data flow.
        top: where the drawing begins, in pixels from the upper rim.
    """
    breaks, parts = _breaks(blocks), []
    y, middle = top + _RIM, _BOX + _NARROW / 2
    end = top + height(blocks) - _RIM - _ROW / 2
    parts.append(
        f'<line x1="{middle:.1f}" y1="{y:.1f}" x2="{middle:.1f}" y2="{end:.1f}" '
        f'stroke="{FRAME}" stroke-width="3"/>'
    )
    for index, block in enumerate(blocks):
        y += _SPACE if index in breaks else 0
        colour = COLOURS[block.kind % len(COLOURS)]
        wide = _NARROW + (_WIDE - _NARROW) * min(max(block.size, 0.0), 1.0)
        base = y + (_ROW + _TALL) / 2 - 5.5
        parts.append(
            f'<rect x="{_BOX}" y="{y + (_ROW - _TALL) / 2:.1f}" width="{wide:.1f}" '
            f'height="{_TALL}" rx="5" fill="{NODE}" stroke="{colour}" stroke-width="1.5"/>'
        )
        if block.group and (index == 0 or index in breaks):
            parts.append(text((_LEFT, base), block.group, INK, 13, 600, "start"))
        parts.append(text((_BOX + 8, base), block.label, colour, 12, 600, "start"))
        parts.append(text((_RIGHT, base), block.output, INK, 12, anchor="end"))
        y += _ROW
    return parts


def _breaks(blocks: Sequence[Block]) -> set[int]:
    """Return the numbers of the blocks that begin another group than the first."""
    return {i for i in range(1, len(blocks)) if blocks[i].group != blocks[i - 1].group}
