"""Folders of programs, documents and the like beside the classes or beside the folder of data."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading
from metad2a.datasets.layouts._words import PICTURES, PROGRAMS, sides_of


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
        heads = folder.heads
        data = [head for head in heads if head.name.lower() in PICTURES and len(head.heads) > 1]
        others = [head for head in heads if not head.heads]
        if len(data) == 1 and len(others) == len(heads) - 1 > 0:
            found = reader.read(data[0])
            left, reason = others, f"it stands beside {data[0].name!r}, which has class folders"
        else:
            left = [head for head in heads if head.name.lower() in PROGRAMS]
            if not left or len(heads) - len(left) < 2 or sides_of(heads):
                return None
            found = reader.read(folder.without(head.name for head in left))
            reason = "the name is one of a program's or a repository's folder, not of a class"
        found.unused += [head.unused(reason) for head in left]
        if left is not others:
            names = ", ".join(repr(head.name) for head in left)
            found.notes.append(
                f"Not taken for a class, by the name: {names}. --layout class-folders takes it."
            )
        elif folder.images:
            found.leave_loose(folder)
        return found


LAYOUTS.register(Beside.name)(Beside())
