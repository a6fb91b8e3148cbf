"""Plain rows as one Parquet file, which the dataset viewer of the Hugging Face Hub reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from database.exchange.rows import FORMAT_KEY, TABLE_KEY, TABLES, Row
from metad2a.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 50_000  # a row group


def _schema(table: str, version: int) -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "word": pa.dictionary(pa.int32(), pa.string()),
        "text": pa.string(),
        # A score can pass float32's largest number, and every value must survive the way back.
        "integer": pa.int64(),
        "number": pa.float64(),
        "integers": pa.list_(pa.int64()),
        "numbers": pa.list_(pa.float64()),
        "time": pa.timestamp("us", tz="UTC"),
    }
    columns = [(name, kinds[kind]) for name, kind in TABLES[table].items()]
    return pa.schema(columns, metadata={FORMAT_KEY: str(version), TABLE_KEY: table})


def write(file: IO[bytes], table: str, rows: Iterable[Row], version: int) -> int:
    """Write rows of ``table`` and return their number."""
    import pyarrow as pa
    from pyarrow import parquet

    schema, written = _schema(table, version), 0
    with parquet.ParquetWriter(file, schema, compression="zstd", compression_level=19) as writer:
        columns: dict[str, list[Any]] = {name: [] for name in schema.names}

        def flush() -> int:
            group = pa.table(columns, schema=schema)
            writer.write_table(group, row_group_size=_ROWS)
            for values in columns.values():
                values.clear()
            return int(group.num_rows)

        for row in rows:
            for name, values in columns.items():
                values.append(row[name])
            if len(columns[schema.names[0]]) == _ROWS:
                written += flush()
        written += flush()
    return written


def read(path: Path) -> tuple[Mapping[str, str], tuple[str, ...], Iterator[Row]]:
    """Return the file's own description, the names of its columns, and its rows.

    Raises:
        InputError: it is no Parquet file, is cut off or damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    def opened() -> Any:
        try:
            return parquet.ParquetFile(path)
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from error

    def rows() -> Iterator[Row]:
        with opened() as file:
            batches = file.iter_batches()
            while True:
                try:
                    batch = next(batches, None)
                except (OSError, pa.ArrowException) as error:
                    raise _unreadable(path, error) from error
                if batch is None:
                    return
                yield from batch.to_pylist()

    with opened() as file:
        schema = file.schema_arrow
        about = {
            key.decode(): value.decode()
            for key, value in (schema.metadata or {}).items()
            if key.startswith(b"metad2a")
        }
        return about, tuple(schema.names), rows()


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{str(path)!r} cannot be read as Parquet, or is cut off: {error}. Export "
        "or download it again."
    )
