"""What ``save_to_disk`` of the Hugging Face library ``datasets`` writes; the library is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset
from metad2a.datasets.columns import arrow_columns, arrow_labels, image_bytes, no_label_column
from metad2a.datasets.forms.parquet import split_of
from metad2a.datasets.labels import read_labels
from metad2a.errors import InputError

_MOST_JSON = 2**24
"""Bytes of the files that describe a dataset."""


class SavedDataset(EncodedDataset):
    """The rows of Arrow files, mapped into memory; of several splits in the order train, test."""

    def __init__(self, folder: Path) -> None:
        self.name, self.form = folder.absolute().name, SavedForm.name
        self._files: list[Path] = []
        self._splits: list[str] = []
        values: list[np.ndarray] = []
        counts: list[int] = []
        notes: list[str] = []
        classes = None
        self._image = ""
        for split in sorted(_splits(folder), key=split_of):
            part = folder / split if split else folder
            state = _json(part / "state.json")
            if state.get("_indices_data_files"):
                raise InputError(
                    f"{part.name!r} was saved with rows chosen by another file. Save it again "
                    "after flatten_indices()."
                )
            features = _json(part / "dataset_info.json").get("features") or {}
            for entry in state.get("_data_files") or []:
                path = part / Path(str(entry.get("filename"))).name
                table = _table(path)
                described = {"info": {"features": features}}
                schema = table.schema.with_metadata({"huggingface": json.dumps(described)})
                columns = arrow_columns(schema)
                if columns.label is None:
                    notes.append(f"{split or path.name!r} has no column of labels; left out.")
                    continue
                if values and (columns.image, columns.names) != (self._image, classes):
                    raise InputError(f"{path.name!r} has other columns than the files before it.")
                self._image, self._bytes_in, classes = (
                    columns.image,
                    columns.bytes_in,
                    columns.names,
                )
                notes += [note for note in columns.notes if note not in notes]
                values.append(arrow_labels(table.column(columns.label)).astype(object))
                counts.append(len(table))
                self._files.append(path.absolute())
                self._splits.append(split)
        if not values:
            raise no_label_column((), f"{folder.name!r}")
        found = read_labels(np.concatenate(values), classes)
        self._kept = found.kept
        self.labels, self.classes = found.labels, found.classes
        sides = np.repeat([split_of(split) for split in self._splits], counts)
        self.split = sides.astype(np.int8)[found.kept]
        self._starts = np.cumsum([0, *counts])
        self.notes = (*notes, *found.notes)
        self._tables: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the mapped files."""
        return {**self.__dict__, "_tables": {}}

    def _place(self, index: int) -> tuple[int, int]:
        row = int(self._kept[index])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, row - int(self._starts[part])

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image."""
        part, row = self._place(index)
        if part not in self._tables:
            self._tables[part] = _table(self._files[part]).column(self._image)
        value = self._tables[part][row].as_py()
        return image_bytes(value.get("bytes") if isinstance(value, dict) else value)

    def locate(self, index: int) -> str:
        """Return the split, the file and the row in it, counted from 0."""
        part, row = self._place(index)
        split = f"{self._splits[part]}/" if self._splits[part] else ""
        return f"{split}{self._files[part].name}:{row}"

    def close(self) -> None:
        """Let go of the mapped files."""
        self._tables.clear()


def _splits(folder: Path) -> list[str]:
    """Return the names of the splits; one without a name where the folder is a dataset itself."""
    if not (folder / "dataset_dict.json").is_file():
        return [""]
    names = _json(folder / "dataset_dict.json").get("splits")
    if not isinstance(names, list) or not names:
        raise InputError(f"{folder.name!r}: dataset_dict.json names no splits. Save it again.")
    return [Path(str(name)).name for name in names]


def _json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(_MOST_JSON))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path.name!r} of a saved dataset cannot be read. Save it again."
        ) from error
    if not isinstance(found, dict):
        raise InputError(f"{path.name!r} of a saved dataset holds no object. Save it again.")
    return found


def _table(path: Path) -> Any:
    """Map an Arrow file into memory.

    Raises:
        InputError: it is missing or damaged.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(path)) as source:
            return pa.ipc.open_stream(source).read_all()
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path.name!r} is no readable Arrow file. Save the dataset again."
        ) from error


class SavedForm(DatasetForm):
    """A folder that ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.

    Arrow files are mapped into memory and their offsets believed, so a stranger's are not opened.
    """

    name = "saved hugging face dataset"
    wanted = "a folder written by save_to_disk"
    for_strangers = False

    def accepts(self, source: Any) -> bool:
        """Whether it holds the files that describe such a dataset."""
        return (
            isinstance(source, Path)
            and any((source / name).is_file() for name in ("dataset_dict.json", "state.json"))
            and any(
                (source / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")
            )
        )

    def open(self, source: Path) -> SavedDataset:
        """Read the labels of all splits."""
        return SavedDataset(source)


FORMS.register(SavedForm.name)(SavedForm())
