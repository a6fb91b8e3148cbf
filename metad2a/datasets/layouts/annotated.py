"""Pictures with masks or annotations of them in folders beside."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading
from metad2a.datasets.layouts._words import MASKS, PICTURES


class Annotated(Layout):
    """``images/...`` beside ``annotations``, ``masks`` and the like, as in Oxford-IIIT Pet."""

    name = "annotated"
    rank = 20
    example = Example(
        {
            **{f"images/{kind}_{i}.jpg": "" for kind in ("Abyssinian", "pug") for i in range(3)},
            **{f"annotations/trimaps/{kind}_0.png": "" for kind in ("Abyssinian", "pug")},
            "annotations/list.txt": "Abyssinian_0 1 1 1\n",
        },
        {"Abyssinian": 3, "pug": 3},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the folder of pictures; the others belong to it."""
        pictures = [head for head in folder.heads if head.name.lower() in PICTURES]
        masks = [head for head in folder.heads if head.name.lower() in MASKS]
        if len(pictures) != 1 or not masks or len(pictures) + len(masks) < len(folder.heads):
            return None
        found = reader.read(pictures[0])
        found.unused += [
            mask.unused(f"masks or annotations of what is in {pictures[0].name!r}")
            for mask in masks
        ]
        found.leave_loose(folder)
        return found


LAYOUTS.register(Annotated.name)(Annotated())
