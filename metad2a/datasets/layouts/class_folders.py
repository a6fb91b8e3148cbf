"""One folder a class: what is left when no other layout is recognised."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading
from metad2a.datasets.layouts._words import DOUBTFUL, MASKS, PICTURES, side_and_rest


class ClassFolders(Layout):
    """``CLASS/...``: the folder is the class, however deep its images lie in it."""

    name = "class-folders"
    rank = 100
    example = Example(
        {"rose/1.png": "", "rose/near/2.png": "", "tulip/3.png": "", "tulip/4.png": ""},
        {"rose": 2, "tulip": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Take every folder as a class, and tell what could be meant otherwise."""
        heads = folder.heads
        if len(heads) < 2:
            return None
        reading = Reading()
        pictures = [self._without_masks(head, reading) for head in heads]
        for head, shown in zip(heads, pictures, strict=True):
            reading.add_class(shown, name=head.name)
        for head in heads:
            if side_and_rest(head.name) in ((0, ()), (1, ())):
                reading.notes.append(
                    f"The folder {head.path.rstrip('/')!r} is taken for a class, not for a side of "
                    "the split. Say --split otherwise."
                )
            elif head.name.lower() in DOUBTFUL:
                reading.notes.append(
                    f"The folder {head.path.rstrip('/')!r} is taken for a class. Move it away if it "
                    "is none."
                )
        reading.leave_loose(folder)
        deep = [head for head in pictures if not head.images and len(head.heads) > 1]
        if 0 < len(deep) < len(heads):
            names = ", ".join(repr(below.name) for below in deep[0].heads[:4])
            reading.notes.append(
                f"Of the classes, {deep[0].name!r} has folders in it ({names}) and others have "
                f"none. If those are the classes, say --classes-at '{deep[0].path}{{class}}'."
            )
        elif deep:
            below = {below.name for head in heads for below in head.heads}
            inside = f"{folder.path}*/{{class}}"
            reading.notes.append(
                f"The classes are the {len(heads):,} folders {heads[0].name!r} to "
                f"{heads[-1].name!r}; one level below there would be {len(below):,}, such as "
                f"{deep[0].heads[0].name!r}: --classes-at '{inside}' takes those."
            )
        return reading

    @staticmethod
    def _without_masks(head: Folder, reading: Reading) -> Folder:
        """Return the folder of pictures in that of a class, where others in it hold their masks."""
        pictures = [below for below in head.heads if below.name.lower() in PICTURES]
        masks = [below for below in head.heads if below.name.lower() in MASKS]
        if head.images or len(pictures) != 1 or not masks or len(head.heads) > 1 + len(masks):
            return head
        reading.unused += [
            below.unused(f"masks or annotations of what is in {pictures[0].name!r}")
            for below in masks
        ]
        return pictures[0]


LAYOUTS.register(ClassFolders.name)(ClassFolders())
