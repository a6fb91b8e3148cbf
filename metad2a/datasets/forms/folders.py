"""A folder tree with one folder a class."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset, read_image_file
from metad2a.datasets.layout import Unused, Wish, is_litter, read_layout
from metad2a.datasets.names import as_text, plain
from metad2a.errors import InputError
from metad2a.settings import strangers

_LISTED = 5


class FolderDataset(EncodedDataset):
    """Image files in class folders; see :func:`metad2a.datasets.layout.read_layout`."""

    def __init__(self, root: Path, wish: Wish | None = None) -> None:
        self.name, self.form = root.absolute().name, FolderForm.name
        self._root = root.absolute()
        # For the system a name need not be text: what is shown is, and files keep their own. Those
        # are few, and there may be a million others, so nothing else is kept twice.
        self._own: dict[str, str] = {}
        walk = Walk(root)
        found = []
        for path in walk.found:
            text = as_text(os.fsencode(path))
            text = text if strangers.get() else plain(text)
            if text != path:
                self._own[text] = path
            found.append(text)
        try:
            listing = read_layout(found, wish, self._peek)
        except InputError as error:
            # Of the same class: a question stays one.
            raise type(error)(f"{str(root)!r}: {error}{walk.told()}") from error
        self._paths = listing.paths
        self.take(listing)
        self.unused += tuple(walk.unused)
        self.notes += walk.notes()

    def _peek(self, path: str, most: int) -> bytes:
        """Return the first bytes of a plain file, or none."""
        place = self._root / self._own.get(path, path)
        try:
            if not place.is_file():  # Reading a pipe would wait for ever.
                return b""
            with place.open("rb") as file:
                return file.read(most)
        except (OSError, ValueError):
            return b""

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        path = self._paths[index]
        return read_image_file(self._root / self._own.get(path, path), self.limits)

    def locate(self, index: int) -> str:
        """Return the path below the root."""
        return self._paths[index]


class Walk:
    """All files of a tree and its folders; a folder is entered once, whatever links lead to it.

    Real folders come before links, and links by name, so that it never depends on the system's
    order which of two names of a folder is read.
    """

    def __init__(self, root: Path) -> None:
        self.found: list[str] = []
        """Relative paths with ``/``, those of folders end in it."""
        self.unused: list[Unused] = []
        """Links to folders that are read under another name, and folders that cannot be opened."""
        self._root = str(root)
        self._seen: dict[tuple[int, int], str] = {}
        self._links: list[str] = []
        self._enter("")
        while self._links:
            self._links.sort(reverse=True)
            self._enter(self._links.pop(), link=True)

    def notes(self) -> tuple[str, ...]:
        """Return what is said of that: a sentence, or none."""
        if not self.unused:
            return ()
        rest = len(self.unused) - _LISTED
        told = "; ".join(f"{one.path} ({one.reason})" for one in self.unused[:_LISTED])
        return (f"Not read: {told}{f'; and {rest:,} more' if rest > 0 else ''}.",)

    def told(self) -> str:
        """Return the same for the end of an error."""
        return "".join(f" {note}" for note in self.notes())

    def _enter(self, folder: str, link: bool = False) -> None:
        waiting = [folder]
        while waiting:
            folder = waiting.pop()
            place = os.path.join(self._root, folder)  # noqa: PTH118  (a million folders)
            try:
                status = os.stat(place)  # noqa: PTH116
                known = self._seen.setdefault((status.st_dev, status.st_ino), folder)
                if known != folder:
                    if link:
                        self._leave(folder, f"a link to {known or './'}, which is read already")
                    continue
                with os.scandir(place) as entries:
                    inside = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                self._leave(folder, f"cannot be opened: {error.strerror}")
                continue
            if folder:
                self.found.append(folder)
            for entry in inside:
                path = folder + entry.name
                if not _is_folder(entry):
                    self.found.append(path)
                elif entry.is_symlink():
                    self._links.append(f"{path}/")
                else:
                    waiting.append(f"{path}/")
            link = False

    def _leave(self, folder: str, reason: str) -> None:
        if not is_litter(folder.rstrip("/")):
            self.unused.append(Unused(as_text(os.fsencode(folder)) or "./", 0, reason))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


class FolderForm(DatasetForm):
    """A folder that is no folder of Parquet files."""

    name = "class folders"
    wanted = "a folder with one folder of images a class"
    general = True
    arranged = True

    def accepts(self, source: Any) -> bool:
        """Whether it is a folder without Parquet files."""
        return isinstance(source, Path) and source.is_dir()

    def open(self, source: Path) -> FolderDataset:
        """List the image files."""
        return FolderDataset(source)

    def open_as(self, source: Path, wish: Wish) -> FolderDataset:
        """List the image files, arranged as the user says."""
        return FolderDataset(source, wish)


FORMS.register(FolderForm.name)(FolderForm())
