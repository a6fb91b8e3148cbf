"""Tables of labels that lie in a tree: which may be one of its images, and the classes they tell."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import PurePosixPath

from metad2a.datasets.layout import SPLITS, Folder, Reader, folded
from metad2a.datasets.tables import MOST_BYTES, SUFFIXES, Names, Table, read_table
from metad2a.errors import InputError

_LINES, _LINES_AN_IMAGE = 100_000, 20
"""Lines that a table may have, and for each image that it may speak of, if those are more."""
_NAMED = 0.8
"""Share of a side's images that a table has to name, with a known class."""


def read_beside(
    path: str,
    reader: Reader,
    images: int,
    known: Callable[[str], bool],
    is_class: Callable[[str], bool] = lambda text: False,
) -> Table:
    """Read a table that lies in a tree; ``known`` and ``is_class`` are as in ``read_table``.

    What programs write beside images, pixels as numbers or boxes, may be thousands of times their
    list: a table that is far too long for them is left unread.

    Args:
        path: of the table.
        reader: reads the files of the tree.
        images: how many there are that it may speak of.
        known: whether a text names one of them.
        is_class: whether a text is a class.

    Raises:
        InputError: it is no table of labels, or too long.
    """
    data = reader.content(path, MOST_BYTES + 1)
    lines, most = data.count(b"\n"), max(_LINES, _LINES_AN_IMAGE * images)
    if lines > most:
        raise InputError(
            f"It has {lines:,} lines, and at most {most:,} are read for {images:,} images. If it "
            "holds their labels: --labels FILE."
        )
    return read_table(data, known, lambda text: text.lower() in SPLITS, is_class)


def listed_labels(
    folder: Folder, beside: Iterable[Folder], reader: Reader, classes: Collection[str]
) -> tuple[dict[str, str], str] | None:
    """Return the classes of a folder's images from a table of names and labels, if there is one.

    Args:
        folder: whose images are looked for.
        beside: folders in which a table may lie.
        reader: reads the files of the tree.
        classes: names that are known; a label is one of them or of the same number.

    Returns:
        Class by path, and the path of the table.
    """
    names = Names(path[len(folder.path) :] for path in folder.paths())
    known = {folded(name): name for name in classes}
    for place in beside:
        for name in sorted(place.others):
            if PurePosixPath(name).suffix.lower() not in SUFFIXES:
                continue
            try:
                table = read_beside(
                    place.path + name,
                    reader,
                    folder.total,
                    names.__contains__,
                    lambda text: _class(text, known) is not None,
                )
            except InputError:  # It is of something else.
                continue
            labels = {
                folder.path + path: label
                for row in table.rows
                if (path := names.find(row.file)) is not None
                and (label := _class(str(row.label), known)) is not None
            }
            if len(labels) >= _NAMED * folder.total:
                return labels, place.path + name
    return None


def _class(text: str, known: dict[str, str]) -> str | None:
    """Return the class that a field begins with; ImageNet's have boxes after it."""
    return known.get(folded(text)) or known.get(folded((text.split() or [""])[0]))
