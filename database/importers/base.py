"""What every importer answers, and how its rows get into a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from database.exchange.merge import merge
from metad2a.errors import InputError
from metad2a.registry import Registry

if TYPE_CHECKING:
    from database.exchange.rows import Row
    from database.records import Recorded
    from database.store import Store


@dataclass(frozen=True)
class Origin:
    """Where published rows come from. A training can leave them out by ``name``."""

    name: str
    licence: str
    url: str
    year: int
    """Of the publication; its first day stands for the moment of every measurement."""

    @property
    def created(self) -> datetime:
        """The moment that stands for every measurement."""
        return datetime(self.year, 1, 1, tzinfo=UTC)

    def columns(self) -> dict[str, str]:
        """Return the columns that a row has for it."""
        return {"source": self.name, "licence": self.licence, "url": self.url}


class Importer(ABC):
    """Reads published tables into plain rows, which ``database.exchange.merge`` stores."""

    origin: Origin
    wants: tuple[str, ...]
    """What :meth:`tables` is given, in this order, in words."""

    @abstractmethod
    def tables(self, *given: Any) -> Mapping[str, Iterable[Row]]:
        """Return rows by table (see ``TABLES`` of ``database.exchange.rows``), read as they are asked for.

        Raises:
            InputError: a file is missing, lacks a column, or holds what is no number.
        """


def import_published(store: Store, name: str, *given: Any) -> dict[str, Recorded]:
    """Add published rows: all of them, or none on an error. A second import changes nothing.

    Args:
        store: what is written to.
        name: of an importer.
        given: what that importer ``wants``.

    Returns:
        For each table: rows that were new, rows known, and the conflicts.

    Raises:
        InputError: there is no such importer, or it was not given what it wants.
        DatabaseError: the store refuses a row.
    """
    importer = IMPORTERS.get(name)
    if len(given) != len(importer.wants):
        raise InputError(
            f"The importer {name!r} wants {len(importer.wants)} things, not "
            f"{len(given)}: {'; '.join(importer.wants)}."
        )
    return merge(store, importer.tables(*given))


IMPORTERS: Registry[Importer] = Registry("importer", "database.importers")
