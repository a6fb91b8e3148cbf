"""Folds of a cross-validation, or parts of a set: numbered folders with the same classes in each."""

from __future__ import annotations

import re

from metad2a.datasets.layout import (
    LAYOUTS,
    Example,
    Folder,
    Layout,
    Reader,
    Reading,
    Unsure,
    unsure,
)
from metad2a.datasets.layouts._words import sides_of

_NUMBERED = re.compile(
    r"(?:.*[\s_.\-])?(fold|folds|kfold|k|cv|split|part|batch|chunk|shard|subset|run|round)[\s_.\-]*(\d+|[a-e])",
    re.IGNORECASE,
)


class Folds(Layout):
    """``fold_1/CLASS/...``, or ``fold_1/train/CLASS/...`` and ``fold_1/val/CLASS/...``."""

    name = "folds"
    rank = 40
    example = Example(
        dict.fromkeys(
            [
                f"fold_{k}/{kind}/{k}{i}.png"
                for k in range(3)
                for kind in ("rose", "tulip")
                for i in (1, 2)
            ],
            "",
        ),
        {"rose": 6, "tulip": 6},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Put folds without sides together; of folds that have sides, take the first."""
        folds = [head for head in folder.heads if _NUMBERED.fullmatch(head.name)]
        others = [head for head in folder.heads if head not in folds]
        sides = sides_of(others)
        if len(folds) < 2 or len(sides) < len(others):
            return None
        try:
            readings = [reader.read(fold) for fold in folds]
        except Unsure as error:
            if all(fold.heads for fold in folds):
                raise
            raise unsure(
                "The folders are numbered parts of a set, and there are no class folders in them.",
                folds,
            ) from error
        found = readings[0]
        if any(side for _, _, side in found.images):
            found.unused += [fold.unused("another fold of the same images") for fold in folds[1:]]
            found.notes.append(
                f"The first of {len(folds)} folds is read, {folds[0].name!r}, with its sides. Give "
                "the folder of another for another."
            )
        else:
            for other in readings[1:]:
                found.add(other)
            found.notes.append(
                f"{len(folds)} folds are put together"
                + (
                    " for training."
                    if others
                    else ", and no side is set. --split "
                    f"test={folds[-1].path.rstrip('/')} keeps one for testing."
                )
            )
        if others:
            found.add(reader.read(folder.without(fold.name for fold in folds)))
        if not others:
            found.leave_loose(folder)
        return found


LAYOUTS.register(Folds.name)(Folds())
