"""Decoding: any image file of the allowed formats to uint8 RGB.

Gray, palette, alpha, CMYK, 16-bit and float images (:mod:`metad2a.datasets.levels`), EXIF
orientation and animations all come out as the picture that a viewer would show. Whatever goes wrong
is one error with a short reason.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import re
import struct
import threading
import warnings
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from metad2a.datasets.levels import Levels, Spread, levels_of, spread_of
from metad2a.errors import MetaD2AError
from metad2a.settings import LIMITS, Limits

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""Pillow's names of the formats that are opened; its other decoders are never reached."""
MORE_FORMATS = ("AVIF", "JPEG2000", "HEIF")
"""Formats that are opened in a user's own files only: their decoders are not those to give strangers'
files to."""
_BY_ENDING = {".tga": ("TGA",), ".dib": ("DIB",)}
"""Formats without a mark of their own, which the ending of the file's name has to tell."""
HEIC = frozenset((".heic", ".heif", ".hif"))
"""Endings of what Pillow reads with a plug-in only."""
EXTENSIONS = frozenset(
    re.findall(
        r"\S+",
        ".png .apng .jpg .jpeg .jpe .jfif .jfi .jif .mpo .bmp .dib .gif .webp .tif .tiff .ppm .pgm "
        ".pbm .pnm .avif .jp2 .j2k .jpf .jpx .tga",
    )
) | (HEIC if importlib.util.find_spec("pillow_heif") else frozenset())
"""File-name endings, in lower case, by which images are found in folders and archives."""

FILL = 127
"""Gray beside an image that is no square: zero for a network whose input is scaled to -1..1, as
convolutions pad."""
LONGEST = 1.5
"""Longer to shorter side of what is kept of an image."""


class UnreadableImage(MetaD2AError):  # noqa: N818  (it names a thing that is skipped)
    """An image that cannot be decoded; the message is a short reason without any path."""


# Reasons are raised; what Pillow logs as well would be printed where nobody has set up logging.
logging.getLogger("PIL").addHandler(logging.NullHandler())


def decode(
    data: bytes,
    side: int | None = None,
    levels: Callable[[], Levels] | None = None,
    limits: Limits = LIMITS,
    ending: str = "",
) -> tuple[np.ndarray, tuple[int, int]]:
    """Decode the first frame of an image file.

    Args:
        data: the file's bytes.
        side: a JPEG may be decoded at a fraction of its size, but no side below this many pixels;
            where its size is above the limits, that brings it below them.
        levels: asked for black and white of an image with more than 8 bits; None: its own.
        limits: of its size.
        ending: of the file's name in lower case, for formats that have no mark of their own.

    Returns:
        uint8 (height, width, 3) RGB, and the stored (height, width) in pixels, both upright.

    Raises:
        UnreadableImage: the bytes are no image of the allowed formats, damaged or too large.
    """
    try:
        with _opened(data, limits, ending) as image:
            return _decode(image, side, levels, limits)
    except UnreadableImage as error:
        # More text than Pillow reads, such as the workflow that drew it; nobody looks at it.
        if "text" not in str(error).lower() or not data.startswith(_PNG):
            raise
    with _opened(_without_text(data), limits) as image:
        return _decode(image, side, levels, limits)


def spread(data: bytes, limits: Limits = LIMITS) -> Spread | None:
    """Measure the values of an image file with more than 8 bits; None for any other.

    Only the head of an image of 8 bits is read.

    Raises:
        UnreadableImage: as for :func:`decode`.
    """
    with _opened(data, limits) as image:
        if not _is_wide(image):
            return None
        _check_size(*image.size, limits)
        return spread_of(np.asarray(image))


@contextlib.contextmanager
def _opened(data: bytes, limits: Limits, ending: str = "") -> Iterator[Image.Image]:
    if not data:
        raise UnreadableImage("empty file")
    if data.startswith(_LFS):
        raise UnreadableImage("a pointer of Git LFS, not the file: run 'git lfs pull'")
    formats: tuple[str, ...] = FORMATS
    if limits.more_formats and _other_kind(data) is not None:
        formats = tuple(name for name in MORE_FORMATS if name != "HEIF" or _heif())
    elif limits.more_formats:
        formats += _BY_ENDING.get(ending, ())
    with _reasons(data, limits), Image.open(io.BytesIO(data), formats=formats) as image:
        yield image


def looks_like_image(head: bytes) -> bool:
    """Whether a file is an image by its first 32 bytes, of a format that can be decoded."""
    return (
        head.startswith((b"\xff\xd8\xff", _PNG, b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
        or (head.startswith(b"BM") and head[6:10] == bytes(4) and head[14:18] in _BMP_HEADERS)
        or (head.startswith(b"RIFF") and head[8:12] == b"WEBP")
        or re.match(rb"P[1-6]\s+(#|\d+\s+(#|\d))", head) is not None
        or _other_kind(head) in ("AVIF", "JPEG 2000")
    )


_BMP_HEADERS = tuple(bytes((size, 0, 0, 0)) for size in (12, 40, 52, 56, 64, 108, 124))


def _other_kind(head: bytes) -> str | None:
    """Return what image a file is by its mark, of those that not everybody reads."""
    if head.startswith((b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  ")):
        return "JPEG 2000"
    if head[4:8] == b"ftyp":
        if head[8:12] in (b"avif", b"avis"):
            return "AVIF"
        if head[8:12] in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
            return "HEIC"
    return None


def _heif() -> bool:
    """Have Pillow read HEIC by its plug-in, if that is installed."""
    try:
        import pillow_heif
    except ImportError:
        return False
    pillow_heif.register_heif_opener()
    return True


def _not_opened(data: bytes) -> str:
    """Return why a file is opened by no decoder."""
    kind = _other_kind(data)
    if kind == "HEIC" and not importlib.util.find_spec("pillow_heif"):
        return "HEIC, which is read after: pip install 'metad2a[heif]'"
    if kind is not None:
        return f"{kind}, which is not read here: save it as PNG or JPEG"
    return _of_tiff(data) or "not an image"


def _without_text(data: bytes) -> bytes:
    """Return a PNG without its chunks of text."""
    kept, at = [data[:8]], 8
    while at + 12 <= len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] not in (b"tEXt", b"zTXt", b"iTXt"):
            kept.append(data[at:end])
        at = end
    return b"".join(kept)


_PNG = b"\x89PNG\r\n\x1a\n"
_LFS = b"version https://git-lfs.github.com/spec/"
_SAMPLES, _BITS, _KIND = 277, 258, 339
"""Tags of a TIFF: channels, bits of each, and whether they are whole numbers (1, 2) or floats."""


def _of_tiff(data: bytes) -> str:
    """Return why a TIFF is none of those that Pillow reads, or nothing where it is no TIFF."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return ""
    tags = {}
    with contextlib.suppress(struct.error):
        (place,) = struct.unpack_from(f"{order}L", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, place)
        for number in range(min(count, 200)):
            tag, _, many, value = struct.unpack_from(f"{order}HHLL", data, place + 2 + 12 * number)
            if tag in (_SAMPLES, _BITS, _KIND):
                where = place + 10 + 12 * number if many <= 2 else value
                (tags[tag],) = struct.unpack_from(f"{order}H", data, where)
    if not {_SAMPLES, _BITS} <= tags.keys():
        return ""
    samples, bits = tags[_SAMPLES], tags[_BITS]
    numbers = "floats" if tags.get(_KIND) == 3 else "whole numbers"
    return (
        f"a TIFF of {samples} channels of {bits}-bit {numbers}, which is not read: save 1 channel, "
        "or 3 of 8 bits"
    )


@contextlib.contextmanager
def _reasons(data: bytes = b"", limits: Limits = LIMITS) -> Iterator[None]:
    """Turn whatever Pillow raises on a damaged image into an :class:`UnreadableImage`."""
    try:
        with _QUIET:
            yield
    except UnreadableImage:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableImage(_too_large(limits)) from error
    except UnidentifiedImageError as error:
        raise UnreadableImage(_not_opened(data)) from error
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


def _decode(
    image: Image.Image, side: int | None, levels: Callable[[], Levels] | None, limits: Limits
) -> tuple[np.ndarray, tuple[int, int]]:
    width, height = image.size
    if side is not None and width * height <= limits.photo_pixels:
        image.draft(None, (side, side))
    _check_size(*image.size, limits, (width, height))
    image.load()
    drawn = image.size
    with contextlib.suppress(Exception):  # A damaged EXIF block leaves the picture as stored.
        ImageOps.exif_transpose(image, in_place=True)
    # Only a turn by 90 degrees swaps the sides; a square does not tell and does not matter.
    stored = (height, width) if image.size == drawn else (width, height)
    return _to_rgb(image, levels), stored


def to_rgb(image: Image.Image, levels: Callable[[], Levels] | None = None) -> np.ndarray:
    """Convert a Pillow image of any mode to uint8 (height, width, 3); alpha goes on white.

    16-bit and float gray is scaled to 8 bits by ``levels``, or by its own
    (:mod:`metad2a.datasets.levels`).

    Raises:
        UnreadableImage: a float image holds no value that is finite, or the file that the image
            still has to be read from is damaged.
    """
    with _reasons():
        return _to_rgb(image, levels)


def _is_wide(image: Image.Image) -> bool:
    """Whether the pixels of an image have more than 8 bits a channel."""
    return image.mode.startswith(("I", "F"))


def _to_rgb(image: Image.Image, levels: Callable[[], Levels] | None) -> np.ndarray:
    if _is_wide(image):
        values = np.asarray(image)
        own = spread_of(values)
        if own is None:
            raise UnreadableImage("no pixel value is finite")
        gray = (levels() if levels is not None else levels_of([own])).eight_bits(values)
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


def _check_size(
    width: int, height: int, limits: Limits, stored: tuple[int, int] | None = None
) -> None:
    """Refuse a size to decode; the message tells the stored one."""
    shown = "{}x{} pixels".format(*(stored or (width, height)))
    if width * height > limits.image_pixels:
        raise UnreadableImage(f"{shown}, {_too_large(limits)}")
    if min(stored or (width, height)) < limits.min_side:
        raise UnreadableImage(f"{shown}, a side below {limits.min_side}")
    if max(width, height) > limits.max_side:
        raise UnreadableImage(f"{shown}, a side above {limits.max_side:,}")


def _too_large(limits: Limits) -> str:
    return f"more than {limits.image_pixels / 1e6:g} megapixels"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return "truncated"
    return f"cannot be decoded: {text[:80]}"
