"""Masks of what is in pictures, where they lie among the pictures themselves."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence

_NAMED = re.compile(
    r"(.+?)[\s_.\-]+(?:masks?|seg|segmentation|gt|ground_?truth|trimap|matte)(?:[\s_.\-]*\d+)?",
    re.IGNORECASE,
)
"""The name of a mask, without its ending: that of its picture, and a word."""
_JPEG = (".jpg", ".jpeg")
_SHARE = 0.9
"""Share of the JPEGs of a folder that must have a PNG of the same name to make those masks."""
_LOOKED = 5
_GRAY, _PALETTE = 0, 3
"""Colour types of a PNG that masks have."""


def masks_among(names: Sequence[str], peek: Callable[[str, int], bytes]) -> set[str]:
    """Return which of the images of one folder are masks of others.

    They are called like a picture beside them and a word such as ``mask``; or they are gray PNGs
    with the names of the JPEGs beside them.

    Args:
        names: of the files.
        peek: reads the start of a file.
    """
    stems = {posixpath.splitext(name)[0].lower() for name in names}
    found = {
        name
        for name in names
        if (named := _NAMED.fullmatch(posixpath.splitext(name)[0])) and named[1].lower() in stems
    }
    jpegs = {stem for stem, ending in map(posixpath.splitext, names) if ending.lower() in _JPEG}
    pngs = [name for name in names if name[-4:].lower() == ".png" and name[:-4] in jpegs]
    if len(pngs) > 1 and len(pngs) >= _SHARE * len(jpegs):
        heads = [peek(name, 32) for name in pngs[:: max(1, len(pngs) // _LOOKED)]]
        if all(head[12:16] == b"IHDR" and head[25] in (_GRAY, _PALETTE) for head in heads):
            found.update(pngs)
    return found
