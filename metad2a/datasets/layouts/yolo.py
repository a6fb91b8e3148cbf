"""YOLO's boxes: pictures, and a text file of numbers for each: no label a picture."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, unsure

_LINE = re.compile(r"\s*\d+(\s+-?\d*\.?\d+(e-?\d+)?){4,}\s*", re.IGNORECASE)
_LOOKED_AT, _LINES = 5, 20
"""Files, and lines of each, by which boxes are known."""


class YOLO(Layout):
    """``images/1.jpg`` and ``labels/1.txt``, or ``1.jpg`` and ``1.txt`` in one folder."""

    name = "yolo"
    rank = 7
    example = Example(
        {
            **{f"{side}/images/{i}.jpg": "" for side in ("train", "valid") for i in range(2)},
            **{
                f"{side}/labels/{i}.txt": "0 .5 .5 .1 .1"
                for side in ("train", "valid")
                for i in (0, 1)
            },
            "data.yaml": "names: [rose]",
        },
        "YOLO",
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Ask: a picture may hold objects of several classes."""
        names = {name.lower(): below for name, below in folder.folders.items()}
        pictures, labels = names.get("images", folder), names.get("labels", folder)
        while len(pictures.heads) > 0 and not pictures.images:  # images/train, labels/train
            below = labels.folders.get(pictures.heads[0].name)
            if below is None:
                return None
            pictures, labels = pictures.heads[0], below
        texts = [name for name in labels.others if name.lower().endswith(".txt")]
        stems = {PurePosixPath(name).stem for name in pictures.images}
        texts = [name for name in texts if PurePosixPath(name).stem in stems]
        if 2 * len(texts) <= len(stems):
            return None
        lines = [
            line
            for name in texts[:_LOOKED_AT]
            for line in _text(reader, labels.path + name).splitlines()[:_LINES]
            if line.strip()
        ]
        if not lines or not all(_LINE.fullmatch(line) for line in lines):
            return None
        raise unsure(
            "This is YOLO's layout for objects in pictures (a file .txt of boxes for a picture): "
            "a picture has boxes, and no one label. Cut the boxes out into class folders, or "
            "list one label a picture.",
            [pictures],
        )


def _text(reader: Reader, path: str) -> str:
    return reader.content(path, 2**16).decode("utf-8-sig", "replace")


LAYOUTS.register(YOLO.name)(YOLO())
