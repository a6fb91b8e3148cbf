"""Importers of what the field has published: one file each, found by the registry."""

from __future__ import annotations

from database.importers.base import IMPORTERS, Importer, import_published

__all__ = ["IMPORTERS", "Importer", "import_published"]
