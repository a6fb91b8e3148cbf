"""Verification: every kind of fault is found, named by its row, and nothing is changed."""

from __future__ import annotations

import hashlib
import json
import sqlite3

import numpy as np
import pytest
from filled_store import SPACE, fill, record, write_images
from PIL import Image
from sqlalchemy import text

from database import Store
from database.reading.verify import verify
from metad2a.cli import _db_reading, main
from metad2a.cli.common import Parser
from metad2a.errors import InputError
from metad2a.spaces import SPACES


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("data"))


@pytest.fixture
def store(tmp_path, data):
    with Store(tmp_path / "store.sqlite") as opened:
        opened.tasks = fill(opened, data)
        record(opened, opened.tasks["dots"][0], {0: 0.5, 1: 0.6})
        yield opened


def damage(store, *statements: str) -> None:
    """Write past the constraints, as another program might."""
    connection = sqlite3.connect(store.path)
    connection.execute("PRAGMA ignore_check_constraints = ON")
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def told(store, **options) -> list[tuple[str, int | None, str]]:
    return [(one.table, one.id, one.problem) for one in verify(store, **options)]


def test_a_sound_store_has_no_findings_on_either_server(location, data):
    with Store(location) as store:
        tasks = fill(store, data)
        record(store, tasks["dots"][0], {0: 0.5, 1: 0.6})
        steps = []
        assert verify(store, data, lambda *step: steps.append(step)) == []
    assert [done for done, *_ in steps] == list(range(len(steps)))
    assert steps[-1][:2] == (len(steps) - 1,) * 2
    assert [what for *_, what in steps[-4:]] == ["dots", "dots too", "stripes", ""]


@pytest.mark.parametrize(
    ("change", "table", "problem"),
    [
        (
            "UPDATE evaluations SET value = 1.5 WHERE id = 2",
            "evaluations",
            "it is not true that kind <> 'accuracy' OR value BETWEEN 0 AND 1",
        ),
        ("UPDATE evaluations SET seconds = -1 WHERE id = 2", "evaluations", "seconds BETWEEN"),
        ("UPDATE evaluations SET value = 'much' WHERE id = 2", "evaluations", "value BETWEEN"),
        ("UPDATE evaluations SET curve = '[NaN]' WHERE id = 2", "evaluations", "LIKE"),
        ("UPDATE datasets SET images = 0 WHERE id = 2", "datasets", "images >= 1"),
        ("UPDATE tasks SET n_train = 0 WHERE id = 2", "tasks", "n_train >= 1"),
    ],
    ids=str,
)
def test_rows_that_a_check_would_refuse(store, change, table, problem):
    damage(store, change)
    found = verify(store)
    assert {(one.table, one.id) for one in found} == {(table, 2)}
    assert any(problem in one.problem for one in found)
    assert f"DELETE FROM {table} WHERE id = 2" in found[0].remedy


def test_empty_cells_and_duplicates(store):
    damage(
        store,
        "ALTER TABLE evaluations RENAME TO old",
        "CREATE TABLE evaluations AS SELECT * FROM old",
        "INSERT INTO evaluations SELECT 7, task_id, architecture_id, protocol_id, source_id, "
        "kind, seed, value, seconds, curve, device, versions, created FROM old WHERE id = 1",
        "UPDATE evaluations SET device = NULL WHERE id = 2",
    )
    assert told(store) == [
        ("evaluations", 2, "device is missing"),
        ("evaluations", 7, "its task_id, architecture_id, protocol_id, seed are those of row 1"),
    ]


def test_orphans(store):
    damage(
        store,
        f"DELETE FROM tasks WHERE key = '{store.tasks['dots'][0].key}'",
        "DELETE FROM sources",
        "UPDATE evaluations SET kind = 'score' WHERE id = 2",
    )
    found = told(store)
    assert sorted(found) == [
        ("evaluations", 1, "it refers to 1 in sources, which is gone"),
        ("evaluations", 1, "it refers to 1 in tasks, which is gone"),
        ("evaluations", 2, "it refers to 1 in sources, which is gone"),
        ("evaluations", 2, "it refers to 1 in tasks, which is gone"),
        ("evaluations", 2, "it refers to 1, 'score' in protocols, which is gone"),
    ]


@pytest.mark.parametrize("location", ["postgresql"], indirect=True)
def test_orphans_on_a_server(location, data):
    with Store(location) as store:
        tasks = fill(store, data)
        record(store, tasks["dots"][0], {0: 0.5})
        with store.writing() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))
            connection.execute(text("DELETE FROM tasks WHERE id = 1"))
            connection.execute(
                text("ALTER TABLE evaluations DROP CONSTRAINT accuracy_is_a_fraction")
            )
            connection.execute(text("UPDATE evaluations SET value = 2"))
        assert told(store) == [
            ("evaluations", 1, "it is not true that kind <> 'accuracy' OR value BETWEEN 0 AND 1"),
            ("evaluations", 1, "it refers to 1 in tasks, which is gone"),
        ]


def test_isomorphic_architectures_with_rows_of_their_own(store):
    mirrored = [cell for cell in SPACE.enumerate() if SPACE.canonical(cell) != cell]
    joined, alone = mirrored[0], mirrored[-1]
    rows = {7: SPACE.canonical(joined), 8: joined, 9: alone}
    damage(
        store,
        *(
            f"INSERT INTO architectures VALUES ({number}, 'nasbench201', '{SPACE.format(cell)}')"
            for number, cell in rows.items()
        ),
    )
    assert told(store) == [
        (
            "architectures",
            8,
            f"{SPACE.format(joined)} is isomorphic to "
            f"{SPACE.format(rows[7])}, as row 7 is, under which it belongs",
        ),
        (
            "architectures",
            9,
            f"{SPACE.format(alone)} is isomorphic to "
            f"{SPACE.format(SPACE.canonical(alone))}, under which it belongs",
        ),
    ]


def test_architectures_that_cannot_be_read(store):
    damage(
        store,
        "INSERT INTO architectures VALUES (8, 'nasbench301', 'x')",
        "INSERT INTO architectures VALUES (9, 'nasbench201', '|none~0|')",
    )
    first, second = verify(store)
    known = ", ".join(SPACES.names())
    assert first.problem == f"its space 'nasbench301' is unknown here ({known})"
    assert first.remedy == "Install the version of metad2a that has the space."
    assert second.id == 9
    assert "'|none~0|' is not a NAS-Bench-201 cell" in second.problem


def test_datasets_that_are_gone_or_have_changed(store, tmp_path):
    data = write_images(tmp_path / "data")
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(data / "dots/class 0/0.png")
    (data / "stripes").rename(tmp_path / "elsewhere")
    assert verify(store) == []
    first, second = verify(store, data)
    assert "dots has changed since its tasks were drawn: fingerprint" in first.problem
    assert "stripes cannot be read" in second.problem
    assert f"Restore the images in {str(data / 'stripes')!r}" in second.remedy
    with pytest.raises(InputError, match="is not a folder"):
        verify(store, tmp_path / "nowhere")


def test_an_index_that_does_not_fit_its_table(store):
    damage(
        store,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_schema SET sql = 'CREATE INDEX evaluations_by_protocol ON evaluations "
        "(protocol_id, seed, task_id)' WHERE name = 'evaluations_by_protocol'",
    )
    store.close()  # an open connection knows the schema already
    found = verify(store)
    assert found
    assert {(one.table, one.id) for one in found} == {("the file", None)}
    assert "index evaluations_by_protocol" in found[0].problem
    assert "REINDEX" in found[0].remedy


def test_the_command_counts_findings_and_changes_nothing(store, tmp_path, capsys):
    def run(*rest: str) -> int:
        parser = Parser()
        _db_reading.configure(parser.add_subparsers(dest="action"))
        return _db_reading.RUN["verify"](parser.parse_args(["verify", str(store.path), *rest]))

    assert run() == 0
    assert capsys.readouterr().out == "No fault was found.\n"
    damage(store, "DELETE FROM protocols WHERE id = 1")
    store.close()
    before = hashlib.sha256(store.path.read_bytes()).hexdigest()
    assert run("--json") == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["table"], one["id"]) for one in found] == [("evaluations", 1), ("evaluations", 2)]
    assert run() == 1
    out = capsys.readouterr().out
    assert out.startswith("evaluations 1: it refers to 1, 'accuracy' in protocols, which is gone. ")
    assert out.endswith("2 findings\n")
    assert hashlib.sha256(store.path.read_bytes()).hexdigest() == before


def test_the_command_names_a_row_that_a_constraint_would_refuse(store, capsys):
    damage(store, "UPDATE evaluations SET seconds = -1 WHERE id = 2")
    assert main(["db", "verify", str(store.path), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["table"], one["id"]) for one in findings] == [("evaluations", 2)]
