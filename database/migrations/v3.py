"""Version 3: jobs belong to a build, take several architectures, and say when they ended.

No release before it put jobs in line by itself, and jobs are work, not results: the old table goes.
"""

from __future__ import annotations

from sqlalchemy import Connection, text

_NEW = (
    """
CREATE TABLE builds (
    id {key} NOT NULL,
    key {text} NOT NULL,
    name {text} NOT NULL,
    plan JSON NOT NULL,
    datasets JSON NOT NULL,
    driver {text} NOT NULL,
    created {moment} NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (key)
)""",
    """
CREATE TABLE jobs (
    id {key} NOT NULL,
    build_id INTEGER NOT NULL,
    task_id INTEGER NOT NULL,
    labeller {text} NOT NULL,
    architectures {text} NOT NULL,
    seed BIGINT NOT NULL,
    state {text} NOT NULL,
    owner {text},
    lease_until {moment},
    tries INTEGER NOT NULL,
    error {text},
    seconds {real},
    ended {moment},
    PRIMARY KEY (id),
    UNIQUE (build_id, task_id, labeller, architectures, seed),
    CONSTRAINT known_state CHECK (state IN ('open', 'leased', 'done', 'quarantined')),
    CONSTRAINT tries_are_limited CHECK (tries BETWEEN 0 AND 3),
    CONSTRAINT a_lease_has_owner_and_end CHECK (
        (state = 'leased' AND owner IS NOT NULL AND lease_until IS NOT NULL)
        OR (state <> 'leased' AND owner IS NULL AND lease_until IS NULL)),
    CONSTRAINT what_is_done_has_an_end CHECK (
        (state = 'done') = (ended IS NOT NULL AND seconds IS NOT NULL)),
    FOREIGN KEY(build_id) REFERENCES builds (id),
    FOREIGN KEY(task_id) REFERENCES tasks (id)
)""",
    "CREATE INDEX jobs_by_state ON jobs (build_id, state, id)",
    "CREATE INDEX jobs_by_labeller ON jobs (build_id, state, labeller, tries)",
    "CREATE INDEX jobs_by_end ON jobs (build_id, ended, labeller, seconds)",
)
_TYPES = {
    "sqlite": {"key": "INTEGER", "text": "TEXT", "moment": "DATETIME", "real": "DOUBLE"},
    "postgresql": {
        "key": "SERIAL",
        "text": 'TEXT COLLATE "C"',
        "real": "DOUBLE PRECISION",
        "moment": "TIMESTAMP WITH TIME ZONE",
    },
}


def upgrade(connection: Connection) -> None:
    """Make version 3 of version 2."""
    connection.execute(text("DROP TABLE jobs"))
    for statement in _NEW:
        connection.execute(text(statement.format_map(_TYPES[connection.dialect.name])))
