"""A folder of archives: one a side, as ``train.zip`` and ``val.zip``, or shards of WebDataset."""

from __future__ import annotations

import re
import threading
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.archive import ArchiveDataset
from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset
from metad2a.datasets.forms.tarred import ENDINGS as TAR_ENDINGS
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.layout import SPLITS, is_image
from metad2a.errors import InputError
from metad2a.settings import strangers

_ENDINGS = (*TAR_ENDINGS, ".zip", ".7z")
_OPEN = 64
"""Archives that are open at a time; some systems allow a process 256 files."""


class ShardsDataset(EncodedDataset):
    """The images of several archives, in the order of the archives' names, training first."""

    def __init__(self, folder: Path) -> None:
        self.name, self.form = folder.absolute().name, ShardsForm.name
        self._shards: list[ArchiveDataset] = []
        self._names: list[str] = []
        self._open: OrderedDict[int, None] = OrderedDict()
        self._lock = threading.Lock()
        labels, sides, notes = [], [], Counter[str]()
        try:
            for path in sorted(_archives(folder), key=lambda path: (_side(path), path.name)):
                shard = self._opened(path)
                self._shards.append(shard)
                self._names.append(path.name)
                self._use(len(self._shards) - 1)
                labels += [shard.classes[label] for label in shard.labels]
                sides.append(np.maximum(shard.split, _side(path)))
                notes.update(shard.notes)
        except BaseException:
            self.close()
            raise
        self.labels, self.classes = encode_labels(np.array(labels, dtype=object))
        self.split = np.concatenate(sides).astype(np.int8)
        if self.split.all():
            self.split = np.zeros_like(self.split)
            notes["There is only a test side, so it is read as images of no side."] += 1
        self.layouts = tuple(dict.fromkeys(one for shard in self._shards for one in shard.layouts))
        self.notes = tuple(
            note if count == 1 else f"{note} (So in {count:,} of the archives.)"
            for note, count in notes.items()
        )
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    @staticmethod
    def _opened(path: Path) -> ArchiveDataset:
        usable = (form for form in FORMS if form.for_strangers or not strangers.get())
        form = next((form for form in usable if form.arranged and form.accepts(path)), None)
        if form is None:
            raise InputError(f"{path.name!r} is no archive that can be read. Pack it again.")
        shard = form.open(path)
        assert isinstance(shard, ArchiveDataset), "a file that is arranged is an archive"
        return shard

    def _use(self, number: int) -> None:
        """Close the archive that was used longest ago, if too many are open."""
        with self._lock:
            self._open[number] = None
            self._open.move_to_end(number)
            while len(self._open) > _OPEN:
                self._shards[self._open.popitem(last=False)[0]].rest()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock."""
        return {key: value for key, value in self.__dict__.items() if key != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make a new lock."""
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _place(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image file."""
        number, inner = self._place(index)
        self._use(number)
        return self._shards[number].encoded(inner)

    def locate(self, index: int) -> str:
        """Return the archive and the path in it."""
        number, inner = self._place(index)
        return f"{self._names[number]}/{self._shards[number].locate(inner)}"

    def close(self) -> None:
        """Close the archives."""
        for shard in self._shards:
            shard.close()


class ShardsForm(DatasetForm):
    """A folder with archives of images in it, and no images beside."""

    name = "folder of archives"
    wanted = "a folder of such archives, as train.zip and val.zip"

    def accepts(self, source: Any) -> bool:
        """Whether it is a folder with archives and no image file, however deep."""
        if not isinstance(source, Path) or not source.is_dir() or not _archives(source):
            return False
        return not any(is_image(path.name) for path in source.glob("**/*"))

    def open(self, source: Path) -> ShardsDataset:
        """List the images of all archives."""
        return ShardsDataset(source)


def _archives(folder: Path) -> list[Path]:
    return [
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(_ENDINGS) and path.is_file() and path.name[0] != "."
    ]


def _side(path: Path) -> int:
    """Return the side of the split that a word of the file's name tells."""
    words = re.split(r"[-_.\s]+", path.name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), 0)


FORMS.register(ShardsForm.name)(ShardsForm())
