"""Folders that could be classes or something else: the user is asked."""

from __future__ import annotations

from metad2a.datasets.layout import (
    LAYOUTS,
    Example,
    Folder,
    Layout,
    Reader,
    Reading,
    folded,
    unsure,
)
from metad2a.datasets.layouts._words import MASKS, PICTURES, words

_ALIKE = 0.8
"""Share of names that folders of several folders have in common, above which they are asked for."""


class Doubtful(Layout):
    """``SITE/CLASS/...`` with the same classes at every site, or ``images`` among the folders."""

    name = "doubtful"
    rank = 90
    example = Example(
        dict.fromkeys(
            [
                f"{site}/{kind}/{i}.png"
                for site in ("lab", "web")
                for kind in ("mug", "pen")
                for i in (1, 2)
            ],
            "",
        ),
        "--classes-at '*/{class}'",
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Ask, or return None where nothing speaks against the folders' being classes."""
        heads = folder.heads
        if len(heads) < 2:
            return None
        if all(_pictures(head.name) for head in heads):
            raise unsure(
                "The folders have names of parts of a set, not of classes, and there are no class "
                "folders in them.",
                heads,
            )
        for head in heads:
            if not head.heads and _pictures(head.name):
                raise unsure(
                    f"The folder {head.path.rstrip('/')!r} holds pictures in no class folders, and "
                    "its name is not that of a class.",
                    heads,
                )
        inner = [self._inner(head) for head in heads]
        names = [
            {folded(one.name) for one in each.heads if one.name.lower() not in PICTURES | MASKS}
            for each in inner
        ]
        common, every = set.intersection(*names), set.union(*names)
        if len(common) < 2 or len(common) < _ALIKE * len(every):
            return None
        depth = "/*" * (inner[0].path.count("/") - heads[0].path.count("/"))
        below = ", ".join(repr(one.name) for one in inner[0].heads[:4])
        raise unsure(
            f"All {len(heads):,} folders {heads[0].name!r} to {heads[-1].name!r} have the same "
            f"folders in them ({below}), which may be the classes: then --classes-at "
            f"'{folder.path}*{depth}/{{class}}'.",
            heads,
        )

    @staticmethod
    def _inner(head: Folder) -> Folder:
        while len(head.heads) == 1 and not head.images:
            head = head.heads[0]
        return head


def _pictures(name: str) -> bool:
    """Whether a name is one of a folder of pictures, perhaps numbered: ``images_001``."""
    return name.lower() in PICTURES or (bool(words(name)) and set(words(name)) <= PICTURES)


LAYOUTS.register(Doubtful.name)(Doubtful())
