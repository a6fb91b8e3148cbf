"""Limits on what is read, and the settings taken from the environment (prefix ``METAD2A_``)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """How much of a stranger's file is opened before it is refused."""

    image_pixels: int = 16_000_000
    """Pixels of one image; a larger one counts as unreadable."""
    image_bytes: int = 64 * 2**20
    """Bytes of one image file in a folder; a larger one counts as unreadable."""
    zip_members: int = 50_000
    """Files in a zip."""
    zip_member_bytes: int = 20_000_000
    """Unpacked bytes of one file in a zip."""
    zip_bytes: int = 2**30
    """Unpacked bytes of all files in a zip together."""
    unreadable_share: float = 0.05
    """Fraction, 0 to 1, of the images looked at that may be unreadable."""
    parquet_cache_bytes: int = 256 * 2**20
    """Bytes of image data of a Parquet file that are kept in memory at a time."""


LIMITS = Limits()


def cache_folder() -> Path:
    """Return where downloads are kept: ``METAD2A_CACHE``, or ``~/.cache/metad2a``."""
    chosen = os.environ.get("METAD2A_CACHE")
    return Path(chosen).expanduser() if chosen else Path.home() / ".cache" / "metad2a"
