"""Folders of a split: train, val and test, however they are spelt and nested."""

from __future__ import annotations

from metad2a.datasets.layout import (
    LAYOUTS,
    Example,
    Folder,
    Layout,
    Reader,
    Reading,
    Unsure,
    count_images,
    folded,
    lists_in,
    unsure,
)
from metad2a.datasets.layouts._lists import listed_labels
from metad2a.datasets.layouts._names import label_of, labels_in_names
from metad2a.datasets.layouts._words import MASKS, UNLABELLED, sides_of, words


class SplitFolders(Layout):
    """``train/CLASS/...`` and ``test/CLASS/...``; ``Train Set``, ``seg_train/seg_train``.

    Each side is read by whatever layout it has. A side without class folders takes its labels from
    a list beside it, as Tiny ImageNet's and GTSRB's, or from file names where those of the training
    side have them; else it is left out, as are folders beside the sides.
    """

    name = "split-folders"
    rank = 50
    example = Example(
        {
            **{f"train/{kind}/images/{i}.png": "" for kind in ("n01", "n02") for i in range(3)},
            **{f"val/images/v{i}.png": "" for i in range(2)},
            "val/val_annotations.txt": "v0.png\tn01\t0\t0\nv1.png\tn02\t0\t0\n",
            "test/images/t0.png": "",
            "runs/train/results.png": "",
        },
        {"n01": 4, "n02": 4},
    )

    def read(self, folder: Folder, reader: Reader) -> Reading | None:
        """Read the sides apart and put them together."""
        heads = folder.heads
        sides = sides_of(heads)
        if not sides:
            return None
        labelled, flat = self._read_sides(heads, sides, reader)
        # A class may be called like a side; not several classes.
        several = len(set(sides.values())) > 1 or len(sides) == len(heads)
        if not several and not any(len(found.classes()) > 1 for found in labelled.values()):
            return None
        whole = Reading()
        for name, found in labelled.items():
            whole.add(found, sides[name])
        if not labelled:
            if not self._by_names(flat, sides, whole):
                raise self._question(folder, flat, reader)
            flat = []
        known = whole.classes()
        for head in flat:
            self._read_flat(head, [folder, *reader.above], reader, known, sides, whole)
        for head in heads:
            if head.name not in sides:
                self._leave(head, known, whole)
            elif sides[head.name] == UNLABELLED:
                whole.unused.append(head.unused("its name says that it has no labels"))
        whole.leave_loose(folder)
        return whole

    def _read_sides(
        self, heads: list[Folder], sides: dict[str, int], reader: Reader
    ) -> tuple[dict[str, Reading], list[Folder]]:
        """Return what each side is read as, and the sides without class folders."""
        labelled: dict[str, Reading] = {}
        flat: list[Folder] = []
        for head in heads:
            if sides.get(head.name, UNLABELLED) == UNLABELLED:
                continue
            try:
                if head.heads:
                    labelled[head.name] = reader.read(head)
                else:
                    flat.append(head)
            except Unsure:
                if len(head.heads) > 1:
                    raise
                flat.append(head)
        return labelled, self._single_classes(flat, labelled)

    @staticmethod
    def _single_classes(flat: list[Folder], labelled: dict[str, Reading]) -> list[Folder]:
        """Read sides with the folder of one class, which by itself looks like a wrapper."""
        known = {folded(name) for reading in labelled.values() for name in reading.classes()}
        rest = []
        for head in flat:
            inner = head.heads[0] if len(head.heads) == 1 and not head.images else None
            if inner is None or inner.heads or folded(inner.name) not in known:
                rest.append(head)
                continue
            labelled[head.name] = Reading(layouts=["class-folders"])
            labelled[head.name].add_class(inner)
        return rest

    @staticmethod
    def _by_names(flat: list[Folder], sides: dict[str, int], whole: Reading) -> bool:
        """Take the labels from the names of the files, where the training side's tell them."""
        train = [head for head in flat if not sides[head.name]]
        found = labels_in_names([path for head in train for path in head.paths()])
        if found is None:
            return False
        known = found.classes
        for head in flat:
            told = {path: label_of(found, path) for path in head.paths()}
            good = {path: label for path, label in told.items() if label in known}
            if 2 * len(good) <= len(told):
                whole.unused.append(head.unused("no labels: its file names have none"))
                continue
            whole.images += [(path, label, sides[head.name]) for path, label in good.items()]
            if len(good) < len(told):
                whole.unused.append(
                    head.unused(f"{len(told) - len(good):,} of them have no label in the name")
                )
        whole.notes.append(found.note())
        whole.layouts.append("file-names")
        return True

    @staticmethod
    def _question(folder: Folder, flat: list[Folder], reader: Reader) -> Unsure:
        for head in flat:  # One may know better what it is, such as boxes of objects.
            if head.heads or head.others:
                try:
                    reader.read(head)
                except Unsure as error:
                    if "none in a class folder" not in str(error):
                        return error
        lists = lists_in(folder)
        beside = f" Perhaps {lists[0]!r} has them: --labels {lists[0]}." if lists else ""
        return unsure(
            "The folders have the names of the sides of a split, and the images in them lie in no "
            f"class folders (none in a class folder), nor do the file names tell labels.{beside}",
            flat or folder.heads,
        )

    @staticmethod
    def _read_flat(
        head: Folder,
        above: list[Folder],
        reader: Reader,
        known: set[str],
        sides: dict[str, int],
        whole: Reading,
    ) -> None:
        """Read a side without class folders by a list, or leave it out."""
        found = listed_labels(head, [head, *head.folders.values(), *above], reader, known)
        if found is not None:
            labels, place = found
            whole.images += [(path, label, sides[head.name]) for path, label in labels.items()]
            whole.notes.append(
                f"The labels of {count_images(len(labels))} in {head.path.rstrip('/')!r} are from "
                f"{place!r}."
            )
            if len(labels) < head.total:
                whole.unused.append(
                    head.unused(f"{head.total - len(labels):,} are not in {place!r}")
                )
            return
        whole.unused.append(head.unused("no class folders, and no list of labels beside it"))
        if not {"test", "testing"} & set(words(head.name)):  # Those without labels are usual.
            whole.notes.append(
                f"{count_images(head.total).capitalize()} in {head.path.rstrip('/')!r} are not "
                "used: they lie in no class folders, and no list of their labels is beside them. "
                "Put them into class folders, or give a list: --labels FILE."
            )

    @staticmethod
    def _leave(head: Folder, known: set[str], whole: Reading) -> None:
        whole.unused.append(head.unused("it stands beside the split folders"))
        if head.name.lower() not in MASKS and {folded(below.name) for below in head.heads} & {
            folded(name) for name in known
        }:
            whole.notes.append(
                f"{head.path.rstrip('/')!r} stands beside the split folders and is not used, "
                "though it has folders called like the classes. --split "
                f"train={head.path.rstrip('/')} takes it to train on."
            )


LAYOUTS.register(SplitFolders.name)(SplitFolders())
