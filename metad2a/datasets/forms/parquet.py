"""Image Parquet as Hugging Face writes it: encoded images, labels, class names in the schema."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

from metad2a.datasets.base import FORMS, DatasetForm, EncodedDataset
from metad2a.datasets.columns import (
    Columns,
    arrow_columns,
    arrow_labels,
    image_bytes,
    no_label_column,
)
from metad2a.datasets.decode import EXTENSIONS, UnreadableImage
from metad2a.datasets.labels import read_labels
from metad2a.datasets.layout import SPLITS
from metad2a.datasets.tables import LABEL_COLUMNS, plain
from metad2a.errors import InputError
from metad2a.settings import LIMITS

MOST_ROWS = 10_000_000
"""Rows of all Parquet files together."""
MOST_OPEN = 32
"""Files that are open at a time: of a set in hundreds of pieces some systems open 256 at most."""


class ParquetDataset(EncodedDataset):
    """One or several Parquet files; labels are read at once, images by row group on demand.

    Args:
        name: of the dataset.
        files: in the order of their rows.
        root: the folder that was given; names of folders below it may tell sides.
    """

    def __init__(self, name: str, files: list[Path], root: Path | None = None) -> None:
        import pyarrow as pa

        self.name, self.form = name, ParquetForm.name
        self._names = [path.name for path in files]
        self._paths = [path.absolute() for path in files]
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Any] = OrderedDict()
        self._cache: OrderedDict[int, Any] = OrderedDict()
        self._groups: list[tuple[int, int, int]] = []
        groups, rows = [], 0
        values: list[np.ndarray] = []
        number = 0
        try:
            used, labelled = self._columns(files)
            self._image, self._bytes_in = used.image, used.bytes_in
            for number, file_labels in labelled.items():
                file = self._file(number)
                count = file.metadata.num_rows
                rows += count
                if rows > MOST_ROWS:  # A few bytes can stand for any number of equal labels.
                    raise InputError(
                        f"{rows:,} rows, more than the limit of {MOST_ROWS:,}. Give fewer of the "
                        "files."
                    )
                if file_labels is None:
                    column = file.read(columns=[used.label]).column(used.label)
                    values.append(arrow_labels(column))
                else:
                    values.append(np.full(count, file_labels, dtype=object))
                for group in range(file.num_row_groups):
                    about = file.metadata.row_group(group)
                    self._groups.append((number, group, int(about.total_byte_size)))
                    groups.append(about.num_rows)
            self._starts = np.cumsum([0, *groups])
            self._refuse_paths()
        except InputError:
            self.close()
            raise
        except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
            self.close()
            reason = str(error).replace(str(files[0].parent), "")[:200]
            raise InputError(
                f"{self._names[number]!r} is no readable image Parquet: {reason}. Write it again."
            ) from error
        unlabelled = [name for at, name in enumerate(self._names) if at not in labelled]
        found = read_labels(_joined(values), used.names)
        self._kept = found.kept
        self.labels, self.classes = found.labels, found.classes
        counts = [len(one) for one in values]
        sides = np.repeat([path_side(files[at], root) for at in labelled], counts)
        self.split = sides.astype(np.int8)[found.kept]
        self._numbers = list(labelled)
        self._file_starts = np.cumsum([0, *counts])
        self.notes = (*used.notes, *found.notes)
        if unlabelled:
            listed = ", ".join(map(repr, unlabelled[:5]))
            self.notes += (f"Left out, as they have no column of labels: {listed}.",)

    def _columns(self, files: list[Path]) -> tuple[Columns, dict[int, str | None]]:
        """Return the columns that are used, and the files with labels.

        Their values are the label of all rows, where it is in the name of the file's folder, as in
        ``label=cat/``.

        Raises:
            InputError: no file has labels, or two have different columns.
        """
        used: Columns | None = None
        labelled: dict[int, str | None] = {}
        names: list[str] = []
        for number, path in enumerate(files):
            schema = self._file(number).schema_arrow
            names = names or schema.names
            columns = arrow_columns(schema)
            partition = _partition(path)
            if columns.label is None and partition is None:
                continue
            if used is None:
                used, first = columns, number
            if columns != used:
                raise InputError(
                    f"{self._names[number]!r} has other columns or class names "
                    f"than {self._names[first]!r}. Write them alike."
                )
            labelled[number] = partition if columns.label is None else None
        if used is None:
            raise no_label_column(names, "The Parquet file")
        return used, labelled

    def _refuse_paths(self) -> None:
        """Refuse a table that names files instead of holding them.

        Raises:
            InputError: it does.
        """
        if not self._groups:
            return
        import pyarrow as pa

        file, group, _ = self._groups[0]
        binary = (pa.types.is_binary, pa.types.is_large_binary)
        kind = self._file(file).schema_arrow.field(self._image).type
        if any(test(kind) for test in binary):
            return
        column = self._file(file).read_row_group(group, columns=[self._image]).column(self._image)
        if self._bytes_in is None:
            text = str(next((one for one in column.to_pylist() if one), ""))
            try:
                if text:
                    image_bytes(text)
            except UnreadableImage as error:
                raise InputError(
                    f"The Parquet file has no image column: {self._image!r} holds texts that are "
                    f"no images in base64, such as {text[:80]!r}. Write the bytes of the files."
                ) from error
            return
        pictures = column.combine_chunks().field(self._bytes_in)
        if not len(column) or pictures.null_count < len(column):
            return
        held: list[dict[str, Any] | None] = column.to_pylist()
        first = next((one["path"] for one in held if one and one.get("path")), None)
        raise InputError(
            f"The column {self._image!r} holds no pictures"
            + (f" but paths of files, such as {str(first)[:80]!r}" if first else "")
            + ". Write the bytes of the files into it, or list the files and labels in a CSV beside "
            "them."
        )

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
        row = int(self._kept[index])
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._lock:
            value = self._group(number)[row - int(self._starts[number])].as_py()
        return image_bytes(value)

    def shuffled(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Shuffle row groups, and images among as many of them as stay in memory together."""
        number = np.searchsorted(self._starts, self._kept[indices], side="right") - 1
        visited = rng.permutation(np.unique(number))
        sizes = np.cumsum([self._group_bytes(group) for group in visited])
        place = np.empty(len(self._groups), dtype=np.int64)
        place[visited] = (sizes - 1) // (LIMITS.parquet_cache_bytes // 2)
        order = rng.permutation(len(indices))
        return order[np.argsort(place[number[order]], kind="stable")]

    @property
    def _wanted(self) -> str:
        return self._image if self._bytes_in is None else f"{self._image}.{self._bytes_in}"

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
            table = self._file(file).read_row_group(group, columns=[self._wanted])
        except (pa.ArrowException, OSError) as error:
            raise UnreadableImage("its part of the Parquet file is damaged") from error
        column = table.column(self._image).combine_chunks()
        if self._bytes_in is not None:
            column = column.field(self._bytes_in)
        self._cache[number] = column
        while len(self._cache) > 1 and self._cached_bytes() > LIMITS.parquet_cache_bytes:
            self._cache.popitem(last=False)
        return column

    def _cached_bytes(self) -> int:
        return sum(column.nbytes for column in self._cache.values())

    def locate(self, index: int) -> str:
        """Return the file and the row in it, counted from 0."""
        row = int(self._kept[index])
        file = int(np.searchsorted(self._file_starts, row, side="right")) - 1
        name = self._names[self._numbers[file]]
        return f"{name}:{row - int(self._file_starts[file])}"

    def close(self) -> None:
        """Close the files."""
        while self._open:
            self._open.popitem()[1].close()


class ParquetForm(DatasetForm):
    """A Parquet file, or a folder of them: shards, sides, partitions, a snapshot of the Hub."""

    name = "image parquet"
    wanted = "an image Parquet file (columns 'image' and 'label'), or a folder of them"

    def accepts(self, source: Any) -> bool:
        """Whether it is a Parquet file, or a folder of some that hold images, or of nothing else."""
        if not isinstance(source, Path):
            return False
        files = parquet_files(source)
        if source.is_file() or not files:
            return bool(files)
        return any(_has_images(path) for path in files) or not _pictures_in(source)

    def open(self, source: Path) -> ParquetDataset:
        """List the rows of all files, in the order train, others, test, then by name."""
        files = parquet_files(source)
        if source.is_dir():
            sets = sorted(
                {path.relative_to(source).parts[0] for path in files if _config(path, source)}
            )
            if len(sets) > 1:
                raise InputError(
                    f"{source.name!r} holds several sets of Parquet files: "
                    f"{', '.join(map(repr, sets))}. Give the folder of one of them."
                )
            # A table of something else beside them is none of theirs.
            files = [path for path in files if _has_images(path)] or files
        folder = source if source.is_dir() else source.absolute().parent
        single = source.is_file() and _side(source.stem) is None
        stem = re.sub(r"\.parquet$", "", source.stem, flags=re.IGNORECASE)
        root = source if source.is_dir() else None
        return ParquetDataset(stem if single else folder.name, files, root)


def parquet_files(source: Path) -> list[Path]:
    """Return the Parquet files that a path stands for, train first; none if it is no Parquet."""
    if source.is_file():
        return [source] if _is_parquet(source) else []
    for patterns in (("*", "data/*"), ("*/*", "*/*/*")):
        files = [
            path
            for pattern in patterns
            for path in source.glob(f"{pattern}.parquet")
            if path.is_file() and not path.name.startswith(".")
        ]
        if files:
            break
    return sorted(files, key=lambda path: (path_side(path, source), path.name, path))


def _is_parquet(path: Path) -> bool:
    """Whether a file is Parquet by its name; pandas calls one so beside how it is packed."""
    if path.suffix.lower() == ".parquet":
        return True
    if ".parquet" not in path.name.lower():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PAR1"


def _config(path: Path, source: Path) -> bool:
    """Whether a file lies in a folder of its own set, not of a side or of a value."""
    folders = path.relative_to(source).parts[:-1]
    return (
        bool(folders)
        and folders != ("data",)
        and _side(folders[0]) is None
        and ("=" not in folders[0])
    )


def _partition(path: Path) -> str | None:
    """Return the label in the name of a file's folder, ``label=cat``."""
    column, equals, value = path.parent.name.partition("=")
    return unquote(value) if equals and plain(column) in LABEL_COLUMNS else None


def _has_images(path: Path) -> bool:
    """Whether a file has a column of images; a damaged one may have had one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        arrow_columns(pq.read_schema(path))
    except InputError as error:
        return "several labels" in str(error)
    except (pa.ArrowException, OSError, ValueError, AttributeError):
        return True
    return True


def _pictures_in(folder: Path) -> bool:
    return any(path.suffix.lower() in EXTENSIONS for path in folder.glob("**/*"))


def _joined(values: list[np.ndarray]) -> np.ndarray:
    if len({one.dtype.kind for one in values}) > 1:
        values = [one.astype(object) for one in values]
    return np.concatenate(values)


def _side(name: str) -> int | None:
    """Return the side of the split that a file name such as ``train-00000-of-00002`` tells."""
    return SPLITS.get(re.split(r"[-_.]", name.lower())[0])


def path_side(path: Path, root: Path | None) -> int:
    """Return the side that a file's name tells, or else that of its folder below the root."""
    side = _side(path.name)
    if side is None and root is not None and path.parent != root:
        side = _side(path.parent.name)
    return side or 0


def split_of(name: str) -> int:
    """Return the side of the split that a split is on: 0, or 1 for validation or test."""
    return _side(name) or 0


FORMS.register(ParquetForm.name)(ParquetForm())
