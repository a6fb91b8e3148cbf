"""Folders of programs, documents and the like beside the classes or beside the folder of data."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, listed
from metad2a.datasets.layouts._words import PICTURES, PROGRAMS, UNLABELLED, side_and_rest, sides_of


class Beside(Layout):
    """``CLASS/...`` beside ``runs``, or ``data/CLASS/...`` beside ``docs``."""

    name = "folders-beside"
    rank = 60
    example = Example(
        {
            **{f"data/{kind}/{i}.png": "" for kind in ("rose", "tulip") for i in range(2)},
            "docs/logo.png": "",
            "cover.png": "",
        },
        {"rose": 2, "tulip": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the rest, where what is left is enough to be classes."""
        sets = [head for head in folder.heads if _is_set(head)]
        others = [head for head in folder.heads if head not in sets]
        deep = any(head.heads for head in others)
        if len(sets) == 1 and others and (sides_of(sets[0].heads) or not deep):
            return self._read_set(folder, sets[0], others, reader)
        return self._without_programs(folder, reader)

    @staticmethod
    def _read_set(folder: Folder, chosen: Folder, others: list[Folder], reader: Reader) -> Reading:
        """Read the one folder that looks like a set, and leave out those beside it."""
        found = reader.read(chosen)
        reason = f"it stands beside {chosen.name!r}, which has class folders"
        found.unused += [head.unused(reason) for head in others]
        found.leave_loose(folder)
        if any(head.heads for head in others):
            found.notes.append(
                f"{chosen.name!r} is read, which has split folders, and not "
                f"{listed(others)} beside it."
            )
        return found

    @staticmethod
    def _without_programs(folder: Folder, reader: Reader) -> Reading | None:
        """Leave out the folders that are no classes by their names, where there are others."""
        left = [head for head in folder.heads if _is_none(head)]
        rest = folder.without(head.name for head in left)
        if not left or len(rest.heads) < 2 or sides_of(rest.heads):
            return None
        found = reader.read(rest)
        found.unused += [head.unused("by its name it is no class") for head in left]
        names = ", ".join(repr(head.name) for head in left)
        found.notes.append(
            f"Not taken for a class, by the name: {names}. --layout class-folders takes it."
        )
        return found


def _is_set(folder: Folder) -> bool:
    """Whether there are split folders with class folders in it, or it is a folder of pictures."""
    sides = sides_of(folder.heads)
    return any(len(head.heads) > 1 for head in folder.heads if head.name in sides) or (
        folder.name.lower() in PICTURES and len(folder.heads) > 1
    )


def _is_none(folder: Folder) -> bool:
    return folder.name.lower() in PROGRAMS or side_and_rest(folder.name) == (UNLABELLED, ())


LAYOUTS.register(Beside.name)(Beside())
