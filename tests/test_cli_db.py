"""``metad2a db``: making, building, counting and exporting."""

from __future__ import annotations

import json

import pytest
from building import make_data, spread, write_plan
from labelling import Quick
from pyarrow import parquet

from database import Store
from database.exchange.rows import stored_rows
from metad2a.cli import main
from search.labellers.base import LABELLERS


class Talkative(Quick):
    """Prints where answers are printed."""

    def measure(self, *arguments):
        print("a library that is talkative")
        yield from super().measure(*arguments)


@pytest.fixture
def quick(monkeypatch):
    LABELLERS.names()  # loads the real ones first
    monkeypatch.setitem(LABELLERS._items, "quick", Talkative())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("data"))


def rows(database) -> list[dict[str, object]]:
    with Store(database, create=False) as store:
        return [dict(row) for row in stored_rows(store, "evaluations")]


@pytest.mark.usefixtures("quick")
def test_init_build_status_and_export(data, tmp_path, capfd):
    database = tmp_path / "db.sqlite"
    assert main(["db", "init", str(database), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["schema_version"] == 3
    plan = write_plan(
        tmp_path / "plan.toml",
        spread("quick", architectures=3),
        tasks={"count": 2, "exclude": ["second"]},
    )
    build = ["db", "build", str(plan), "--data", str(data), "--database", str(database)]
    assert main([*build, "--json"]) == 0
    shown = capfd.readouterr()
    summary = json.loads(shown.out)
    assert [summary[key] for key in ("tasks", "jobs", "evaluations", "stopped")] == [2, 6, 6, False]
    assert "talkative" in shown.err
    assert {row["dataset"] for row in rows(database)} == {"first"}

    assert main(build) == 0
    assert "0 jobs done on 2 tasks, 0 evaluations added" in capfd.readouterr().out

    assert main(["db", "status", str(database), "--json"]) == 0
    counts = json.loads(capfd.readouterr().out)
    assert (counts["tasks"], counts["protocols"]) == (2, {"quick": 6})
    assert counts["builds"][0]["jobs"]["done"] == 6
    assert main(["db", "status", str(database)]) == 0
    assert "evaluations of quick  6\n" in capfd.readouterr().out

    out, tasks = tmp_path / "new" / "rows.parquet", tmp_path / "tasks.parquet"
    assert main(["db", "export", str(database), str(out), "--tasks", str(tasks), "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {
        "evaluations": {"file": str(out), "rows": 6},
        "tasks": {"file": str(tasks), "rows": 2},
    }
    assert (parquet.read_table(out).num_rows, parquet.read_table(tasks).num_rows) == (6, 2)
    assert main(["db", "export", str(database), str(out)]) == 0
    assert capfd.readouterr().out == f"6 evaluations written to {out}\n"


def test_making_a_database_that_is_there_changes_nothing(tmp_path, capsys):
    database = tmp_path / "db.sqlite"
    assert main(["db", "init", str(database)]) == 0
    before = database.read_bytes()
    assert main(["db", "init", str(database)]) == 0
    assert database.read_bytes() == before
    assert "schema version 3" in capsys.readouterr().out


@pytest.mark.parametrize(
    "command",
    [
        ["db", "status", "nothing.sqlite"],
        ["db", "export", "nothing.sqlite", "out.parquet"],
    ],
    ids=" ".join,
)
def test_a_missing_database_is_bad_input_and_is_not_made(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 3
    assert "'nothing.sqlite'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_fails(tmp_path, capsys):
    file = tmp_path / "text.sqlite"
    file.write_text("hello")
    assert main(["db", "status", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "DatabaseError"


def test_an_export_never_overwrites_its_database(tmp_path, capsys):
    database = tmp_path / "db.sqlite"
    Store(database).close()
    before = database.read_bytes()
    assert main(["db", "export", str(database), str(tmp_path / "x" / ".." / "db.sqlite")]) == 3
    assert "must differ" in capsys.readouterr().err
    assert database.read_bytes() == before


def test_a_plan_that_is_not_there_is_bad_input(tmp_path, capsys):
    assert main(["db", "build", str(tmp_path / "no.toml"), "--json"]) == 3
    assert "Give the path of a TOML file" in json.loads(capsys.readouterr().out)["error"]["message"]
