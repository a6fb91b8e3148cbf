"""Side and class in one folder's name."""

from __future__ import annotations

import re

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading
from metad2a.datasets.layouts._words import UNLABELLED, side_and_rest


class SideAndClass(Layout):
    """``train_rose/...``, ``train_tulip/...``, ``test_rose/...``; also ``trainA`` and ``trainB``."""

    name = "side-and-class"
    rank = 45
    example = Example(
        dict.fromkeys(
            [
                f"{side}_{kind}/{i}.png"
                for kind in ("rose", "tulip")
                for side in ("train", "test")
                for i in (1, 2)
            ],
            "",
        ),
        {"rose": 4, "tulip": 4},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Take what is left of every name without its side as the class."""
        told = {head.name: side_and_rest(head.name) for head in folder.heads}
        named = {name: found for name, found in told.items() if found is not None and found[1]}
        sides = {side for side, _ in named.values()} - {UNLABELLED}
        kinds = {
            rest: {s for s, other in named.values() if other == rest} for _, rest in named.values()
        }
        if len(named) < len(told) or len(sides) < 2 or len(kinds) < 2:
            return None
        # A class that stands on one side only is more likely no class at all.
        if any(len(own & {0, 1}) < 2 for own in kinds.values()) or any(
            head.heads for head in folder.heads
        ):
            return None
        reading = Reading()
        for head in folder.heads:
            side, rest = named[head.name]
            if side == UNLABELLED:
                reading.unused.append(head.unused("its name says that it has no labels"))
            else:
                reading.add_class(head, side, _rest_of(head.name, rest))
        reading.leave_loose(folder)
        return reading


def _rest_of(name: str, rest: tuple[str, ...]) -> str:
    """Return the words of a name that are not its side, as they are written."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    kept = [word for word in re.split(r"[\W_]+", spaced) if word.casefold() in rest]
    return "_".join(kept) or "_".join(rest)


LAYOUTS.register(SideAndClass.name)(SideAndClass())
