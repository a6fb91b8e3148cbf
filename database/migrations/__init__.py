"""Upgrades of the schema: one file a version, never changed once it is released.

A migration is told the connection of an open transaction and may rely on nothing but the schema
before it: not on ``database.schema``, which is the newest one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection

from database.migrations import v2, v3

MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {2: v2.upgrade, 3: v3.upgrade}
"""Schema version to the function that makes it out of the version before."""
