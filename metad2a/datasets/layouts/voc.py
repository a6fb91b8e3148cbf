"""Pascal VOC: pictures, boxes as XML, masks: objects in pictures, no label a picture."""

from __future__ import annotations

from metad2a.datasets.layout import LAYOUTS, Example, Folder, Layout, Reader, Reading, unsure


class VOC(Layout):
    """``JPEGImages`` and ``Annotations`` with a file ``.xml`` for a picture."""

    name = "voc"
    rank = 5
    example = Example(
        {
            "JPEGImages/1.jpg": "",
            "JPEGImages/2.jpg": "",
            "Annotations/1.xml": "<annotation/>",
            "Annotations/2.xml": "<annotation/>",
            "SegmentationClass/1.png": "",
        },
        "Pascal VOC",
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Ask: a picture may hold objects of several classes."""
        names = {name.lower(): below for name, below in folder.folders.items()}
        boxes = names.get("annotations")
        pictures = names.get("jpegimages") or names.get("images")
        listed = [below for below in (boxes, folder, pictures) if below is not None]
        if not folder.total or not any(
            sum(name.lower().endswith(".xml") for name in below.others) * 2
            > (pictures or folder).total
            for below in listed
        ):
            return None
        raise unsure(
            "This is Pascal VOC's layout for objects in pictures (a file .xml for a picture): a "
            "picture has boxes, and no one label. Cut the boxes out into class folders, or list "
            "one label a picture."
        )


LAYOUTS.register(VOC.name)(VOC())
