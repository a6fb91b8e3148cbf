"""COCO: pictures, and a JSON file of boxes or captions: objects in pictures, no label a picture."""

from __future__ import annotations

import re

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, unsure
from metad2a.datasets.layouts._words import MASKS, PICTURES, side_and_rest

_FILE = re.compile(
    r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_.*\.json|_annotations\.coco\.json",
    re.IGNORECASE,
)


class COCO(Layout):
    """``train2017``, ``val2017`` and ``annotations/instances_train2017.json``."""

    name = "coco"
    rank = 6
    example = Example(
        {
            **{f"{side}2017/{i:012}.jpg": "" for side in ("train", "val") for i in range(2)},
            "annotations/instances_train2017.json": "{}",
        },
        "COCO",
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Ask: a picture may hold objects of several classes."""
        around = [folder, *folder.folders.values()]
        if not any(_FILE.fullmatch(name) for below in around for name in below.others):
            return None
        # Class folders with boxes beside are class folders.
        if any(len(head.heads) > 1 or not _holds_pictures(head) for head in folder.heads):
            return None
        raise unsure(
            "This is COCO's layout for objects in pictures (a JSON file of boxes): a picture has "
            "boxes, and no one label. Cut the boxes out into class folders, or list one label a "
            "picture.",
            folder.heads,
        )


def _holds_pictures(folder: Folder) -> bool:
    """Whether a folder's name is one of a side, or of pictures."""
    return side_and_rest(folder.name) is not None or folder.name.lower() in PICTURES | MASKS


LAYOUTS.register(COCO.name)(COCO())
