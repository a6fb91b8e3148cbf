"""The tables. What a row may not be, the server itself refuses: see the constraints.

A change of a table that rows of before do not fit raises ``SCHEMA_VERSION``; upgrades there will
be from the first release on. SQLite keeps NaN as NULL, so NOT NULL refuses it; PostgreSQL sorts NaN above every number, so the range
does. A value that is not a number at all compares as larger than every number, too.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

SCHEMA_VERSION = 3
"""A store of another version is not opened."""
MEASURED = "measured"
"""The source of what was measured here; every store has it."""
STATES = ("open", "leased", "done", "quarantined")
"""What a job may be: waiting, given to an owner until a moment, measured, or failed too often."""
MAX_TRIES = 3
"""A job that failed so many times is quarantined."""

METADATA = MetaData()
_FINITE = "BETWEEN -1.7e308 AND 1.7e308"
# One order of strings on both servers, whatever the language of a PostgreSQL database.
_TEXT = Text().with_variant(Text(collation="C"), "postgresql")


class Moment(TypeDecorator[datetime]):
    """A moment with its time zone, which is UTC; SQLite keeps no time zone of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give the server the moment in UTC."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return the server's moment in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _text(name: str, *arguments: ForeignKey, unique: bool = False) -> Column[str]:
    return Column(name, _TEXT, *arguments, nullable=False, unique=unique)


def _count(name: str, least: int) -> Column[int]:
    return Column(name, Integer, CheckConstraint(f"{name} >= {least}"), nullable=False)


def _moment(name: str, nullable: bool = False) -> Column[datetime]:
    return Column(name, Moment, nullable=nullable)


def _reference(table: str, name: str = "") -> Column[int]:
    return Column(name or f"{table[:-1]}_id", Integer, ForeignKey(f"{table}.id"), nullable=False)


META = Table(
    "meta",
    METADATA,
    Column("schema_version", Integer, primary_key=True, autoincrement=False),
)

DATASETS = Table(
    "datasets",
    METADATA,
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
    "tasks",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("key", unique=True),
    _reference("datasets"),
    _text("name"),
    Column("definition", JSON, nullable=False),
    _count("n_train", 1),
    _count("n_test", 1),
    _count("n_classes", 2),
    Index("tasks_by_dataset", "dataset_id"),
)
"""A task by the hash of its definition (class numbers, train and test indices, resolution)."""

ARCHITECTURES = Table(
    "architectures",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("space"),
    _text("canonical"),
    UniqueConstraint("space", "canonical"),
)
"""One row for all isomorphic networks, under the space's canonical string."""

PROTOCOLS = Table(
    "protocols",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("name", unique=True),
    _text("kind"),
    _text("description"),
    CheckConstraint("kind IN ('accuracy', 'score')", name="known_kind"),
    UniqueConstraint("id", "kind"),
)

SOURCES = Table(
    "sources",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("name", unique=True),
    _text("licence"),
    _text("url"),
    _moment("imported"),
)
"""Where rows come from, and under which licence; they can be left out of a training by name."""

EVALUATIONS = Table(
    "evaluations",
    METADATA,
    Column("id", Integer, primary_key=True),
    _reference("tasks"),
    _reference("architectures"),
    Column("protocol_id", Integer, nullable=False),
    _reference("sources"),
    _text("kind"),
    Column("seed", BigInteger, nullable=False),
    Column("value", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("curve", JSON, nullable=False),
    _text("device"),
    _text("versions"),
    _moment("created"),
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
    # Each answers a question alone, without the rows: what did best, and what there is.
    Index("evaluations_by_task", "task_id", "protocol_id", "architecture_id", "value"),
    Index("evaluations_by_source", "source_id", "protocol_id", "seconds"),
)
"""One measured value. ``curve``: test accuracy after each epoch; ``created``: UTC."""

LATENCIES = Table(
    "latencies",
    METADATA,
    Column("id", Integer, primary_key=True),
    _reference("architectures"),
    _reference("sources"),
    _text("device"),
    _count("batch", 1),
    _count("resolution", 1),
    Column("milliseconds", Double, nullable=False),
    UniqueConstraint("architecture_id", "device", "batch", "resolution", "source_id"),
    CheckConstraint("milliseconds > 0 AND milliseconds <= 1.7e308", name="latency_is_finite"),
)
"""Time that a device takes for one batch. ``batch``: images; ``resolution``: pixels."""

FAILURES = Table(
    "failures",
    METADATA,
    Column("id", Integer, primary_key=True),
    _reference("tasks"),
    _text("labeller"),
    _text("error"),
    _moment("created"),
)
"""A labeller that broke off on a task; what it had measured until then is kept."""

BUILDS = Table(
    "builds",
    METADATA,
    Column("id", Integer, primary_key=True),
    _text("key", unique=True),
    _text("name"),
    Column("plan", JSON, nullable=False),
    Column("datasets", JSON, nullable=False),
    _text("driver"),
    _moment("created"),
)
"""A plan that is or was carried out. ``key``: hash of all of it that makes its rows; ``datasets``:
dataset name to fingerprint; ``driver``: the process that worked on it last."""

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", Integer, primary_key=True),
    _reference("builds"),
    _reference("tasks"),
    _text("labeller"),
    _text("architectures"),
    Column("seed", BigInteger, nullable=False),
    _text("state"),
    Column("owner", _TEXT),
    _moment("lease_until", nullable=True),
    Column("tries", Integer, nullable=False),
    Column("error", _TEXT),
    Column("seconds", Double),
    _moment("ended", nullable=True),
    UniqueConstraint("build_id", "task_id", "labeller", "architectures", "seed"),
    CheckConstraint(f"state IN {STATES}", name="known_state"),
    CheckConstraint(f"tries BETWEEN 0 AND {MAX_TRIES}", name="tries_are_limited"),
    CheckConstraint(
        "(state = 'leased' AND owner IS NOT NULL AND lease_until IS NOT NULL)"
        " OR (state <> 'leased' AND owner IS NULL AND lease_until IS NULL)",
        name="a_lease_has_owner_and_end",
    ),
    CheckConstraint(
        "(state = 'done') = (ended IS NOT NULL AND seconds IS NOT NULL)",
        name="what_is_done_has_an_end",
    ),
    Index("jobs_by_state", "build_id", "state", "id"),
    # How far builds are, and how fast: answered without the rows.
    Index("jobs_by_labeller", "build_id", "state", "labeller", "tries"),
    Index("jobs_by_end", "build_id", "ended", "labeller", "seconds"),
)
"""What a build has to measure. ``architectures``: strings, one a line; ``lease_until`` and
``ended``: UTC; ``seconds``: that the measuring took; ``error``: of the last try that failed."""
