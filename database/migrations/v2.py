"""Version 2: sources of rows, latencies, distances between tasks, and the jobs of a build."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, text

_MEASURED = text(
    "INSERT INTO sources (name, licence, url, imported) "
    "VALUES ('measured', 'own measurements', '', :now)"
)

_SOURCES = """
CREATE TABLE sources (
    id INTEGER NOT NULL,
    name TEXT NOT NULL,
    licence TEXT NOT NULL,
    url TEXT NOT NULL,
    imported DATETIME NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (name)
)"""

# SQLite adds no column that must refer to another table: the table is made again and filled.
_EVALUATIONS = (
    """
CREATE TABLE evaluations_v2 (
    id INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    architecture_id INTEGER NOT NULL,
    protocol_id INTEGER NOT NULL,
    source_id INTEGER NOT NULL,
    kind TEXT NOT NULL,
    seed BIGINT NOT NULL,
    value DOUBLE NOT NULL,
    seconds DOUBLE NOT NULL,
    curve JSON NOT NULL,
    device TEXT NOT NULL,
    versions TEXT NOT NULL,
    created DATETIME NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (task_id, architecture_id, protocol_id, seed),
    FOREIGN KEY(protocol_id, kind) REFERENCES protocols (id, kind),
    CONSTRAINT value_is_finite CHECK (value BETWEEN -1.7e308 AND 1.7e308),
    CONSTRAINT accuracy_is_a_fraction CHECK (kind <> 'accuracy' OR value BETWEEN 0 AND 1),
    CONSTRAINT seconds_are_finite CHECK (seconds BETWEEN 0 AND 1.7e308),
    CONSTRAINT curve_is_finite CHECK (
        CAST(curve AS TEXT) LIKE '[%]' AND CAST(curve AS TEXT) NOT LIKE '%n%'),
    FOREIGN KEY(task_id) REFERENCES tasks (id),
    FOREIGN KEY(architecture_id) REFERENCES architectures (id),
    FOREIGN KEY(source_id) REFERENCES sources (id)
)""",
    """
INSERT INTO evaluations_v2
SELECT e.id, e.task_id, e.architecture_id, e.protocol_id, s.id, e.kind, e.seed, e.value, e.seconds,
       e.curve, e.device, e.versions, e.created
FROM evaluations AS e CROSS JOIN sources AS s""",
    "DROP TABLE evaluations",
    "ALTER TABLE evaluations_v2 RENAME TO evaluations",
    "CREATE INDEX evaluations_by_protocol ON evaluations (protocol_id, task_id, seed)",
    "CREATE INDEX evaluations_by_task ON evaluations "
    "(task_id, protocol_id, architecture_id, value)",
    "CREATE INDEX evaluations_by_source ON evaluations (source_id, protocol_id, seconds)",
    "CREATE INDEX tasks_by_dataset ON tasks (dataset_id)",
)

_NEW = (
    """
CREATE TABLE latencies (
    id INTEGER NOT NULL,
    architecture_id INTEGER NOT NULL,
    source_id INTEGER NOT NULL,
    device TEXT NOT NULL,
    batch INTEGER NOT NULL CHECK (batch >= 1),
    resolution INTEGER NOT NULL CHECK (resolution >= 1),
    milliseconds DOUBLE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (architecture_id, device, batch, resolution, source_id),
    CONSTRAINT latency_is_finite CHECK (milliseconds > 0 AND milliseconds <= 1.7e308),
    FOREIGN KEY(architecture_id) REFERENCES architectures (id),
    FOREIGN KEY(source_id) REFERENCES sources (id)
)""",
    """
CREATE TABLE distances (
    id INTEGER NOT NULL,
    source_task_id INTEGER NOT NULL,
    target_task_id INTEGER NOT NULL,
    method TEXT NOT NULL,
    value DOUBLE NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (source_task_id, target_task_id, method),
    CONSTRAINT distance_is_a_fraction CHECK (value BETWEEN 0 AND 1),
    FOREIGN KEY(source_task_id) REFERENCES tasks (id),
    FOREIGN KEY(target_task_id) REFERENCES tasks (id)
)""",
    """
CREATE TABLE jobs (
    id INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    labeller TEXT NOT NULL,
    architecture TEXT NOT NULL,
    seed BIGINT NOT NULL,
    state TEXT NOT NULL,
    owner TEXT,
    lease_until DATETIME,
    tries INTEGER NOT NULL,
    error TEXT,
    PRIMARY KEY (id),
    UNIQUE (task_id, labeller, architecture, seed),
    CONSTRAINT known_state CHECK (state IN ('open', 'leased', 'done', 'quarantined')),
    CONSTRAINT tries_are_limited CHECK (tries BETWEEN 0 AND 3),
    CONSTRAINT a_lease_has_owner_and_end CHECK (
        (state = 'leased' AND owner IS NOT NULL AND lease_until IS NOT NULL)
        OR (state <> 'leased' AND owner IS NULL AND lease_until IS NULL)),
    FOREIGN KEY(task_id) REFERENCES tasks (id)
)""",
    "CREATE INDEX jobs_by_state ON jobs (state, id)",
)


def upgrade(connection: Connection) -> None:
    """Make version 2 of version 1, which only SQLite ever held."""
    connection.exec_driver_sql(_SOURCES)
    connection.execute(_MEASURED, {"now": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S.%f}"})
    for statement in (*_EVALUATIONS, *_NEW):
        connection.exec_driver_sql(statement)
