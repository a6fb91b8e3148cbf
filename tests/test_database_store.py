"""The store: what its constraints refuse, what it keeps, and which files it does not open."""

from __future__ import annotations

import multiprocessing
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from conftest import new_location
from sqlalchemy import func, select, text
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from database import RefusedRowError, Store, draw_tasks
from database.exchange.merge import merge
from database.exchange.rows import stored_rows
from database.schema import (
    BUILDS,
    EVALUATIONS,
    FAILURES,
    METADATA,
    SCHEMA_VERSION,
    SOURCES,
)
from database.servers import sqlite
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import Measurement

SPACE = SPACES.get("nasbench201")
CELL = (3, 1, 3, 0, 3, 2)
ACCURACY = Protocol("train-v1", "accuracy", "A training.")
SCORE = Protocol("score-v1", "score", "A score.")


def measured(value=0.5, protocol="train-v1", architecture=CELL, seconds=1.0, curve=(0.2, 0.5)):
    return Measurement(protocol, architecture, 0, value, seconds, curve)


@pytest.fixture(scope="module")
def task_and_dataset():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8)
    dataset = load_dataset(images, np.arange(120) % 6)
    return draw_tasks(dataset, 1, seed=0)[0], dataset


def fill(store, task_and_dataset):
    task, dataset = task_and_dataset
    store.add_dataset(dataset, "noise", 16)
    store.add_task(task)
    store.add_protocol(ACCURACY)
    store.add_protocol(SCORE)


@pytest.fixture
def store(location, task_and_dataset):
    with Store(location) as opened:
        fill(opened, task_and_dataset)
        yield opened


@pytest.fixture
def path(tmp_path, task_and_dataset):
    """A file with one evaluation."""
    with Store(tmp_path / "file.sqlite") as opened:
        fill(opened, task_and_dataset)
        record(opened, task_and_dataset[0], measured())
    return opened.path


def record(store, task, *measurements):
    return store.record(task.key, SPACE, measurements, "cpu", "test 1")


def count(store, table=EVALUATIONS):
    with store.reading() as connection:
        return connection.scalar(select(func.count()).select_from(table))


def rows_of(path: Path) -> int:
    with Store(path, create=False) as opened:
        return count(opened)


def python(script: str, *arguments: Path) -> str:
    """Run a script in a process of its own and return what it printed."""
    return subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        text=True,
        stdout=subprocess.PIPE,
        check=True,
        timeout=120,
    ).stdout


# -- what the server refuses -----------------------------------------------------------------

ROWS = {
    "evaluations": {
        "task_id": 1,
        "architecture_id": 1,
        "protocol_id": 1,
        "source_id": 1,
        "kind": "accuracy",
        "seed": 7,
        "value": 0.5,
        "seconds": 1.0,
        "curve": "[0.5]",
        "device": "cpu",
        "versions": "v",
        "created": "2025-01-01 00:00:00.000000",
    },
    "latencies": {
        "architecture_id": 1,
        "source_id": 1,
        "device": "cpu",
        "batch": 1,
        "resolution": 32,
        "milliseconds": 0.5,
    },
    "builds": {
        "key": "new",
        "name": "n",
        "plan": "{}",
        "datasets": "{}",
        "driver": "d",
        "created": "2025-01-01 00:00:00.000000",
    },
    "jobs": {
        "build_id": 1,
        "task_id": 1,
        "labeller": "train",
        "architectures": "a",
        "seed": 7,
        "state": "leased",
        "owner": "me",
        "lease_until": "2025-01-01 00:00:00.000000",
        "tries": 0,
    },
    "sources": {
        "name": "new",
        "licence": "MIT",
        "url": "",
        "imported": "2025-01-01 00:00:00.000000",
    },
}
LATENCY = {
    "space": SPACE.name,
    "architecture": SPACE.format(CELL),
    "device": "known",
    "batch": 1,
    "resolution": 32,
    "milliseconds": 1.0,
    "source": "measured",
    "licence": "own measurements",
    "url": "",
}
NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request, tmp_path_factory, task_and_dataset):
    """A store whose task, architecture and source have id 1, with a row of seed 0."""
    folder = tmp_path_factory.mktemp("filled")
    with new_location(request.param, request, folder) as place, Store(place) as opened:
        fill(opened, task_and_dataset)
        record(opened, task_and_dataset[0], measured())
        merge(opened, {"latencies": [LATENCY]})
        with opened.writing() as connection:
            connection.execute(
                BUILDS.insert().values(
                    key="known",
                    name="n",
                    plan={},
                    datasets={},
                    driver="d",
                    created=datetime.now(UTC),
                )
            )
        yield opened


def insert(store, table, row):
    """Insert one row in plain SQL, and take it back."""
    statement = text(
        f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(f':{name}' for name in row)})"
    )
    with store.writing() as connection:
        connection.execute(statement, row)
        connection.rollback()


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("evaluations", change)
        for change in [
            {"value": NAN},
            {"value": INF},
            {"value": -INF},
            {"value": 1.2},
            {"value": -0.1},
            {"value": "nan"},
            {"value": b"1"},
            {"seconds": -1.0},
            {"seconds": INF},
            {"seconds": NAN},
            {"curve": "[NaN]"},
            {"curve": "[0.1, Infinity]"},
            {"curve": "null"},
            {"curve": "0.5"},
            {"kind": "score"},
            {"protocol_id": 99},
            {"task_id": 99},
            {"architecture_id": 99},
            {"source_id": 99},
            {"seed": 0},
            {"protocol_id": 2, "kind": "score", "value": INF},
            {"protocol_id": 2, "kind": "score", "value": NAN},
        ]
    ]
    + [
        ("latencies", change)
        for change in [
            {"milliseconds": 0.0},
            {"milliseconds": -1.0},
            {"milliseconds": NAN},
            {"milliseconds": INF},
            {"milliseconds": "nan"},
            {"batch": 0},
            {"resolution": 0},
            {"architecture_id": 99},
            {"source_id": 99},
            {"device": "known"},
        ]
    ]
    + [
        ("jobs", change)
        for change in [
            {"state": "lost"},
            {"state": "open"},
            {"owner": None},
            {"lease_until": None},
            {"state": "done", "owner": None},
            {"tries": 4},
            {"tries": -1},
            {"task_id": 99},
            {"build_id": 99},
            {"seconds": 1.0, "ended": "2025-01-01 00:00:00.000000"},
        ]
    ]
    + [("builds", {"key": "known"}), ("sources", {"name": "measured"})],
    ids=str,
)
def test_the_server_refuses_impossible_rows(filled, table, change):
    with pytest.raises(DatabaseError) as refused:
        insert(filled, table, ROWS[table] | change)
    assert isinstance(refused.value.__cause__, (IntegrityError, DataError, ProgrammingError))
    insert(filled, table, ROWS[table])  # the unchanged row is a good one


@pytest.mark.parametrize("table", ROWS)
def test_the_server_refuses_half_a_row(filled, table):
    # Of a job, and most of them only together: see above.
    optional = {"owner", "lease_until", "error", "seconds", "ended"}
    for missing in ROWS[table].keys() - optional:
        for row in (
            {**ROWS[table], missing: None},
            {name: value for name, value in ROWS[table].items() if name != missing},
        ):
            with pytest.raises(DatabaseError, match=r"(?i)not.null"):
                insert(filled, table, row)


# -- what the store keeps --------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        measured(NAN),
        measured(1.2),
        measured(-1e-9),
        measured(seconds=-1.0),
        measured(curve=(0.1, NAN)),
        measured(-INF, "score-v1"),
    ],
    ids=lambda one: f"{one.protocol}-{one.value}-{one.seconds}",
)
def test_a_refused_row_takes_its_whole_batch_with_it(store, task_and_dataset, bad):
    good = measured(0.9, architecture=(3,) * 6)
    with pytest.raises(RefusedRowError, match="must be finite, an accuracy a fraction"):
        record(store, task_and_dataset[0], good, bad)
    assert count(store) == 0


def test_scores_may_be_any_finite_number(store, task_and_dataset):
    task, _ = task_and_dataset
    record(store, task, measured(-1e300, "score-v1"), measured(1e300, "score-v1", (3,) * 6))
    with store.reading() as connection:
        assert sorted(connection.scalars(select(EVALUATIONS.c.value))) == [-1e300, 1e300]


def test_isomorphic_cells_are_one_row_and_a_conflict_is_not_written(store, task_and_dataset):
    task, _ = task_and_dataset
    mirrored = next(cell for cell in SPACE.enumerate() if SPACE.canonical(cell) != cell)
    canonical = SPACE.canonical(mirrored)
    assert record(store, task, measured(0.5, architecture=canonical)).new == 1
    again = record(store, task, measured(0.5, architecture=mirrored))
    assert (again.new, again.known, again.conflicts) == (0, 1, ())
    other = record(store, task, measured(0.6, architecture=mirrored))
    assert (other.new, other.known) == (0, 0)
    assert "0.5 is kept, 0.6 refused" in other.conflicts[0]
    with store.reading() as connection:
        assert connection.scalars(select(EVALUATIONS.c.value)).all() == [0.5]
    assert count(store, METADATA.tables["architectures"]) == 1
    assert list(store.measured(task.key, "train-v1", 0)) == [SPACE.format(canonical)]
    assert store.measured(task.key, "train-v1", 1) == store.measured(task.key, "score-v1", 0) == {}


def test_unknown_names_and_changed_protocols_are_refused(store, task_and_dataset):
    task, _ = task_and_dataset
    with pytest.raises(DatabaseError, match="add it first"):
        record(store, task, measured(protocol="train-v2"))
    with pytest.raises(DatabaseError, match="add it first"):
        store.record("no such key", SPACE, [measured()], "cpu", "v")
    store.add_protocol(ACCURACY)
    with pytest.raises(DatabaseError, match="give the new one a new name"):
        store.add_protocol(Protocol("train-v1", "score", "A training."))


def test_rows_are_marked_with_their_source(store, task_and_dataset):
    task, _ = task_and_dataset
    record(store, task, measured(architecture=(3,) * 6))
    (own,) = stored_rows(store, "evaluations")
    bench = {
        **own,
        "architecture": SPACE.format(CELL),
        "source": "bench",
        "licence": "MIT",
        "url": "https://example.org",
    }
    for _ in range(2):
        merge(store, {"evaluations": [bench]})
    with pytest.raises(DatabaseError, match=r"The source 'bench' .* never changes"):
        merge(store, {"evaluations": [bench | {"licence": "Apache-2.0"}]})
    with store.reading() as connection:
        found = connection.scalars(
            select(SOURCES.c.name).join_from(EVALUATIONS, SOURCES).order_by(SOURCES.c.name)
        )
        assert found.all() == ["bench", "measured"]


def test_a_failure_is_kept_whatever_its_text(store, task_and_dataset):
    store.add_failure(task_and_dataset[0].key, "train", "ValueError: \0 in \udcff.png")
    with store.reading() as connection:
        error, created = connection.execute(select(FAILURES.c.error, FAILURES.c.created)).one()
        assert abs(store.now(connection) - created) < timedelta(hours=1)
    assert error == "ValueError:  in ?.png"
    assert created.tzinfo == UTC


def test_an_error_takes_back_all_that_a_transaction_wrote(store, task_and_dataset):
    with pytest.raises(KeyError), store.writing() as connection:
        connection.execute(
            FAILURES.insert().values(
                task_id=1, labeller="train", error="", created=store.now(connection)
            )
        )
        raise KeyError
    assert count(store, FAILURES) == 0


def test_what_is_read_in_one_transaction_is_one_state(store, task_and_dataset):
    query = select(func.count()).select_from(EVALUATIONS)
    with store.reading() as connection:
        assert connection.scalar(query) == 0
        record(store, task_and_dataset[0], measured())
        assert connection.scalar(query) == 0
    assert count(store) == 1


def test_a_store_is_opened_and_read_while_another_writes(store, location, task_and_dataset):
    with store.writing() as connection:
        connection.execute(
            FAILURES.insert().values(
                task_id=1, labeller="train", error="", created=store.now(connection)
            )
        )
        with Store(location) as other:
            assert count(other, FAILURES) == 0
    assert count(store, FAILURES) == 1


def test_reopening_keeps_the_rows(store, location, task_and_dataset):
    record(store, task_and_dataset[0], measured())
    assert store.size() > 4096
    store.close()
    with Store(location, create=False) as again:
        assert count(again) == 1
        assert count(again, SOURCES) == 1


def create(place, start):
    """Make a database at the moment at which others do."""
    start.wait(120)
    Store(place)


def test_many_processes_may_create_one_database_at_once(location):
    context = multiprocessing.get_context("forkserver")
    # What takes long to import is imported once, not by every process.
    context.set_forkserver_preload(["pytest", "psycopg", "database", "search.labels"])
    start = context.Barrier(4)
    children = [context.Process(target=create, args=(location, start)) for _ in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(120)
        assert child.exitcode == 0
    with Store(location, create=False) as opened:
        assert count(opened, METADATA.tables["meta"]) == 1


@pytest.mark.parametrize("version", [SCHEMA_VERSION - 1, SCHEMA_VERSION + 1])
def test_another_schema_is_refused_untouched(location, version):
    with Store(location) as opened, opened.writing() as connection:
        connection.execute(text(f"UPDATE meta SET schema_version = {version}"))
    told = rf"schema version {version}; this program reads {SCHEMA_VERSION} alone.*db export.*db import"
    with pytest.raises(DatabaseError, match=told):
        Store(location)
    with opened.reading() as connection:
        assert connection.scalar(text("SELECT schema_version FROM meta")) == version
    opened.close()


def test_a_database_of_another_program_is_refused_untouched(location):
    with Store(location) as opened, opened.writing() as connection:
        METADATA.drop_all(connection)
        connection.execute(text("CREATE TABLE meta (songs INTEGER)"))
    with pytest.raises(DatabaseError, match="not a metad2a database"):
        Store(location)
    with opened.reading() as connection:
        assert connection.execute(text("SELECT songs FROM meta")).all() == []
    opened.close()


def test_an_empty_database_is_only_filled_when_asked(location):
    with Store(location) as opened, opened.writing() as connection:
        METADATA.drop_all(connection)
    with pytest.raises(DatabaseError, match="it is empty"):
        Store(location, create=False)
    Store(location).close()
    Store(location, create=False).close()


# -- files -----------------------------------------------------------------------------------


def test_a_missing_file_is_only_created_when_asked(tmp_path):
    path = tmp_path / "new" / "store.sqlite"
    with pytest.raises(DatabaseError, match="no database"):
        Store(path, create=False)
    assert not path.parent.exists()
    Store(path).close()
    assert path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 not a database",
        b"SQLite format 3\0" + b"\1" * 600,
    ],
    ids=["another format", "garbage under the right header"],
)
def test_a_file_that_is_no_database_is_refused_untouched(tmp_path, content):
    path = tmp_path / "store.sqlite"
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"not a database|damaged"):
        Store(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("share", [0.001, 0.3, 0.8])
def test_a_truncated_file_is_refused_untouched(path, share):
    content = path.read_bytes()[: int(share * path.stat().st_size)]
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"(damaged|is not a database).*"):
        Store(path)
    assert path.read_bytes() == content


def test_flipped_bytes_are_refused_untouched(path):
    content = bytearray(path.read_bytes())
    content[4096 + 1 : 4096 + 300] = bytes(299 * [0xAA])
    path.write_bytes(content)
    with pytest.raises(DatabaseError, match=r"damaged.*Restore a backup"):
        Store(path)
    assert path.read_bytes() == content


def test_a_copy_without_its_log_opens_at_its_last_checkpoint(path, task_and_dataset):
    with Store(path) as opened:
        record(opened, task_and_dataset[0], measured(architecture=(3,) * 6))
        copy = shutil.copy(path, path.with_name("copy.sqlite"))
        assert path.with_name(f"{path.name}-wal").stat().st_size > 0
    assert rows_of(copy) == 1
    assert rows_of(path) == 2


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DatabaseError, match="Cannot open"):
        Store(tmp_path)


@pytest.mark.parametrize("locked", ["file", "folder"])
def test_a_read_only_file_is_refused_untouched(path, locked):
    script = """
import os, sys
from database.store import Store
from metad2a.errors import DatabaseError
if hasattr(os, "geteuid") and os.geteuid() == 0:
    os.seteuid(65534)  # permissions do not bind the administrator
try:
    Store(sys.argv[1])
except DatabaseError as error:
    print(error)
"""
    # Not in pytest's own folder, which no other user may enter.
    with tempfile.TemporaryDirectory() as name:
        folder, copy = Path(name), Path(shutil.copy(path, name))
        copy.chmod(0o444 if locked == "file" else 0o666)
        folder.chmod(0o777 if locked == "file" else 0o555)
        answer = python(script, copy)
        folder.chmod(0o700)
        assert copy.read_bytes() == path.read_bytes()
        assert list(folder.iterdir()) == [copy]
    assert "Cannot open" in answer
    assert "may be written" in answer


def test_a_network_file_system_is_refused(tmp_path, monkeypatch):
    mounts = tmp_path / "mountinfo"
    monkeypatch.setattr(sqlite, "_MOUNTS", mounts)
    (tmp_path / "a b").mkdir()
    shared = f"{tmp_path}/a\\040b"
    line = "36 35 98:0 / {} rw,noatime shared:1 - {} /dev/x rw\n"
    mounts.write_text(line.format("/", "ext4") + line.format(shared, "nfs4"))
    with pytest.raises(DatabaseError, match=r"\(nfs4\).*local disk, or on a PostgreSQL server"):
        Store(tmp_path / "a b" / "store.sqlite")
    assert not list((tmp_path / "a b").iterdir())
    Store(tmp_path / "store.sqlite").close()
    mounts.unlink()
    Store(tmp_path / "a b" / "store.sqlite").close()


def test_a_full_disk_leaves_the_store_as_it_was(path):
    script = """
import resource, sys
from database.store import Store
from metad2a.errors import DatabaseError
with Store(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    try:
        with store.writing() as connection:
            for number in range(200):
                connection.exec_driver_sql(
                    "INSERT INTO architectures (space, canonical) VALUES ('s', ?)",
                    (str(number) * 9999,))
    except DatabaseError as error:
        print(error)
    print(len(store.measured("", "", 0)), "rows read after it")
"""
    answer = python(script, path)
    assert "Check that the disk has room" in answer
    assert "0 rows read after it" in answer
    with Store(path) as opened:
        assert count(opened, METADATA.tables["architectures"]) == 1
