"""Limits on what is read, and the settings taken from the environment (prefix ``METAD2A_``)."""

from __future__ import annotations

import contextlib
import os
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """How much of a file is opened before it is refused; the one place for limits.

    The defaults are for strangers' files: uploads, and whatever is loaded with ``sandbox=True``.
    """

    upload_bytes: int = 200_000_000
    """Bytes of one file given to the web page."""

    archive_members: int = 50_000
    """Entries of an archive, folders and litter included."""
    archive_bytes: int = 2**30
    """Unpacked bytes of an archive."""
    archive_ratio: int = 20
    """Unpacked bytes of an archive for each of its own bytes..."""
    archive_free_bytes: int = 10_000_000
    """...which are not counted up to here: a small archive of flat images is no bomb."""
    member_bytes: int = 20_000_000
    """Bytes, packed or unpacked, of one file in an archive."""
    depth: int = 6
    """Folders above an image in an archive."""
    name_bytes: int = 255
    """UTF-8 bytes of the name of a file or folder in an archive."""

    image_pixels: int = 16_000_000
    """Pixels of one image as it is decoded; a larger one counts as unreadable."""
    photo_pixels: int = 100_000_000
    """Pixels of a stored JPEG that may be decoded at a fraction of its size."""
    more_formats: bool = False
    """Whether images of other formats than the seven usual ones are decoded."""
    min_side: int = 8
    """Least height and width of an image in pixels."""
    max_side: int = 8_192
    """Greatest height and width of an image in pixels."""
    image_bytes: int = 64 * 2**20
    """Bytes of one image file in a folder; a larger one counts as unreadable."""
    unreadable_share: float = 0.05
    """Fraction, 0 to 1, of the images looked at that may be unreadable."""
    min_classes: int = 2
    """Least number of classes."""
    max_classes: int = 1_000
    """Greatest number of classes."""
    min_class_images: int = 2
    """Least number of readable images of a class."""

    text_bytes: int = 32 * 2**20
    """Bytes of the tables and other texts beside images that are looked into for labels."""

    ingest_seconds: float = 60.0
    """Seconds in which a dataset must be read."""
    decode_seconds: float = 2.0
    """Seconds in which one image must be decoded."""
    child_bytes: int = 3 * 2**29
    """Memory, 1.5 GiB, of the child process that decodes images."""
    parquet_cache_bytes: int = 256 * 2**20
    """Bytes of image data of a Parquet file that are kept in memory at a time."""


LIMITS = Limits()
"""Of strangers' files."""
OWN = replace(
    LIMITS,
    # Twice what Pillow warns of and the most that it opens; the settings of the user's own process
    # are left as they are.
    image_pixels=178_956_970,
    photo_pixels=178_956_970,
    max_side=178_956_970 // LIMITS.min_side,
    more_formats=True,
    image_bytes=2**30,
    unreadable_share=0.5,
    text_bytes=2**40,
    ingest_seconds=float("inf"),
    archive_members=2_000_000,
    archive_bytes=2**40,
    archive_ratio=1_000,
    archive_free_bytes=2**33,
    member_bytes=2**30,
    depth=40,
    name_bytes=2**16,
)
"""Of a user's own files: what a mistake would cost, not what an enemy could do."""
strangers: ContextVar[bool] = ContextVar("strangers", default=True)
"""Whether what is being opened is a stranger's; ``load_dataset`` sets it."""


def cache_folder() -> Path | None:
    """Return where files are kept: ``METAD2A_CACHE``, or ``~/.cache/metad2a``.

    None where a user has no home, as in some containers: nothing is kept then.
    """
    with contextlib.suppress(RuntimeError):
        chosen = os.environ.get("METAD2A_CACHE")
        return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "metad2a"
    return None


def once_for_all_file() -> Path | None:
    """Return the user's file of once-for-all's weights: ``METAD2A_ONCE_FOR_ALL``, or None.

    Networks of the space ``mobilenetv3`` begin with them where it is set.
    """
    chosen = os.environ.get("METAD2A_ONCE_FOR_ALL")
    return Path(chosen).expanduser() if chosen else None
