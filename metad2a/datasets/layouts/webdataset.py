"""Samples as WebDataset writes them: ``000.png`` with its class beside it in ``000.cls``."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, Unused

_BYTES = 2**16
"""Of a file beside a picture that are read."""
_ENDINGS = (".cls", ".cls2", ".json", ".txt", ".label")
"""Of the file with the class, the surest first."""
_KEYS = ("label", "cls", "class", "class_name", "label_name", "target")
"""Where the class stands in a JSON file."""
_LONGEST = 100
"""Characters of a label; what is longer is a caption."""
_LABELLED = 0.5
"""Share of the pictures that must have a class beside them."""


class WebDataset(Layout):
    """``000000.png`` beside ``000000.cls``, ``.json`` or ``.txt``, mostly in a tar."""

    name = "webdataset"
    rank = 8
    example = Example(
        {
            f"{i:03}.{kind}": text
            for i in range(4)
            for kind, text in (("png", ""), ("cls", f"{i // 2}"))
        },
        {"0": 2, "1": 2},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the class of each picture, where enough have one."""
        if folder.heads or not folder.images:
            return None
        beside = set(folder.others)
        ending = next(
            (
                one
                for one in _ENDINGS
                if sum(_key(name) + one in beside for name in folder.images)
                > _LABELLED * len(folder.images)
            ),
            None,
        )
        if ending is None:
            return None
        reading, without = Reading(), 0
        for name in folder.images:
            file = _key(name) + ending
            label = self._label(reader, folder.path + file) if file in beside else None
            if label is None:
                without += 1
            else:
                reading.images.append((folder.path + name, label, 0))
        if len(reading.images) <= _LABELLED * len(folder.images):
            return None  # Captions, or boxes.
        if without:
            reading.unused.append(
                Unused(folder.path or "./", without, f"no class in a file {ending} beside them")
            )
        return reading

    @staticmethod
    def _label(reader: Reader, path: str) -> str | None:
        text = reader.content(path, _BYTES).decode("utf-8", "replace").strip()
        if path.endswith(".json"):
            try:
                found = json.loads(text)
            except (ValueError, RecursionError):
                return None
            if isinstance(found, dict):
                found = next((found[key] for key in _KEYS if key in found), None)
            text = str(found) if isinstance(found, (str, int)) else ""
        return text if text and "\n" not in text and len(text) <= _LONGEST else None


def _key(name: str) -> str:
    """Return what the files of one sample have in common: all before the first dot."""
    return PurePosixPath(name).name.split(".", 1)[0]


LAYOUTS.register(WebDataset.name)(WebDataset())
