"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from metad2a.errors import ArtifactError, InputError


@contextlib.contextmanager
def new_file(path: str | Path) -> Iterator[Path]:
    """Give a file to write, which at the end takes the place of what is there.

    Raises:
        ArtifactError: it cannot be written; its folder must exist.
    """
    place = Path(path)
    with _told(place), _workshop(place) as workshop:
        made = workshop / "file"  # not a temporary file itself, which would be private
        yield made
        made.replace(place)


def write_file(path: str | Path, content: bytes) -> None:
    """Write a file whole or not at all; see :func:`new_file`."""
    with new_file(path) as made:
        made.write_bytes(content)


@contextlib.contextmanager
def new_folder(folder: str | Path, own: Collection[str]) -> Iterator[Path]:
    """Give an empty folder to fill, which then takes its place: at the end, and whole.

    Args:
        folder: its place, made with the folders above it. What is there is replaced only if it
            holds nothing, or files of these names with the first of them, an earlier result.
        own: the names of the files that may be in it.

    Raises:
        InputError: the place is a file, or a folder that holds anything else.
        ArtifactError: it cannot be written.
    """
    place = Path(folder)
    with _told(place):
        check_free(place, own)
        place.parent.mkdir(parents=True, exist_ok=True)
        with _workshop(place) as workshop:
            made, before = workshop / "new", workshop / "before"
            made.mkdir()
            yield made
            if place.exists():
                place.rename(before)
            try:
                made.rename(place)
            except OSError:
                if before.exists():
                    before.rename(place)
                raise


def check_free(place: Path, own: Collection[str]) -> None:
    """Refuse a place that :func:`new_folder` would refuse.

    Raises:
        InputError: as there.
    """
    if not place.exists() and not place.is_symlink():
        return
    if place.is_symlink() or not place.is_dir():
        raise InputError(f"{str(place)!r} is no folder; choose a new one.")
    found = sorted(path.name for path in place.iterdir())
    others = [name for name in found if name not in own]
    if found and (others or next(iter(own)) not in found):
        raise InputError(
            f"The folder {str(place)!r} holds other files, {(others or found)[0]!r} "
            "among them; choose a new or an empty one."
        )


@contextlib.contextmanager
def _workshop(place: Path) -> Iterator[Path]:
    """Give a private folder beside a place, on the same disk, that is gone afterwards."""
    workshop = Path(tempfile.mkdtemp(prefix=f".{place.name[:50]}.", dir=place.parent))
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


@contextlib.contextmanager
def _told(place: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        why = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else error
        raise ArtifactError(
            f"Cannot write {str(place)!r}: {why}. Check that its folder is there "
            "and writable, and that the disk has room."
        ) from error
