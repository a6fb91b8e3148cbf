"""Image Parquet as Hugging Face writes it: encoded images, labels, class names in the schema."""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset
from metad2a.datasets.decode import UnreadableImage
from metad2a.datasets.labels import encode_labels
from metad2a.datasets.layout import SPLITS
from metad2a.errors import InputError
from metad2a.settings import LIMITS

MOST_ROWS = 10_000_000
"""Rows of all Parquet files together."""
MOST_OPEN = 32
"""Files that are open at a time: of a set in hundreds of pieces some systems open 256 at most."""


class ParquetDataset(EncodedDataset):
    """One or several Parquet files; labels are read at once, images by row group on demand."""

    def __init__(self, name: str, files: list[Path]) -> None:
        import pyarrow as pa

        self.name, self.form = name, ParquetForm.name
        self._names = [path.name for path in files]
        self._paths = [path.absolute() for path in files]
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._groups: list[tuple[int, int, int]] = []
        counts, columns, rows = [], [], 0
        try:
            self._column, label, names = _columns(self._file(0).schema_arrow)
            for number in range(len(files)):
                file = self._file(number)
                if _columns(file.schema_arrow) != (self._column, label, names):
                    raise InputError(
                        f"{self._names[number]!r} has other columns or class names "
                        f"than {self._names[0]!r}. Write them alike."
                    )
                rows += file.metadata.num_rows
                if rows > MOST_ROWS:  # A few bytes can stand for any number of equal labels.
                    raise InputError(
                        f"{rows:,} rows, more than the limit of {MOST_ROWS:,}. Give fewer of the "
                        "files."
                    )
                columns.append(file.read(columns=[label]).column(label))
                for group in range(file.num_row_groups):
                    about = file.metadata.row_group(group)
                    self._groups.append((number, group, int(about.total_byte_size)))
                    counts.append(about.num_rows)
        except InputError:
            self.close()
            raise
        except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
            self.close()
            damaged = self._names[min(len(columns), len(files) - 1)]
            reason = str(error).replace(str(files[0].parent), "")[:200]
            raise InputError(
                f"{damaged!r} is no readable image Parquet: {reason}. Write it again."
            ) from error
        values = [
            np.asarray(column.to_pylist(), dtype=object) if column.null_count else column.to_numpy()
            for column in columns
        ]
        self.labels, self.classes = encode_labels(np.concatenate(values), names)
        self.split = np.repeat(
            [split_of(name) for name in self._names], [len(column) for column in columns]
        ).astype(np.int8)
        self._starts = np.cumsum([0, *counts])
        self._file_starts = np.cumsum([0, *(len(column) for column in columns)])
        self._cache: OrderedDict[int, Any] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the open files and what was read of them."""
        left_out = ("_open", "_cache", "_lock")
        return {k: v for k, v in self.__dict__.items() if k not in left_out}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open the files anew."""
        self.__dict__.update(state)
        self._open, self._cache, self._lock = OrderedDict(), OrderedDict(), threading.Lock()

    def _file(self, number: int) -> Any:
        """Return an open Parquet file; the last :data:`MOST_OPEN` stay open."""
        import pyarrow.parquet as pq

        if number not in self._open:
            self._open[number] = pq.ParquetFile(self._paths[number])
            while len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)[1].close()
        self._open.move_to_end(number)
        return self._open[number]

    def encoded(self, index: int) -> bytes:
        """Return the bytes of an image."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        with self._lock:
            value = self._group(number)[index - int(self._starts[number])].as_py()
        if not value:
            raise UnreadableImage("no image bytes in the row")
        return bytes(value)

    def shuffled(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shuffle row groups, and images among as many of them as stay in memory together."""
        number = np.searchsorted(self._starts, indices, side="right") - 1
        visited = rng.permutation(np.unique(number))
        sizes = np.cumsum([self._group_bytes(group) for group in visited])
        place = np.empty(len(self._groups), dtype=np.int64)
        place[visited] = (sizes - 1) // (LIMITS.parquet_cache_bytes // 2)
        order = rng.permutation(len(indices))
        return order[np.argsort(place[number[order]], kind="stable")]

    def _group_bytes(self, number: int) -> int:
        return self._groups[number][2]

    def _group(self, number: int) -> Any:
        """Return the binary Arrow column of a row group; the last ones used stay in memory."""
        import pyarrow as pa

        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        file, group, _ = self._groups[number]
        try:
            table = self._file(file).read_row_group(group, columns=[self._column])
        except (pa.ArrowException, OSError) as error:
            raise UnreadableImage("its part of the Parquet file is damaged") from error
        column = table.column(self._column.split(".")[0]).combine_chunks()
        if pa.types.is_struct(column.type):
            column = column.field("bytes")
        self._cache[number] = column
        while len(self._cache) > 1 and self._cached_bytes() > LIMITS.parquet_cache_bytes:
            self._cache.popitem(last=False)
        return column

    def _cached_bytes(self) -> int:
        return sum(column.nbytes for column in self._cache.values())

    def locate(self, index: int) -> str:
        """Return the file and the row in it, counted from 0."""
        file = int(np.searchsorted(self._file_starts, index, side="right")) - 1
        return f"{self._names[file]}:{index - int(self._file_starts[file])}"

    def close(self) -> None:
        """Close the files."""
        while self._open:
            self._open.popitem()[1].close()


class ParquetForm(DatasetForm):
    """A Parquet file, or a folder of ``train*.parquet`` and ``test*.parquet``."""

    name = "image parquet"
    wanted = "an image Parquet file (columns 'image' and 'label'), or a folder of them"

    def accepts(self, source: Any) -> bool:
        """Whether it is a ``.parquet`` file or a folder that holds one."""
        return isinstance(source, Path) and bool(parquet_files(source))

    def open(self, source: Path) -> ParquetDataset:
        """List the rows of all files, in the order train, others, test, then by name."""
        files = parquet_files(source)
        folder = source if source.is_dir() else source.absolute().parent
        single = source.is_file() and _side(source.stem) is None
        return ParquetDataset(source.stem if single else folder.name, files)


def parquet_files(source: Path) -> list[Path]:
    """Return the Parquet files that a path stands for, train first; none if it is no Parquet."""
    if source.is_file():
        return [source] if source.suffix.lower() == ".parquet" else []
    files = [
        path
        for folder in (source, source / "data")
        for path in folder.glob("*.parquet")
        if not path.name.startswith(".")
    ]
    return sorted(files, key=lambda path: (split_of(path.name), path.name))


def _side(name: str) -> int | None:
    """Return the side of the split that a file name such as ``train-00000-of-00002`` tells."""
    return SPLITS.get(re.split(r"[-_.]", name.lower())[0])


def split_of(name: str) -> int:
    """Return the side of the split that a file or a split is on: 0, or 1 for validation or test."""
    return _side(name) or 0


def label_column(candidates: Collection[str], named: Iterable[str]) -> str | None:
    """Return the column that holds the labels: ``label``, one with class names, or ``labels``.

    Args:
        candidates: columns of integers or strings.
        named: those of them that come with class names.
    """
    return next((name for name in ("label", *named, "labels") if name in candidates), None)


def _columns(schema: Any) -> tuple[str, str, list[str] | None]:
    """Return the column of image bytes, the label column and the class names, if any."""
    import pyarrow as pa

    features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = features.get("info", {}).get("features", {})
    images, labels = [], []
    for field in schema:
        kind = field.type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            images.append(f"{field.name}.bytes")
        elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            images.append(field.name)
        elif any(
            test(kind)
            for test in (pa.types.is_integer, pa.types.is_string, pa.types.is_large_string)
        ):
            labels.append(field.name)
    named = [name for name in labels if features.get(name, {}).get("_type") == "ClassLabel"]
    chosen = label_column(labels, named)
    if not images or chosen is None:
        missing = (
            "image column (binary, or a struct with 'bytes')"
            if not images
            else ("label column (integer or string, called 'label')")
        )
        raise InputError(
            f"The Parquet file has no {missing}; its columns are "
            f"{', '.join(schema.names)}. Rename or convert the right one."
        )
    names = features.get(chosen, {}).get("names")
    return images[0], chosen, names if isinstance(names, list) else None


FORMS.register(ParquetForm.name)(ParquetForm())
