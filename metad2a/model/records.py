"""What meta-training reads: plain records, whoever stored them.

A Parquet file of evaluations has the columns that ``metad2a db export`` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metad2a.errors import InputError

COLUMNS = (
    "dataset",
    "family",
    "task",
    "space",
    "architecture",
    "protocol",
    "kind",
    "seed",
    "value",
)


@dataclass(frozen=True)
class Record:
    """One measurement: an architecture on a task under a protocol.

    ``value`` is an accuracy 0..1 or a score, as the protocol has it.
    """

    dataset: str
    family: str
    task: str
    space: str
    architecture: str
    protocol: str
    kind: str
    seed: int
    value: float


def read_records(path: str | Path) -> list[Record]:
    """Read a Parquet file of evaluations.

    Raises:
        InputError: the file is missing, is no Parquet, or lacks a column.
    """
    return [Record(**row) for row in read_rows(path, COLUMNS)]


def read_rows(path: str | Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Read some columns of a Parquet file.

    Raises:
        InputError: the file is missing, is no Parquet, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as Parquet: {error}. Write one with 'metad2a db export'."
        ) from error
    missing = sorted(set(columns) - set(table.column_names))
    if missing:
        raise InputError(
            f"{str(path)!r} lacks the columns {', '.join(missing)}. Write the file "
            "with 'metad2a db export'."
        )
    rows: list[dict[str, Any]] = table.select(list(columns)).to_pylist()
    return rows
