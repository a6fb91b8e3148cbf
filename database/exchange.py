"""The store as Parquet: one file of evaluations, and one of the tasks they were measured on."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from database.queries import evaluations, tasks
from metad2a.errors import DatabaseError

if TYPE_CHECKING:
    import pyarrow as pa

    from database.store import Store

FORMAT_VERSION = 1
"""Kept in the metadata of both files, as ``metad2a_format``."""


def export(store: Store, path: Path | str) -> int:
    """Write every evaluation to one Parquet file and return their number.

    Columns: ``dataset``, ``family``, ``task`` (its key), ``classes``, ``train_images``,
    ``resolution`` (pixels), ``space``, ``architecture``, ``protocol``, ``kind``, ``seed``,
    ``value`` (an accuracy is a fraction 0..1), ``seconds``, ``curve``, ``device``, ``versions``.

    Raises:
        DatabaseError: the store cannot be read or the file not be written.
    """
    import pyarrow as pa

    word = pa.dictionary(pa.int32(), pa.string())
    columns = {
        "dataset": word, "family": word, "task": word, "classes": pa.int32(),
        "train_images": pa.int32(), "resolution": pa.int32(), "space": word, "architecture": word,
        # A score can pass float32's largest number; an accuracy must survive the way back.
        "protocol": word, "kind": word, "seed": pa.int64(), "value": pa.float64(),
        "seconds": pa.float32(), "curve": pa.list_(pa.float32()), "device": word, "versions": word,
    }
    return _write(evaluations(store), columns, Path(path))


def export_tasks(store: Store, path: Path | str) -> int:
    """Write every task's definition to one Parquet file and return their number.

    Columns: ``task`` (its key), ``name``, ``dataset``, ``fingerprint``, ``family``,
    ``resolution`` (pixels), and the lists ``classes`` (class numbers), ``train`` and ``test``
    (image indices).

    Raises:
        DatabaseError: the store cannot be read or the file not be written.
    """
    import pyarrow as pa

    word, numbers = pa.dictionary(pa.int32(), pa.string()), pa.list_(pa.int32())
    columns = {
        "task": pa.string(), "name": pa.string(), "dataset": word, "fingerprint": word,
        "family": word, "resolution": pa.int32(), "classes": numbers, "train": numbers,
        "test": numbers,
    }
    rows = ({**row, **row["definition"]} for row in tasks(store))
    return _write(rows, columns, Path(path))


def _write(
    rows: Iterator[Mapping[str, Any]], columns: Mapping[str, pa.DataType], path: Path
) -> int:
    """Write beside ``path`` first, so that it is never half a file."""
    import pyarrow as pa
    from pyarrow import parquet

    values: dict[str, list[Any]] = {name: [] for name in columns}
    for row in rows:
        for name, kept in values.items():
            kept.append(row[name])
    schema = pa.schema(list(columns.items()), metadata={"metad2a_format": str(FORMAT_VERSION)})
    table = pa.table(values, schema=schema)
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            partial = Path(file.name)
            parquet.write_table(table, file, compression="zstd", compression_level=19)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise DatabaseError(f"Cannot write the export {str(path)!r}: {error}. Check that its "
                            "folder may be written and that the disk has room.") from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
    return int(table.num_rows)
