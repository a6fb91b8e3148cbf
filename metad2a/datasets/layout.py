"""Layouts: from the files of a tree or an archive to images with classes and sides.

A layout is one way in which people arrange labelled images, as class folders are, or class folders
in split folders. Each is a file in :mod:`metad2a.datasets.layouts` that looks at one folder and
either says nothing or reads it, and it may have the folders below read in turn; so wrappers, split
folders and class folders combine without a table of combinations. What no layout is sure of is an
:class:`Unsure` error that names the folders and the options that say what they are. Whatever is
not used is listed with the reason.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from metad2a.datasets.decode import EXTENSIONS, looks_like_image
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.masks import masks_among
from metad2a.datasets.names import check_characters
from metad2a.errors import InputError
from metad2a.registry import Registry
from metad2a.settings import LIMITS, OWN, strangers

SPLITS = {
    "train": 0,
    "training": 0,
    "val": 1,
    "valid": 1,
    "validation": 1,
    "dev": 1,
    "test": 1,
    "testing": 1,
    "eval": 1,
    "evaluation": 1,
    "holdout": 1,
}
"""Words, in lower case, that say which side of the split a file, a row or a folder is on."""

OPTIONS = (
    "Say which it is: --layout class-folders where these are the classes, --classes-at PATTERN "
    "for where the class stands in the paths (such as '*/{class}' or 'train/{class}_*'), --labels "
    "FILE for a list of names and labels, --split train=FOLDER for what to train on (in Python "
    "the keywords layout, classes_at, labels and split)."
)
"""What every :class:`Unsure` error ends with."""

_LISTED = 6
_NO_PICTURES = frozenset(
    re.findall(
        r"\S+",
        ".7z .ai .arrow .arw .avi .bat .bin .bz2 .c .cfg .conf .cpp .cr2 .cr3 .css .csv .data "
        ".db .dcm .dng .doc .docx .eps .exr .gz .h5 .hdf5 .heic .heif .hif .htm .html .icns "
        ".ico .ini .ipynb .jpynb .js .json .jsonl .jxl .key .lock .log .lst .mat .md .mov "
        ".mp3 .mp4 .names .nef .nii .npy .npz .onnx .orf .parquet .pdf .pickle .pkl .ppt "
        ".pptx .psd .pt .pth .py .rar .raw .rst .rw2 .safetensors .sh .sqlite .svg .tar .tex "
        ".tfrecord .toml .tsv .txt .wav .weights .xcf .xls .xlsx .xml .yaml .yml .zip .zst",
    )
)
"""Endings under which no picture of a readable kind stands; others are looked into."""

Peek = Callable[[str, int], bytes]
"""Returns the first so many bytes of a file of the tree, or none where it cannot be read."""


class Unsure(InputError):  # noqa: N818  (it is asked, not wrong)
    """The folders could mean several things, and the user has to say which."""


@dataclass(frozen=True)
class Unused:
    """A folder or a file that gives no image, and why."""

    path: str
    """Relative to the root, with ``/``; a folder ends in it."""
    images: int
    """Images in it."""
    reason: str

    def __str__(self) -> str:
        held = f", {count_images(self.images)}" if self.images else ""
        return f"{self.path}{held}: {self.reason}"


@dataclass(frozen=True)
class Wish:
    """What the user says of a layout; nothing means that it is recognised."""

    layout: str | None = None
    """Name of the layout that the outermost folder with images has."""
    classes_at: str | None = None
    """Path pattern with ``{class}``, and perhaps ``{split}``, ``*`` and ``**``."""
    split: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Path patterns of folders by ``train``, ``val`` and ``test``."""


@dataclass(frozen=True)
class Listing:
    """The images of a tree, sorted by path; the arrays are as in ``ImageDataset``."""

    paths: list[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    split: np.ndarray
    unused: tuple[Unused, ...]
    notes: tuple[str, ...]
    layouts: tuple[str, ...]
    """Names of the layouts that read it, outermost first."""
    kinds: dict[str, int]
    """Files that are no images that can be read, by their endings."""


class Folder:
    """A folder of a tree, with the images and other files that lie in it and below it."""

    def __init__(self, path: str) -> None:
        self.path = path
        """Relative to the root, with ``/`` at the end; empty for the root."""
        self.name = path.rstrip("/").rpartition("/")[2]
        self.folders: dict[str, Folder] = {}
        self.images: list[str] = []
        """Names of the image files in it."""
        self.others: list[str] = []
        """Names of its other files."""

    @cached_property
    def total(self) -> int:
        """Images in it and below it."""
        return len(self.images) + sum(folder.total for folder in self.folders.values())

    @cached_property
    def heads(self) -> list[Folder]:
        """The folders in it that have images in them or below, by name."""
        return [self.folders[name] for name in sorted(self.folders) if self.folders[name].total]

    def paths(self) -> Iterator[str]:
        """Yield the paths of all images in it and below it."""
        for name in self.images:
            yield self.path + name
        for folder in self.folders.values():
            yield from folder.paths()

    def without(self, names: Iterable[str]) -> Folder:
        """Return the same folder without some of those in it."""
        left, out = Folder(self.path), set(names)
        left.images, left.others = self.images, self.others
        left.folders = {name: folder for name, folder in self.folders.items() if name not in out}
        return left

    def unused(self, reason: str) -> Unused:
        """Return this folder as one that is not used."""
        return Unused(self.path or "./", self.total, reason)


@dataclass
class Reading:
    """What a layout makes of a folder."""

    images: list[tuple[str, str, int]] = field(default_factory=list)
    """Path, class and side (0 train or unspecified, 1 validation or test)."""
    unused: list[Unused] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was decided that another reader might decide otherwise, a sentence each."""
    layouts: list[str] = field(default_factory=list)

    def classes(self) -> set[str]:
        """Return the names of the classes."""
        return {label for _, label, _ in self.images}

    def add(self, other: Reading, side: int = 0) -> None:
        """Take over another reading; what it has for testing stays so, whatever ``side`` says."""
        self.images += [(path, label, max(side, own)) for path, label, own in other.images]
        self.unused += other.unused
        self.notes += [note for note in other.notes if note not in self.notes]
        self.layouts += [name for name in other.layouts if name not in self.layouts]

    def add_class(self, folder: Folder, side: int = 0, name: str | None = None) -> None:
        """Take all images of a folder as one class, called like it."""
        label = folder.name if name is None else name
        self.images += [(path, label, side) for path in folder.paths()]

    def leave_loose(self, folder: Folder) -> None:
        """Leave out the images that lie in a folder beside its folders."""
        if folder.images:
            first = f"{folder.path}{folder.images[0]}"
            self.unused.append(
                Unused(first, len(folder.images), "beside the folders, so in no class")
                if len(folder.images) == 1
                else Unused(f"{folder.path or './'}*", len(folder.images), "in no class folder")
            )


class Example(NamedTuple):
    """A small tree of a layout, and what is to be read from it."""

    files: Mapping[str, str]
    """Paths, and what text stands in those that are no images."""
    answer: Mapping[str, int] | str
    """Images by class, or words of the question that is asked back."""


class Layout(ABC):
    """One way of arranging labelled images."""

    name: str
    """Lower case with hyphens, as it is given to ``--layout``."""
    rank: int
    """Layouts are asked in rising order, the particular ones before the general ones."""
    example: Example

    @abstractmethod
    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read a folder that has images in it or below, or return None: it is another layout.

        Raises:
            Unsure: it is this layout, and the user has to say more.
        """


LAYOUTS: Registry[Layout] = Registry("layout", "metad2a.datasets.layouts")


class Reader:
    """Reads folders by the layout that knows them, and the texts beside images."""

    def __init__(self, peek: Peek) -> None:
        self._peek = peek
        self._most = self._left = (LIMITS if strangers.get() else OWN).text_bytes
        self._order = sorted(LAYOUTS, key=lambda layout: layout.rank)
        self.above: list[Folder] = []
        """The folders that are being read, the innermost first."""

    def read(self, folder: Folder) -> Reading:
        """Read a folder by the first layout that knows it.

        Raises:
            Unsure: none does, or the one that does has to ask.
        """
        self.above.insert(0, folder)
        try:
            for layout in self._order:
                found = layout.read(folder, self)
                if found is not None:
                    found.layouts.insert(0, layout.name)
                    return found
        finally:
            self.above.pop(0)
        raise flat(folder)

    def content(self, path: str, most: int) -> bytes:
        """Return the first so many bytes of a file, or none where it cannot be read.

        Raises:
            InputError: more than the limit was read before.
        """
        if self._left < 0:
            raise InputError(
                f"The tables and texts beside the images have more than {self._most / 2**20:,.0f} "
                "MiB, the limit of what is looked into. Leave out those without labels."
            )
        data = self._peek(path, most)
        self._left -= len(data)
        return data


def count_images(count: int) -> str:
    """Return a number of images in words."""
    return f"{count:,} image{'' if count == 1 else 's'}"


def listed(folders: Iterable[Folder]) -> str:
    """Return folders with their numbers of images, the first few of many."""
    named = [f"{folder.path.rstrip('/')!r} ({folder.total:,})" for folder in folders]
    rest = len(named) - _LISTED
    return ", ".join(named[:_LISTED]) + (f" and {rest:,} more" if rest > 0 else "")


def unsure(what: str, folders: Iterable[Folder] = ()) -> Unsure:
    """Return the question that is asked back: what was seen, and what would be the classes."""
    named = listed(folders)
    would = f" Taken as they are, the classes would be the folders {named}." if named else ""
    return Unsure(f"{what}{would} {OPTIONS}")


def flat(folder: Folder) -> Unsure:
    """Return the question about images that lie in no class folder."""
    first = next(folder.paths())
    lists = lists_in(folder)
    beside = f" Is it {lists[0]!r} that holds the labels?" if lists else ""
    return unsure(
        f"{folder.total:,} images found, but none in a class folder: "
        f"{f'all are in {folder.name!r}, ' if folder.path else ''}the first is {first!r}, and "
        f"the names tell no classes. Put the images of each class in a folder of their own."
        f"{beside}"
    )


def lists_in(folder: Folder) -> list[str]:
    """Return the paths of the files in a folder that may list labels."""
    return [
        folder.path + name
        for name in folder.others
        if name.lower().endswith((".csv", ".tsv", ".txt", ".json", ".jsonl"))
        and not name.lower().startswith(("readme", "license", "requirements"))
    ]


def is_image(path: str) -> bool:
    """Whether a relative path is an image by its ending, and neither hidden nor system litter."""
    return not is_litter(path) and _ending(path) in EXTENSIONS


def is_litter(path: str) -> bool:
    """Whether a relative path is hidden, or what a system leaves behind."""
    if "/." in f"/{path}" or "__MACOSX" in path.split("/"):
        return True
    return path[-11:].lower().endswith(("thumbs.db", "desktop.ini"))


def may_be_image(path: str) -> bool:
    """Whether the ending leaves it open what a file is, so that its first bytes have to tell."""
    ending = _ending(path)
    return ending not in EXTENSIONS and ending not in _NO_PICTURES


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    _, dot, ending = name.rpartition(".")
    return f"{dot}{ending.lower()}" if dot else ""


def read_layout(
    paths: Iterable[str], wish: Wish | None = None, peek: Peek = lambda path, most: b""
) -> Listing:
    """Read a tree.

    Args:
        paths: relative paths of all files with ``/``; those of folders end in it, and only empty
            ones need to be there.
        wish: what the user says of the layout.
        peek: reads the start of a file.

    Raises:
        InputError: there is no image, or a name with control characters, or a wish that does not
            fit. :class:`Unsure`, where the user has to say more.
    """
    wish = wish or Wish()
    root, kinds = _tree(paths, peek)
    masks = [] if wish.classes_at else list(_leave_masks(root, peek))
    if not root.total:
        raise InputError(
            f"No image found{_only(kinds)}. Images are files that end in "
            f"{' '.join(sorted(EXTENSIONS))}, one folder a class."
        )
    reader = Reader(peek)
    reading = _wished(root, wish, reader)
    if not reading.images:
        raise flat(root)
    _one_spelling(reading)
    if not wish.split and all(side for _, _, side in reading.images):
        reading.images = [(path, label, 0) for path, label, _ in reading.images]
        reading.notes.append("There is only a test side, so it is read as images of no side.")
    _empty_folders(root, reading, kinds)
    _tell_masks(reading, masks)
    reading.images.sort()
    labels, classes = encode_labels(
        np.array([label for _, label, _ in reading.images], dtype=object)
    )
    return Listing(
        [path for path, _, _ in reading.images],
        labels,
        classes,
        np.array([side for _, _, side in reading.images], dtype=np.int8),
        tuple(sorted(reading.unused, key=lambda one: one.path)),
        tuple(reading.notes),
        tuple(reading.layouts),
        dict(kinds),
    )


def _tree(paths: Iterable[str], peek: Peek) -> tuple[Folder, Counter[str]]:
    """Return the tree of all files but litter, and what else than images there is."""
    root = Folder("")
    known = {"": root}
    kinds: Counter[str] = Counter()

    def folder_of(path: str) -> Folder:
        found = known.get(path)
        if found is None:
            above, _, name = path[:-1].rpartition("/")
            found = known[path] = Folder(path)
            folder_of(f"{above}/" if above else "").folders[name] = found
        return found

    for path in sorted(paths):
        if is_litter(path):
            continue
        above, slash, name = path.rpartition("/")
        folder = folder_of(above + slash)
        if not name:
            continue
        ending = _ending(name)
        if ending in EXTENSIONS or (
            ending not in _NO_PICTURES and looks_like_image(peek(path, 32))
        ):
            check_characters(path)
            folder.images.append(name)
        else:
            folder.others.append(name)
            kinds[ending or "without ending"] += 1
    return root, kinds


def _leave_masks(folder: Folder, peek: Peek) -> Iterator[Unused]:
    """Take the masks out of a folder and those below it, before anything is counted."""
    masks = masks_among(folder.images, lambda name, most: peek(folder.path + name, most))
    if masks:
        folder.images = [name for name in folder.images if name not in masks]
        yield Unused(folder.path + min(masks), len(masks), "masks of pictures beside them")
    for below in folder.folders.values():
        yield from _leave_masks(below, peek)


def _tell_masks(reading: Reading, masks: list[Unused]) -> None:
    if masks:
        reading.unused += masks
        count = sum(one.images for one in masks)
        reading.notes.append(
            f"{count_images(count)} such as {masks[0].path!r} are taken for masks of pictures "
            "beside them, by their names, and left out. --classes-at PATTERN takes all images."
        )


def _only(kinds: Counter[str]) -> str:
    """Return what there is instead of images, with how it could be read, for a message."""
    if not kinds:
        return ""
    found = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(_LISTED))
    heic = any(kind in (".heic", ".heif", ".hif") for kind in kinds)
    packed = any(kind in (".zip", ".tar", ".gz", ".7z", ".rar", ".zst") for kind in kinds)
    return (
        f" among {found}"
        + (" (HEIC is read after: pip install 'metad2a[heif]')" if heic else "")
        + (" (an archive in it is not opened: unpack it and give that)" if packed else "")
    )


def _wished(root: Folder, wish: Wish, reader: Reader) -> Reading:
    """Read the tree as the user says, and as it is recognised where nothing is said."""
    if wish.split:
        return _by_split(root, wish, reader)
    if wish.classes_at is not None:
        return _by_pattern(root, wish.classes_at)
    if wish.layout is None:
        return reader.read(root)
    layout, folder = LAYOUTS.get(wish.layout), root
    while True:  # Wrapping folders are passed through until it fits.
        found = layout.read(folder, reader)
        if found is not None:
            found.layouts.insert(0, layout.name)
            return found
        if len(folder.heads) != 1:
            raise InputError(
                f"The images are not arranged as --layout {wish.layout} says: it looks like "
                f"{', '.join(list(layout.example.files)[:3])}, and the first image is "
                f"{next(root.paths())!r}. Known: {', '.join(LAYOUTS.names())}."
            )
        folder = folder.heads[0]


def _by_pattern(root: Folder, pattern: str) -> Reading:
    match = _pattern(pattern, ("class", "split"))
    if "{class}" not in pattern:
        raise InputError(
            f"classes_at={pattern!r} has no {{class}}. Write where the class stands in the paths, "
            "as in '*/{class}' or '{split}/{class}' or 'train/{class}_*.jpg'."
        )
    reading, out = Reading(layouts=["classes-at"]), []
    for path in root.paths():
        found = match(path)
        side = SPLITS.get(found["split"].lower()) if found and "{split}" in pattern else 0
        if not found or side is None:
            out.append(path)
        else:
            reading.images.append((path, found["class"], side))
    if not reading.images:
        raise InputError(
            f"No path is like classes_at={pattern!r}; the first image is {out[0]!r}. "
            "* stands for anything but /, ** for anything, {class} for the class, {split} for "
            f"{', '.join(SPLITS)}."
        )
    reading.unused += _not_like(out, f"not like {pattern!r}")
    return reading


def _not_like(paths: list[str], reason: str) -> list[Unused]:
    """Return images that are left out, by the folders that they lie in."""
    held = Counter(path[: path.rfind("/") + 1] for path in paths)
    return [Unused(folder or "./", count, reason) for folder, count in held.items()]


def _pattern(
    pattern: str, names: tuple[str, ...] = (), below: bool = True
) -> Callable[[str], dict[str, str] | None]:
    """Return what matches a path with a pattern, and paths below it as well if ``below``."""
    clean = pattern.replace("\\", "/").strip("/").removeprefix("./")
    pieces = {"*": "[^/]*", "**": ".*", "?": "[^/]"}
    pieces |= {f"{{{name}}}": f"(?P<{name}>[^/]+)" for name in names}
    parts = re.split(r"(\*\*|\*|\?|\{\w+\})", clean)
    try:
        compiled = re.compile(
            "".join(pieces.get(p) or re.escape(p) for p in parts) + "(?:/.*)?" * below
        )
    except re.error as error:
        raise InputError(f"The pattern {pattern!r} cannot be used: {error}.") from error

    def match(path: str) -> dict[str, str] | None:
        found = compiled.fullmatch(path)
        return None if found is None else found.groupdict()

    return match


def _by_split(root: Folder, wish: Wish, reader: Reader) -> Reading:
    """Read the folders named for each side, one by one; without any for training, all the rest is.

    Where folders are named for training, what is named nowhere is left out.
    """
    named: dict[str, tuple[Folder, int]] = {}
    for name, patterns in wish.split.items():
        side = SPLITS.get(name.lower())
        if side is None:
            raise InputError(f"split: {name!r} is no side. Write one of {', '.join(SPLITS)}.")
        for pattern in patterns:
            match = _pattern(pattern, below=False)
            found = [one for one in _folders(root) if match(one.path.rstrip("/")) is not None]
            if not found:
                raise InputError(
                    f"split: there are no images in a folder {pattern!r}. The folders are "
                    f"{listed(root.heads) or 'none'}; give a path or a pattern such as 'fold_*'."
                )
            named |= {one.path: (one, side) for one in found if one.path not in named}
    whole = Reading(layouts=["split"])
    below = replace(wish, split={})
    for folder, side in named.values():
        whole.add(_one_side(folder, side, below, reader))
    rest = _less(root, named)
    if rest.total and all(side for _, side in named.values()):
        whole.add(_one_side(rest, 0, below, reader))
    elif rest.total:
        whole.unused += _not_like(list(rest.paths()), "named for no side")
    return whole


def _one_side(folder: Folder, side: int, wish: Wish, reader: Reader) -> Reading:
    """Read a folder whose side is known; in it, folders are classes if nothing else is sure."""
    try:
        found = _wished(folder, wish, reader)
    except Unsure:
        if wish != Wish() or not folder.heads:
            raise
        found = Reading(layouts=["class-folders"])
        for head in folder.heads:
            found.add_class(head)
        found.leave_loose(folder)
    found.images = [(path, label, side) for path, label, _ in found.images]
    return found


def _folders(folder: Folder) -> Iterator[Folder]:
    for head in folder.heads:
        yield head
        yield from _folders(head)


def _less(folder: Folder, named: Collection[str]) -> Folder:
    """Return a folder without those named in it, at any depth."""
    rest = Folder(folder.path)
    rest.images, rest.others = folder.images, folder.others
    rest.folders = {
        name: _less(below, named)
        for name, below in folder.folders.items()
        if below.path not in named
    }
    return rest


def folded(name: str) -> str:
    """Return what two spellings of one class have in common."""
    plain = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())
    joined = re.sub(r"(?<=\w)[\s_\-.]+", " ", plain).strip()  # -1 is not 1
    return str(int(joined)) if joined.isdecimal() else joined


def _one_spelling(reading: Reading) -> None:
    """Make one class of names that differ in case, form or separators between the two sides.

    On one side both may be meant, unless they look the same: then one is the other's Unicode form.
    """
    sides: dict[str, dict[str, set[int]]] = {}
    counts: Counter[str] = Counter()
    for (label, side), count in Counter((one, side) for _, one, side in reading.images).items():
        sides.setdefault(folded(label), {}).setdefault(label, set()).add(side)
        counts[label] += count
    chosen: dict[str, str] = {}
    for spelt in sides.values():
        if len(spelt) == 1:
            continue
        # The training side's spelling is kept.
        first = min(spelt, key=lambda name: (min(spelt[name]), -counts[name], name))
        same = {name for name in spelt if not spelt[name] & spelt[first] or _alike(name, first)}
        same.discard(first)
        chosen |= dict.fromkeys(same, first)
        for name in sorted(same):
            reading.notes.append(
                f"{name!a} and {first!r} are one class, spelt in two ways: {first!r}."
                if _alike(name, first)
                else f"{name!r} and {first!r} are taken for one class, spelt in two ways: {first!r}."
            )
        for name in sorted(set(spelt) - same - {first}):
            reading.notes.append(
                f"{name!r} and {first!r} are taken for two classes, since both are on one side "
                "of the split. Put their images together if they are one."
            )
    if chosen:
        reading.images = [(path, chosen.get(one, one), side) for path, one, side in reading.images]


def _alike(one: str, other: str) -> bool:
    return unicodedata.normalize("NFC", one) == unicodedata.normalize("NFC", other)


def _empty_folders(root: Folder, reading: Reading, kinds: Counter[str]) -> None:
    """List the folders without an image that is read; say so of those that stand beside classes."""
    beside = set()
    for folder, label in {(path[: path.rfind("/") + 1], one) for path, one, _ in reading.images}:
        at = f"/{folder}".rfind(f"/{label}/")
        if at >= 0:
            beside.add(folder[:at])
    empty = []

    def look(folder: Folder) -> None:
        for below in folder.folders.values():
            if below.total:
                look(below)
                continue
            held = _held(below)
            inside = ", ".join(f"{count:,} {kind}" for kind, count in held.most_common(_LISTED))
            reading.unused.append(below.unused(f"no image in it ({inside or 'empty'})"))
            if folder.path in beside and reading.layouts:
                empty.append(f"{below.path.rstrip('/')!r} ({inside or 'empty'})")

    look(root)
    if empty:
        rest = len(empty) - _LISTED
        reading.notes.append(
            f"No image that can be read is in the folder{'' if len(empty) == 1 else 's'} "
            f"{', '.join(empty[:_LISTED])}{f' and {rest:,} more' if rest > 0 else ''}, beside the "
            "class folders."
        )
    pictures = {kind: count for kind, count in kinds.items() if kind in _PICTURES_UNREAD}
    if pictures:
        found = ", ".join(f"{count:,} {kind}" for kind, count in sorted(pictures.items()))
        heic = any(kind in (".heic", ".heif", ".hif") for kind in pictures)
        remedy = "pip install 'metad2a[heif]'" if heic else "Convert them to PNG or JPEG"
        reading.notes.append(f"Left out, as they cannot be read: {found}. {remedy}.")


_PICTURES_UNREAD = frozenset(
    re.findall(
        r"\S+",
        ".ai .arw .cr2 .cr3 .dcm .dng .eps .exr .heic .heif .hif .icns .ico .jxl .nef .nii "
        ".npy .orf .psd .raw .rw2 .svg .xcf",
    )
)
"""Kinds of files that are left out and were perhaps meant as pictures."""


def _held(folder: Folder) -> Counter[str]:
    held = Counter(_ending(name) or "without ending" for name in folder.others)
    for below in folder.folders.values():
        held += _held(below)
    return held
