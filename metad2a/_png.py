"""Drawings as PNG, the same on every machine: with a font that Pillow brings."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

from metad2a.errors import InputError

_ZOOM = 2  # for screens of two pixels a point, and for print
_IN_FONT = str.maketrans({"×": "x", "−": "-"})
"""The font has ASCII only."""


def png(svg: str) -> bytes:
    """Return an SVG of ours as a PNG of twice its size.

    Raises:
        InputError: the package of the extra ``png`` is missing, or Pillow's font is.
    """
    if find_spec("resvg_py") is None:
        raise InputError(
            "PNG files need resvg_py, not installed here: pip install 'metad2a[png]'; "
            "or write .svg or .mmd."
        )
    from PIL import ImageFont
    from resvg_py import svg_to_bytes

    font = ImageFont.load_default(12)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise InputError("PNG files need a Pillow with FreeType; or write .svg or .mmd.")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "font.ttf"
        file.write_bytes(font.font_bytes)
        family = font.getname()[0] or ""
        return bytes(
            svg_to_bytes(
                svg_string=svg.translate(_IN_FONT),
                zoom=_ZOOM,
                skip_system_fonts=True,
                font_files=[str(file)],
                font_family=family,
                sans_serif_family=family,
            )
        )
