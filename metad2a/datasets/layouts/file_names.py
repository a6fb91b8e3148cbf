"""The label in the name of the file, all images in one folder."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, Unused
from metad2a.datasets.layouts._names import label_of, labels_in_names


class FileNames(Layout):
    """``cat.1.jpg``, ``dog.1.jpg``: Oxford-IIIT Pet, Kaggle's cats and dogs."""

    name = "file-names"
    rank = 85
    example = Example(
        {f"{kind}.{i}.jpg": "" for kind in ("cat", "dog") for i in range(4)},
        {"cat": 4, "dog": 4},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Take what the names have in common as the labels."""
        if sum(head.total for head in folder.heads) > len(folder.images):
            return None
        paths = [folder.path + name for name in folder.images]
        found = labels_in_names(paths)
        if found is None:
            return None
        reading = Reading(notes=[found.note()])
        for path in paths:
            label = label_of(found, path)
            if label in found.classes:
                reading.images.append((path, label, 0))
            else:
                reading.unused.append(Unused(path, 1, "no label in its name"))
        reading.unused += [
            head.unused("beside images that have their labels in their names")
            for head in folder.heads
        ]
        return reading


LAYOUTS.register(FileNames.name)(FileNames())
