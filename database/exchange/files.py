"""The store as files and back: Parquet, or JSON lines, one file a table.

A file says in itself which table it holds and of which format it is.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

from database.exchange import jsonl, parquet
from database.exchange.merge import merge
from database.exchange.rows import FORMAT_KEY, TABLE_KEY, TABLES, Row, Sources, checked, stored_rows
from metad2a.errors import DatabaseError, InputError
from metad2a.registry import suggest_name

if TYPE_CHECKING:
    from database.records import Recorded
    from database.store import Store

FORMAT_VERSION = 2
"""Kept in every file, as ``metad2a_format``. 2: rows with their source."""
_MODULES = {".parquet": parquet, ".jsonl": jsonl}


def export(
    store: Store,
    path: Path | str,
    table: str = "evaluations",
    *,
    only_sources: Collection[str] = (),
    exclude_sources: Collection[str] = (),
) -> int:
    """Write a table to one file, whole or not at all, and return the number of its rows.

    Args:
        store: what is read.
        path: a name that ends in ``.jsonl`` is for JSON lines, one in ``.parquet`` for Parquet.
        table: "evaluations" (``value``: an accuracy is a fraction 0..1; ``seconds``; ``curve``:
            accuracy after each epoch; ``created``: UTC), "tasks" (class numbers and image
            indices) or "latencies" (``milliseconds``; ``resolution`` in pixels).
        only_sources: names of sources; no row of another one is written (default: all).
        exclude_sources: names of sources whose rows are left out.

    Raises:
        InputError: another end of the name, an unknown table or an unknown source.
        DatabaseError: the store cannot be read or the file not be written.
    """
    path, sources = Path(path), Sources(only_sources, exclude_sources)
    _module(path)  # refused before the store is read
    if table not in TABLES:
        raise InputError(f"There is no table {table!r}.{suggest_name(table, list(TABLES))}")
    sources.check(store)
    written = 0

    def write(file: IO[bytes]) -> None:
        nonlocal written
        written = _module(path).write(
            file, table, stored_rows(store, table, sources), FORMAT_VERSION
        )

    _atomically(path, write)
    return written


def import_files(store: Store, paths: Iterable[Path | str]) -> dict[str, Recorded]:
    """Add what exported files hold: all of it, or nothing on an error.

    Importing twice changes nothing. A row that is there with another value is reported and not
    overwritten.

    Args:
        store: what is written to.
        paths: files of :func:`export`, each of another table, in any order.

    Returns:
        For each table given: rows that were new, rows known, and the conflicts.

    Raises:
        InputError: a file is none of these, is cut off, of another format, or has a wrong column
            or value.
        DatabaseError: the store refuses a row, or does not hold the task of one.
    """
    tables: dict[str, Iterator[Row]] = {}
    for path in map(Path, paths):
        table, found = _opened(path)
        if table in tables:
            raise InputError(
                f"{str(path)!r} is a second file of {table}. Import one after the other."
            )
        tables[table] = found
    return merge(store, tables)


def _module(path: Path) -> ModuleType:
    module = _MODULES.get(path.suffix.lower())
    if module is None:
        raise InputError(
            f"{str(path)!r} does not say its form; let its name end in {' or '.join(_MODULES)}."
        )
    return module


def _opened(path: Path) -> tuple[str, Iterator[Row]]:
    """Return the table that a file holds, and its rows, checked as they are read."""
    module = _module(path)
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}. Give one of `metad2a db export`.")
    about, columns, found = module.read(path)
    version, table = about.get(FORMAT_KEY), about.get(TABLE_KEY)
    if version is None:
        raise InputError(
            f"{str(path)!r} was not written by `metad2a db export`, or its first "
            "lines are lost. Export it again."
        )
    if version != str(FORMAT_VERSION) or table not in TABLES:
        remedy = "export it again with this program" if version == "1" else "update metad2a"
        raise InputError(
            f"{str(path)!r} is of format {version[:20]!r} ({str(table)[:40]!r}); this "
            f"program reads format {FORMAT_VERSION} of {', '.join(TABLES)}. To read "
            f"it, {remedy}."
        )
    wanted = set(TABLES[table])
    if odd := sorted(wanted ^ set(columns)):
        missing, extra = [n for n in odd if n in wanted], [n for n in odd if n not in wanted]
        texts = [
            f"{what}: {', '.join(names)[:300]}"
            for what, names in (("missing", missing), ("not known", extra))
            if names
        ]
        raise InputError(
            f"{str(path)!r} has not the columns of {table} ({'; '.join(texts)}). Export it again."
        )
    return table, checked(table, found, str(path))


def _atomically(path: Path, write: Callable[[IO[bytes]], None]) -> None:
    """Write beside ``path`` first, so that it is never half a file."""
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            partial = Path(file.name)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise DatabaseError(
            f"Cannot write the export {str(path)!r}: {error}. Check that its "
            "folder may be written and that the disk has room."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
