"""MVTec's sets of faults: sound pieces to train on, sound and faulty ones to test, and masks."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, unsure

_GOOD = ("good", "ok", "normal", "Good", "OK", "Normal")
"""Names of the folder of what has no fault."""


class MVTec(Layout):
    """``train/good``, ``test/good``, ``test/FAULT`` and ``ground_truth/FAULT`` with the masks."""

    name = "mvtec"
    rank = 10
    example = Example(
        {
            **{f"train/good/{i}.png": "" for i in range(4)},
            **{f"test/{kind}/{i}.png": "" for kind in ("good", "crack") for i in range(2)},
            **{f"ground_truth/crack/{i}_mask.png": "" for i in range(2)},
        },
        {"good": 6, "crack": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the two sides; a collection of such sets is asked for one of them."""
        if not _is_set(folder):
            sets = [head for head in folder.heads if _is_set(head)]
            if len(sets) < 2 or len(sets) < len(folder.heads):
                return None
            raise unsure("Each folder is a set of its own. Give one of them.", sets)
        reading = Reading()
        for side, name in enumerate(("train", "test")):
            for head in folder.folders[name].heads:
                reading.add_class(head, side)
        masks = folder.folders["ground_truth"]
        if masks.total:
            reading.unused.append(masks.unused("masks of the faults in 'test'"))
        good = folder.folders["train"].heads[0].name
        faults = sorted(head.name for head in folder.folders["test"].heads if head.name != good)
        reading.notes.append(
            f"The training side has {good!r} alone, and {', '.join(map(repr, faults[:6]))} "
            f"{'stands' if len(faults) == 1 else 'stand'} in the test side only, so a classifier "
            "cannot learn them from this split. --split train=train,test reads both as images of "
            "no side."
        )
        return reading


def _is_set(folder: Folder) -> bool:
    below = folder.folders
    return (
        {"train", "test", "ground_truth"} <= set(below)
        and [head.name for head in below["train"].heads] in ([name] for name in _GOOD)
        and len(below["test"].heads) > 1
    )


LAYOUTS.register(MVTec.name)(MVTec())
