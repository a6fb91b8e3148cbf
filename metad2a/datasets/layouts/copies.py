"""A copy of the set inside itself, as archives on Kaggle have."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading

_SAME = 0.9
"""Share of the images in a copy that lie under the same names outside of it."""


class Copies(Layout):
    """``SET/train``, ``SET/test`` and ``SET/SET/train``, ``SET/SET/test``."""

    name = "copy-inside"
    rank = 30
    example = Example(
        dict.fromkeys(
            [
                f"{top}{kind}/{i}.png"
                for top in ("", "flowers/")
                for kind in ("rose", "tulip")
                for i in (1, 2)
            ],
            "",
        ),
        {"rose": 2, "tulip": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read all but the copy."""
        names = {head.name for head in folder.heads}
        for head in folder.heads:
            inside = {below.name for below in head.heads}
            if len(inside & (names - {head.name})) < 2:
                continue
            # A copy may hold a copy.
            own = [path.removeprefix(head.path) for path in head.without([head.name]).paths()]
            rest = folder.without([head.name])
            outside = {path.removeprefix(folder.path) for path in rest.paths()}
            same = sum(path in outside for path in own)
            if same < _SAME * len(own):
                continue
            found = reader.read(rest)
            found.unused.append(head.unused("a copy of what lies beside it"))
            if same < len(own):
                found.notes.append(
                    f"{head.path.rstrip('/')!r} is taken for a copy, though {len(own) - same:,} of "
                    "its images do not lie beside it."
                )
            return found
        return None


LAYOUTS.register(Copies.name)(Copies())
