"""COCO: pictures, and a JSON file of boxes or captions: objects in pictures, no label a picture."""

from __future__ import annotations

import re

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, unsure
from metad2a.datasets.layouts._words import MASKS, PICTURES, side_and_rest

_FILE = re.compile(
    r"(instances|captions|person_keypoints|panoptic|stuff|image_info)_.*\.json|_annotations\.coco\.json",
    re.IGNORECASE,
)

_NAME = re.compile(r"\w*(annot|coco|boxes|instances)\w*\.json", re.IGNORECASE)


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
        if not any(
            _FILE.fullmatch(name) or _is_boxes(below.path + name, reader)
            for below in around
            for name in below.others
        ):
            return None
        # Class folders with boxes beside are class folders.
        if not all(map(_holds_pictures, folder.heads)):
            return None
        raise unsure(
            "This is COCO's layout for objects in pictures (a JSON file of boxes): a picture has "
            "boxes, and no one label. Cut the boxes out into class folders, or list one label a "
            "picture.",
            folder.heads,
        )


def _is_boxes(path: str, reader: Reader) -> bool:
    """Whether a file of another name begins as COCO's do."""
    if not _NAME.fullmatch(path.rpartition("/")[2]):
        return False
    start = reader.content(path, 2**16)
    return any(key in start for key in (b'"annotations"', b'"categories"', b'"images"'))


def _holds_pictures(folder: Folder) -> bool:
    """Whether the names of a folder and of those in it are those of sides, or of pictures."""
    return (
        side_and_rest(folder.name) is not None or folder.name.lower() in PICTURES | MASKS
    ) and all(map(_holds_pictures, folder.heads))


LAYOUTS.register(COCO.name)(COCO())
