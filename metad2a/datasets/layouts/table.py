"""A table of labels beside the pictures, or one in each split folder, as Kaggle and the Hub have."""

from __future__ import annotations

from collections import Counter
from pathlib import PurePosixPath

from metad2a.datasets.labels import one_spelling, read_labels
from metad2a.datasets.layout import (
    LAYOUTS,
    SPLITS,
    Example,
    Folder,
    Layout,
    Reader,
    Reading,
    Unused,
    folded,
)
from metad2a.datasets.layouts._lists import read_beside
from metad2a.datasets.layouts._words import PICTURES, UNLABELLED, side_and_rest, sides_of, words
from metad2a.datasets.tables import SUFFIXES, Names, numbers
from metad2a.errors import InputError

_METADATA = "metadata"
"""What Hugging Face's imagefolder calls a table, which then counts for more than folders."""
_ANSWERS = frozenset(
    ("submission", "submissions", "prediction", "predictions", "pred", "preds", "results")
)
"""Words in names of tables that somebody has guessed."""
_MOST_TABLES = 20
"""Tables in one folder; more are annotations of a picture each."""
_NAMED = 0.5
"""Share of the images of the folders that a table speaks of, that it has to name."""


class Table(Layout):
    """``labels.csv`` beside ``images/...``: the classes are those of a table, not of folders."""

    name = "table"
    rank = 15
    example = Example(
        {
            **{f"images/{i}.png": "" for i in range(4)},
            "labels.csv": "image,species\n0,rose\n1,rose\n2,tulip\n3,tulip\n",
        },
        {"rose": 2, "tulip": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the tables that lie in the folder, or else those in its split folders."""
        return self._of_folder(folder, reader) or self._of_sides(folder, reader)

    def _of_folder(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the tables that lie in the folder, unless folders tell the same or tell more."""
        tables = [name for name in sorted(folder.others) if _may_be(name)]
        if not 0 < len(tables) <= _MOST_TABLES:
            return None
        named = [name for name in tables if PurePosixPath(name).stem.lower() == _METADATA]
        by_folders = not named and _class_folders(folder)
        paths = list(folder.paths())
        sides = sides_of(folder.heads)
        reading = Reading()
        found: dict[str, tuple[str, int]] = {}
        used: list[str] = []
        for name in named or tables:
            near = words(PurePosixPath(name).stem)
            names = Names((path[len(folder.path) :] for path in paths), near)
            try:
                labels, notes = self._labels(folder, name, names, reader, sides)
            except InputError as error:
                if names and not by_folders and _speaks_of(error):
                    raise InputError(f"{folder.path}{name}: {error}") from error
                continue
            if not labels:
                continue
            if any(found[path][0] != labels[path][0] for path in found.keys() & labels.keys()):
                reading.notes.append(
                    f"{folder.path + name!r} has other labels than {folder.path + used[0]!r}, whose "
                    f"are taken. --labels {name} takes the others."
                )
                continue
            used.append(name)
            reading.notes += notes
            found = {**labels, **found}
        if not found:
            return None
        classes = len({label for label, _ in found.values()})
        # Of as many labels as images they are numbers or names, not classes.
        if not named and not 2 <= classes <= max(2, len(found) // 2):
            return None
        heads = Counter(_head(folder, path) for path in paths)
        spoken = {_head(folder, path) for path in found}
        if len(found) < _NAMED * sum(heads[head] for head in spoken):
            return None
        if by_folders and (_told_by_folders(folder, found) or _only_flat(folder, spoken)):
            return None
        reading.images = [(path, label, side) for path, (label, side) in found.items()]
        left = Counter(f"{_head(folder, path)}" for path in paths if path not in found)
        listed = ", ".join(repr(folder.path + name) for name in used)
        reading.unused = [
            Unused(head or "./", count, f"no label in {listed}") for head, count in left.items()
        ]
        if by_folders:
            reading.notes.append(
                f"The labels are those of {listed}, not the names of the folders. --layout "
                "class-folders takes these."
            )
        return reading

    def _of_sides(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read split folders with a table in each that is to be learnt from."""
        sides = sides_of(folder.heads)
        parts = {
            head: self.read(head, reader)
            for head in folder.heads
            if head.name in sides and any(map(_may_be, head.others))
        }
        if not any(part and not sides[head.name] for head, part in parts.items()):
            return None
        reading = Reading()
        for head in folder.heads:
            part = parts.get(head)
            if part is None:
                reading.unused.append(head.unused("no table of labels in it"))
            else:
                reading.add(part, min(sides[head.name], 1))
        reading.leave_loose(folder)
        return reading

    @staticmethod
    def _labels(
        folder: Folder, name: str, names: Names, reader: Reader, sides: dict[str, int]
    ) -> tuple[dict[str, tuple[str, int]], list[str]]:
        """Return label and side by path, of one table, and notes on it.

        Raises:
            InputError: it is no table of labels, or its labels cannot be used.
        """
        table = read_beside(folder.path + name, reader, folder.total, names.__contains__)
        told = side_and_rest(PurePosixPath(name).stem)
        of_table = told[0] if told is not None and told[0] != UNLABELLED else 0
        placed: dict[str, tuple[str | int | None, int]] = {}
        missing = 0
        for row in table.rows:
            path = names.find(row.file, row.split)
            if path is None:
                missing += 1
                continue
            head = path.split("/", 1)[0] if "/" in path else ""
            side = SPLITS.get(row.split.lower(), 0) if row.split else of_table
            placed.setdefault(folder.path + path, (row.label, side or min(sides.get(head, 0), 1)))
        if not placed:
            return {}, []
        plain, spelt = one_spelling(["" if one is None else str(one) for one, _ in placed.values()])
        known = read_labels(numbers(plain))
        rows = list(placed.items())
        labels = {
            rows[at][0]: (known.classes[label], rows[at][1][1])
            for at, label in zip(known.kept, known.labels, strict=True)
        }
        notes = [*table.notes, *spelt, *known.notes]
        if missing:
            notes.append(
                f"{missing:,} of {len(table.rows):,} rows name no image, or more than one, and "
                "are left out."
            )
        return labels, [f"{folder.path}{name}: {note}" for note in notes]


def _may_be(name: str) -> bool:
    path = PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not _ANSWERS & set(words(path.stem))


def _speaks_of(error: InputError) -> bool:
    """Whether a table is one of labels that cannot be used, and not something else."""
    return "several labels" in str(error)


def _class_folders(folder: Folder) -> bool:
    """Whether there are folders that may be classes: several that are no side and no pictures'."""
    while len(folder.heads) == 1 and not folder.images:
        folder = folder.heads[0]
    sides = sides_of(folder.heads)
    return len([h for h in folder.heads if h.name not in sides and not _pictures(h)]) > 1 or any(
        len(head.heads) > 1 for head in folder.heads if head.name in sides or _pictures(head)
    )


def _pictures(folder: Folder) -> bool:
    return folder.name.lower() in PICTURES or bool(set(words(folder.name)) & PICTURES)


def _head(folder: Folder, path: str) -> str:
    """Return the folder in a folder that an image lies in or below; empty for the folder itself."""
    inner, slash, _ = path[len(folder.path) :].partition("/")
    return f"{folder.path}{inner}/" if slash else folder.path


def _only_flat(folder: Folder, spoken: set[str]) -> bool:
    """Whether a table speaks of a folder without class folders only, beside others with them."""
    return any(head.path not in spoken and len(head.heads) > 1 for head in folder.heads)


def _told_by_folders(folder: Folder, found: dict[str, tuple[str, int]]) -> bool:
    """Whether most labels are names of folders, of the images that lie in some below the first."""
    placed = {path: path[len(folder.path) :].split("/")[:-1] for path in found}
    deep = [path for path, folders in placed.items() if len(folders) > 1] or list(found)
    same = sum(folded(found[path][0]) in map(folded, placed[path]) for path in deep)
    return 2 * same >= len(deep)


LAYOUTS.register(Table.name)(Table())
