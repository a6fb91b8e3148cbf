"""Stores of an earlier schema: upgraded when opened, after a copy, or left as they were."""

from __future__ import annotations

import re
import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from database import Store, _connection
from database.migrations import MIGRATIONS
from database.schema import SCHEMA_VERSION
from metad2a.errors import DatabaseError
from metad2a.spaces import SPACES
from search.labels import Measurement

FROZEN = Path(__file__).parent / "assets"
VERSIONS = sorted(MIGRATIONS)
EVALUATIONS = (
    "SELECT id, task_id, architecture_id, protocol_id, kind, seed, value, seconds, "
    "curve, device, versions, created FROM evaluations ORDER BY id"
)
KEPT = {
    "evaluations": EVALUATIONS,
    **{
        table: f"SELECT * FROM {table} ORDER BY id"
        for table in ("datasets", "tasks", "architectures", "protocols", "failures")
    },
}


def rows(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def contents(path: Path) -> dict[str, list[tuple]]:
    return {table: rows(path, query) for table, query in KEPT.items()}


def schema(path: Path) -> dict[str, list[str]]:
    """Return what each table and index is made of, whatever its layout and order."""
    made = rows(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {
        name: sorted(
            re.split(
                r",\s",
                re.sub(r"[\s\"]+", " ", sql)
                .replace("( ", "(")
                .replace(" )", ")")
                .replace(f"TABLE {name}(", "")
                .strip(),
            )
        )
        for name, sql in made
    }


@pytest.fixture(params=[version - 1 for version in VERSIONS], ids=lambda version: f"v{version}")
def old(request, tmp_path):
    """A copy of a frozen store of an earlier version, written by the release that had it."""
    return Path(shutil.copy(FROZEN / f"db_v{request.param}.sqlite", tmp_path / "store.sqlite"))


def test_every_version_has_its_migration_and_its_frozen_store():
    assert [*range(VERSIONS[0], SCHEMA_VERSION + 1)] == VERSIONS
    assert all((FROZEN / f"db_v{version - 1}.sqlite").exists() for version in VERSIONS)


def test_an_old_store_is_upgraded_and_keeps_its_rows(old, caplog):
    before = contents(old)
    ((version,),) = rows(old, "SELECT schema_version FROM meta")
    assert [len(before[table]) for table in ("tasks", "evaluations", "failures")] == [2, 20, 1]
    Store(old).close()
    assert contents(old) == before
    assert rows(old, "SELECT schema_version FROM meta") == [(SCHEMA_VERSION,)]
    assert rows(
        old,
        "SELECT name, count(*) FROM evaluations JOIN sources s ON s.id = source_id GROUP BY name",
    ) == [("measured", 20)]
    assert rows(old, "PRAGMA foreign_key_check") == []
    assert f"was upgraded from schema version {version} to {SCHEMA_VERSION}" in caplog.text


def test_an_upgraded_store_is_what_a_new_one_is(old, tmp_path):
    Store(old).close()
    Store(tmp_path / "new.sqlite").close()
    assert schema(old) == schema(tmp_path / "new.sqlite")


def test_the_copy_is_the_store_as_it_was(old):
    before = contents(old)
    version = rows(old, "SELECT schema_version FROM meta")
    Store(old).close()
    Store(old).close()  # no second copy
    copies = sorted(path.name for path in old.parent.iterdir())
    assert copies == ["store.sqlite", f"store.sqlite.v{version[0][0]}.bak"]
    copy = old.with_name(copies[1])
    assert contents(copy) == before
    assert rows(copy, "SELECT schema_version FROM meta") == version
    assert rows(copy, "PRAGMA integrity_check") == [("ok",)]


def test_an_upgraded_store_goes_on(old):
    space = SPACES.get("nasbench201")
    ((task,),) = rows(old, "SELECT key FROM tasks WHERE id = 1")
    ((protocol,),) = rows(old, "SELECT name FROM protocols WHERE id = 1")
    value = Measurement(protocol, (3,) * 6, 123, 0.5, 1.0, ())
    with Store(old) as store:
        assert store.record(task, space, [value], "cpu", "v").new == 1
    with Store(old) as store:
        assert store.record(task, space, [value], "cpu", "v").known == 1


def broken(connection):
    MIGRATIONS[SCHEMA_VERSION](connection)
    connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")


@pytest.mark.parametrize("fault", ["migration", "copy"])
def test_an_upgrade_that_breaks_off_leaves_the_store_as_it_was(old, monkeypatch, fault):
    before, made = contents(old), schema(old)
    ((version,),) = rows(old, "SELECT schema_version FROM meta")
    in_the_way = old.with_name(f"{old.name}.v{version}.bak")
    with monkeypatch.context() as patch:
        if fault == "migration":
            patch.setattr(_connection, "MIGRATIONS", {**MIGRATIONS, SCHEMA_VERSION: broken})
        else:
            in_the_way.mkdir()
        with pytest.raises(DatabaseError, match="Cannot open"):
            Store(old)
    assert contents(old) == before
    assert schema(old) == made
    if fault == "copy":
        in_the_way.rmdir()
    Store(old).close()  # the next one goes through
    assert rows(old, "SELECT schema_version FROM meta") == [(SCHEMA_VERSION,)]


def test_several_may_open_an_old_store_at_once(old):
    before = contents(old)
    with ThreadPoolExecutor(4) as pool:
        for store in pool.map(Store, [old] * 4):
            store.close()
    assert contents(old) == before


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_other_versions_are_refused_untouched(old, version):
    with closing(sqlite3.connect(old)) as connection:
        connection.execute("UPDATE meta SET schema_version = ?", (version,))
        connection.commit()
    before = contents(old), schema(old)
    with pytest.raises(DatabaseError, match=rf"schema version {version}; .*Update metad2a"):
        Store(old)
    assert (contents(old), schema(old)) == before
    assert [path.name for path in old.parent.iterdir()] == [old.name]
