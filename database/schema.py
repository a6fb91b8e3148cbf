"""The tables. What a row may not be, the store itself refuses: see the constraints.

SQLite keeps NaN as NULL, so NOT NULL refuses it; PostgreSQL sorts NaN above every number, so the
range does. A value that is not a number at all compares as larger than every number, too.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 1
"""Raised with every change of a table; a store of a later version is not opened."""

METADATA = MetaData()
_FINITE = "BETWEEN -1.7e308 AND 1.7e308"


def _text(name: str, *arguments: ForeignKey, unique: bool = False) -> Column[str]:
    return Column(name, Text, *arguments, nullable=False, unique=unique)


def _count(name: str, least: int) -> Column[int]:
    return Column(name, Integer, CheckConstraint(f"{name} >= {least}"), nullable=False)


def _reference(table: str) -> Column[int]:
    return Column(f"{table[:-1]}_id", Integer, ForeignKey(f"{table}.id"), nullable=False)


META = Table(
    "meta", METADATA,
    Column("schema_version", Integer, primary_key=True, autoincrement=False),
)

DATASETS = Table(
    "datasets", METADATA,
    Column("id", Integer, primary_key=True),
    _text("fingerprint", unique=True),
    _text("name"),
    _text("family"),
    _text("form"),
    _count("images", 1),
    _count("classes", 2),
    _count("resolution", 1),
)
"""A dataset by the hash of its content. ``resolution``: its own side, in pixels."""

TASKS = Table(
    "tasks", METADATA,
    Column("id", Integer, primary_key=True),
    _text("key", unique=True),
    _reference("datasets"),
    _text("name"),
    Column("definition", JSON, nullable=False),
    _count("n_train", 1),
    _count("n_test", 1),
    _count("n_classes", 2),
)
"""A task by the hash of its definition (class numbers, train and test indices, resolution)."""

ARCHITECTURES = Table(
    "architectures", METADATA,
    Column("id", Integer, primary_key=True),
    _text("space"),
    _text("canonical"),
    UniqueConstraint("space", "canonical"),
)
"""One row for all isomorphic networks, under the space's canonical string."""

PROTOCOLS = Table(
    "protocols", METADATA,
    Column("id", Integer, primary_key=True),
    _text("name", unique=True),
    _text("kind"),
    _text("description"),
    CheckConstraint("kind IN ('accuracy', 'score')", name="known_kind"),
    UniqueConstraint("id", "kind"),
)

EVALUATIONS = Table(
    "evaluations", METADATA,
    Column("id", Integer, primary_key=True),
    _reference("tasks"),
    _reference("architectures"),
    Column("protocol_id", Integer, nullable=False),
    _text("kind"),
    Column("seed", Integer, nullable=False),
    Column("value", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("curve", JSON, nullable=False),
    _text("device"),
    _text("versions"),
    Column("created", DateTime(timezone=True), nullable=False),
    UniqueConstraint("task_id", "architecture_id", "protocol_id", "seed"),
    # The kind is kept here as well so that the range of an accuracy can be a constraint.
    ForeignKeyConstraint(["protocol_id", "kind"], ["protocols.id", "protocols.kind"]),
    CheckConstraint(f"value {_FINITE}", name="value_is_finite"),
    CheckConstraint("kind <> 'accuracy' OR value BETWEEN 0 AND 1", name="accuracy_is_a_fraction"),
    CheckConstraint("seconds BETWEEN 0 AND 1.7e308", name="seconds_are_finite"),
    # A JSON list of numbers has no letter n; NaN, Infinity and null have.
    CheckConstraint(
        "CAST(curve AS TEXT) LIKE '[%]' AND CAST(curve AS TEXT) NOT LIKE '%n%'",
        name="curve_is_finite",
    ),
    Index("evaluations_by_protocol", "protocol_id", "task_id", "seed"),
)
"""One measured value. ``curve``: test accuracy after each epoch; ``created``: UTC."""

FAILURES = Table(
    "failures", METADATA,
    Column("id", Integer, primary_key=True),
    _reference("tasks"),
    _text("labeller"),
    _text("error"),
    Column("created", DateTime(timezone=True), nullable=False),
)
"""A labeller that broke off on a task; what it had measured until then is kept."""
