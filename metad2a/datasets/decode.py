"""Decoding: any image file of the allowed formats to uint8 RGB.

Gray, palette, alpha, CMYK, 16-bit and float images, EXIF orientation and animations all come out
as the picture that a viewer would show. Whatever goes wrong is one error with a short reason.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metad2a.errors import MetaD2AError
from metad2a.settings import LIMITS

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names of the formats that are opened; its other decoders are never reached."""
EXTENSIONS = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
"""File-name endings, in lower case, by which images are found in folders and zips."""

FILL = 127
"""Gray beside an image that is no square: zero for a network whose input is scaled to -1..1, as
convolutions pad."""
LONGEST = 1.5
"""Longer to shorter side of what is kept of an image."""


class UnreadableImage(MetaD2AError):  # noqa: N818  (it names a thing that is skipped)
    """An image that cannot be decoded; the message is a short reason without any path."""


def decode(data: bytes, side: int | None = None) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode the first frame of an image file.

    Args:
        data: the file's bytes.
        side: a JPEG may be decoded at a fraction of its size, but no side below this many pixels.

    Returns:
        uint8 (height, width, 3) RGB, and the stored (height, width) in pixels, both upright.

    Raises:
        UnreadableImage: the bytes are no image of the allowed formats, damaged or too large.
    """
    if not data:
        raise UnreadableImage("empty file")
    with _reasons(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _decode(image, side)


@contextlib.contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged image into an :class:`UnreadableImage`."""
    try:
        with _QUIET:
            yield
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(_too_large()) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage("not an image") from error
    except Exception as error:  # Pillow's decoders raise nearly everything on damaged files.
        raise UnreadableImage(_reason(error)) from error


class _Quiet:
    """Silences warnings while any thread is inside: notes on odd metadata are noise.

    ``warnings.catch_warnings`` alone must not be entered by two threads: the filters that the
    first brought could stay when both have left. Sizes that Pillow warns of are refused anyway.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._lock = threading.Lock()
        self._caught = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._caught = warnings.catch_warnings()
                self._caught.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._caught.__exit__(None, None, None)


_QUIET = _Quiet()


def _decode(image: Image.Image, side: int | None) -> tuple[np.ndarray, tuple[int, int]]:
    _check_size(*image.size)
    width, height = image.size
    if side is not None:
        image.draft(None, (side, side))
    image.load()
    drawn = image.size
    with contextlib.suppress(Exception):  # A damaged EXIF block leaves the picture as stored.
        ImageOps.exif_transpose(image, in_place=True)
    # Only a turn by 90 degrees swaps the sides; a square does not tell and does not matter.
    stored = (height, width) if image.size == drawn else (width, height)
    return _to_rgb(image), stored


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 (height, width, 3); alpha goes on white.

    16-bit and float gray is scaled to 8 bits: from 0..65535, 0..1 or 0..255 where the values fit
    one of these ranges, else from the image's own lowest and highest value.

    Raises:
        UnreadableImage: a float image holds values that are not finite, or the file that the image
            still has to be read from is damaged.
    """
    with _reasons():
        return _to_rgb(image)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith(("I", "F")):
        gray = _to_eight_bits(np.asarray(image))
        return np.repeat(gray[:, :, None], 3, axis=2)
    if image.mode != "RGB" or "transparency" in image.info:
        if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
            if image.mode in ("La", "RGBa"):
                image = image.convert(image.mode.upper())
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        image = image.convert("RGB")
    return np.array(image)  # A copy: Pillow lends its memory for reading only.


def square(image: np.ndarray, side: int) -> np.ndarray:
    """Fit an image into a square without changing its shape: the only resize of the project.

    The shorter side becomes ``side``, bilinearly and with antialiasing, and the middle of the
    longer one is kept. An image longer than :data:`LONGEST` to one is made smaller, so that no more
    than a third of it is cut off, and filled on both sides alike with :data:`FILL`. (Fitting the
    longer side and filling the rest cost a classifier on frozen features 8 to 10 points on two sets
    of photographs, squashing 4 to 7.)

    Args:
        image: uint8 (height, width, 3).
        side: of the square, in pixels.

    Returns:
        uint8 (side, side, 3); the image itself where it is such a square.
    """
    height, width = image.shape[:2]
    if height == width == side:
        return image
    short, long = sorted((height, width))
    scale = min(side / short, LONGEST * side / long)
    height, width = max(1, round(height * scale)), max(1, round(width * scale))
    if image.shape[:2] != (height, width):
        resized = Image.fromarray(image).resize(
            (width, height), Image.Resampling.BILINEAR, reducing_gap=3.0
        )
        image = np.asarray(resized)
    top, left = max(0, height - side) // 2, max(0, width - side) // 2
    image = image[top : top + side, left : left + side]
    height, width = image.shape[:2]
    if height == width == side:
        return np.array(image)
    out = np.full((side, side, 3), FILL, dtype=np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    out[top : top + height, left : left + width] = image
    return out


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    wide = values.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    if not np.isfinite([low, high]).all():
        raise UnreadableImage("pixel values are not finite")
    float_top = 1.0 if high <= 1 else 255.0
    top = float_top if values.dtype.kind == "f" else 65535.0
    if low < 0 or high > top:
        wide, top = wide - low, (high - low) or 1.0
    eight: np.ndarray = np.rint(wide * (255.0 / top)).astype(np.uint8)
    return eight


def _check_size(width: int, height: int) -> None:
    if width * height > LIMITS.image_pixels:
        raise UnreadableImage(f"{width}x{height} pixels, {_too_large()}")
    if min(width, height) < LIMITS.min_side:
        raise UnreadableImage(f"{width}x{height} pixels, a side below {LIMITS.min_side}")
    if max(width, height) > LIMITS.max_side:
        raise UnreadableImage(f"{width}x{height} pixels, a side above {LIMITS.max_side:,}")


def _too_large() -> str:
    return f"more than {LIMITS.image_pixels / 1e6:g} megapixels"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated"
    return f"cannot be decoded: {text[:80]}"
