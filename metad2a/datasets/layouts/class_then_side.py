"""The class above the split: a folder of images for each side in every class folder."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, unsure
from metad2a.datasets.layouts._words import UNLABELLED, sides_of


class ClassThenSide(Layout):
    """``CLASS/train/...`` and ``CLASS/test/...``."""

    name = "class-then-side"
    rank = 70
    example = Example(
        dict.fromkeys(
            [
                f"{kind}/{side}/{i}.png"
                for kind in ("rose", "tulip")
                for side in ("train", "test")
                for i in (1, 2)
            ],
            "",
        ),
        {"rose": 4, "tulip": 4},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Take the outer folders as classes, or ask where each of them is a set of its own."""
        heads = folder.heads
        if len(heads) < 2 or any(
            head.images or not head.heads or len(sides_of(head.heads)) < len(head.heads)
            for head in heads
        ):
            return None
        if any(side.heads for head in heads for side in head.heads):
            raise unsure(
                f"Each of the {len(heads):,} folders {heads[0].name!r} to {heads[-1].name!r} has "
                "split folders with class folders in it, so each looks like a set of its own. Give "
                "one of them.",
                heads,
            )
        reading = Reading()
        for head in heads:
            sides = sides_of(head.heads)
            for below in head.heads:
                if sides[below.name] == UNLABELLED:
                    reading.unused.append(below.unused("its name says that it has no labels"))
                else:
                    reading.add_class(below, sides[below.name], head.name)
        reading.leave_loose(folder)
        return reading


LAYOUTS.register(ClassThenSide.name)(ClassThenSide())
