"""One folder around all: it is passed through."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading


class Wrapper(Layout):
    """``flowers/images/CLASS/...``: a single folder with images in it or below, at any level."""

    name = "wrapper"
    rank = 80
    example = Example(
        dict.fromkeys(
            [f"flowers/images/{kind}/{i}.png" for kind in ("rose", "tulip") for i in range(2)], ""
        ),
        {"rose": 2, "tulip": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the one folder inside, unless more images lie beside it than in it."""
        if len(folder.heads) != 1 or len(folder.images) > folder.heads[0].total:
            return None
        found = reader.read(folder.heads[0])
        found.leave_loose(folder)
        return found


LAYOUTS.register(Wrapper.name)(Wrapper())
