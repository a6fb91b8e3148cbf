"""Imports and merges: the way back is exact, twice is once, and an error leaves the store alone."""

from __future__ import annotations

import json
from importlib import resources

import numpy as np
import pyarrow.compute as pc
import pytest
from pyarrow import parquet

from database import RefusedRowError, Store, draw_tasks, export
from database.exchange.files import import_files
from database.exchange.merge import is_database, merge, merge_store
from database.exchange.rows import TABLES, Sources, stored_rows
from metad2a.cli import _db_exchange
from metad2a.cli.common import Parser
from metad2a.datasets import load_dataset
from metad2a.errors import DatabaseError, InputError, MetaD2AError
from metad2a.protocol import Protocol
from metad2a.spaces import SPACES
from search.labellers.base import LABELLERS, Measurement

SPACE = SPACES.get("nasbench201")
CELLS = [(3, 1, 3, 0, 3, 2), (3,) * 6, (2, 2, 1, 3, 1, 4)]
FORMS = [".parquet", ".jsonl"]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A store with two tasks, six accuracies and a latency; only read."""
    rng = np.random.default_rng(0)
    dataset = load_dataset(
        rng.integers(0, 256, (120, 16, 16, 3), dtype=np.uint8), np.arange(120) % 6
    )
    with Store(tmp_path_factory.mktemp("original") / "store.sqlite") as store:
        store.add_dataset(dataset, "noise", 16)
        store.add_protocol(Protocol("train-v1", "accuracy", "A training."))
        tasks = draw_tasks(dataset, 2, seed=0)
        for task in tasks:
            store.add_task(task)
            store.record(
                task.key,
                SPACE,
                [
                    Measurement("train-v1", cell, seed, 1 / (seed + 3), 0.1, (0.1, 1 / 3))
                    for seed, cell in enumerate(CELLS)
                ],
                "cpu",
                "test 1",
            )
        merge(
            store,
            {
                "latencies": [
                    {
                        "space": SPACE.name,
                        "architecture": SPACE.format(CELLS[0]),
                        "device": "fpga",
                        "batch": 1,
                        "resolution": 32,
                        "milliseconds": 2 / 3,
                        "source": "journal",
                        "licence": "MIT",
                        "url": "",
                    }
                ],
            },
        )
        yield store


@pytest.fixture
def copy(tmp_path):
    with Store(tmp_path / "copy.sqlite") as store:
        yield store


def everything(store):
    return {table: [dict(row) for row in stored_rows(store, table, Sources())] for table in TABLES}


def counts(found):
    return {table: (one.new, one.known, len(one.conflicts)) for table, one in found.items()}


def written(store, folder, suffix, tables=TABLES):
    for table in tables:
        export(store, folder / f"{table}{suffix}", table)
    return [folder / f"{table}{suffix}" for table in tables]


NEW = {"tasks": (2, 0, 0), "evaluations": (6, 0, 0), "latencies": (1, 0, 0)}
KNOWN = {table: (0, new, 0) for table, (new, _, _) in NEW.items()}


@pytest.mark.parametrize("suffix", FORMS)
def test_the_way_back_is_exact_and_twice_is_once(original, copy, tmp_path, suffix):
    files = written(original, tmp_path, suffix)
    assert counts(import_files(copy, reversed(files))) == NEW
    assert everything(copy) == everything(original)
    assert counts(import_files(copy, files)) == KNOWN
    assert everything(copy) == everything(original)


def test_either_server_takes_rows_and_names_a_bad_one(original, location):
    with Store(location) as store:
        assert counts(merge_store(store, original)) == NEW
        assert everything(store) == everything(original)
        assert counts(merge_store(store, original)) == KNOWN
        row = everything(original)["evaluations"][0]
        with pytest.raises(RefusedRowError, match="Row 2 of evaluations is refused"):
            merge(
                store,
                {
                    "evaluations": [
                        {**row, "seed": 2**40},
                        {**row, "seed": 9, "value": float("nan")},
                    ]
                },
            )
        conflict = merge(store, {"evaluations": [{**row, "value": 0.9}]})["evaluations"]
        assert "0.9 refused" in conflict.conflicts[0]
        assert everything(store) == everything(original)


def test_tasks_may_come_before_their_rows(original, copy, tmp_path):
    tasks, evaluations, *_ = written(original, tmp_path, ".parquet")
    with pytest.raises(DatabaseError, match=r"is not stored. Import the file of tasks"):
        import_files(copy, [evaluations])
    import_files(copy, [tasks])
    assert counts(import_files(copy, [evaluations])) == {"evaluations": (6, 0, 0)}


@pytest.mark.parametrize("suffix", FORMS)
def test_files_of_an_empty_store_are_imported(copy, tmp_path, suffix):
    files = written(copy, tmp_path, suffix)
    assert set(counts(import_files(copy, files)).values()) == {(0, 0, 0)}


# -- files that are refused ------------------------------------------------------------------


def change_parquet(path, change):
    """Change the rows and the description of a Parquet file, keeping the rest."""
    table = parquet.read_table(path)
    found, about = change(table.to_pylist(), dict(table.schema.metadata))
    import pyarrow as pa

    schema = table.schema.with_metadata(about)
    kept = set(found[0]) & set(schema.names) == set(schema.names) == set(found[0])
    changed = (
        pa.Table.from_pylist(found, schema=schema)
        if kept
        else pa.Table.from_pylist(found).replace_schema_metadata(about)
    )
    parquet.write_table(changed, path)


def change_jsonl(path, change):
    head, *lines = map(json.loads, path.read_text().splitlines())
    about = {key.encode(): str(value).encode() for key, value in head.items()}
    found, about = change(lines, about)
    head |= {
        key.decode(): value.decode() for key, value in about.items() if key.startswith(b"metad2a")
    }
    path.write_text("\n".join(map(json.dumps, [head, *found])) + "\n")


def without(name):
    return lambda found, about: (
        [{k: v for k, v in row.items() if k != name} for row in found],
        about,
    )


def with_value(name, value, place=-1):
    def change(found, about):
        found[place][name] = value
        return found, about

    return change


def with_column(found, about):
    return [{**row, "mood": 1} for row in found], about


def with_about(key, value):
    return lambda found, about: (found, {**about, key: value})


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("evaluations", without("seed"), r"not the columns of evaluations \(missing: seed\)"),
        ("tasks", with_column, r"not known: mood"),
        ("evaluations", with_about(b"metad2a_format", b"1"), "export it again with this program"),
        ("evaluations", with_about(b"metad2a_format", b"3"), "format '3'.*update metad2a"),
        ("evaluations", with_about(b"metad2a_table", b"songs"), "'songs'"),
        (
            "evaluations",
            with_value("value", 1.5),
            "Row 6 of evaluations is refused.*a fraction 0..1",
        ),
        ("evaluations", with_value("value", float("nan"), 2), "Row 3 of evaluations is refused"),
        ("evaluations", with_value("curve", [float("inf")]), "Row 6 of evaluations is refused"),
        ("evaluations", with_value("kind", "mood", 0), "Row 1 of evaluations is refused"),
        (
            "evaluations",
            with_value("description", "Another."),
            "What a name stands for never changes",
        ),
        ("evaluations", with_value("licence", "GPL"), "What a name stands for never changes"),
        ("evaluations", with_value("space", "nasbench102", 3), "Row 4.*Did you mean 'nasbench201'"),
        ("evaluations", with_value("architecture", "|x~0|"), "Row 6"),
        ("evaluations", with_value("task", "no such"), "'no such' is not stored"),
        ("evaluations", with_value("value", None), "row 6: column 'value' holds 'None'"),
        ("latencies", with_value("milliseconds", 0.0), "Row 1 of latencies is refused"),
        ("latencies", with_value("batch", 0), "Row 1 of latencies is refused"),
        ("tasks", with_value("resolution", 17), "Row 2 of tasks.*its definition gives"),
        ("tasks", with_value("train_images", 3), "train_images is 3, but"),
        ("tasks", with_value("dataset_images", 0, 0), "Row 1 of tasks is refused"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_file_is_refused_and_the_store_untouched(
    original, copy, tmp_path, suffix, table, change, message
):
    files = written(original, tmp_path, suffix)
    bad = tmp_path / f"{table}{suffix}"
    (change_parquet if suffix == ".parquet" else change_jsonl)(bad, change)
    with pytest.raises(MetaD2AError, match=message):
        import_files(copy, files)
    assert everything(copy) == {name: [] for name in TABLES}
    with copy.reading() as connection:
        assert {
            name: connection.exec_driver_sql(f"SELECT count(*) FROM {name}").scalar()
            for name in ("datasets", "architectures", "protocols", "sources")
        } == {"datasets": 0, "architectures": 0, "protocols": 0, "sources": 1}
    assert counts(merge_store(copy, original)) == NEW  # it can still be written


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("seed", "7", "a whole number"),
        ("seed", 1.5, "a whole number"),
        ("seed", True, "a whole"),
        ("seed", 2**70, "a whole number"),
        ("value", "0.5", "a number"),
        ("curve", "0.5", "a list of numbers"),
        ("curve", [0.5, "x"], "a list of numbers"),
        ("device", 3, "a text"),
        ("created", "yesterday", "a time such as"),
        ("created", "2025-01-01T00:00:00", "a time such as"),
    ],
    ids=str,
)
def test_a_value_of_another_kind_is_named(original, copy, tmp_path, name, value, wanted):
    files = written(original, tmp_path, ".jsonl")
    change_jsonl(files[1], with_value(name, value, 4))
    with pytest.raises(InputError, match=f"row 5: column '{name}' holds .* is not {wanted}"):
        import_files(copy, files)


@pytest.mark.parametrize("suffix", FORMS)
@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(original, copy, tmp_path, suffix, share):
    tasks, evaluations, *_ = written(original, tmp_path, suffix)
    content = evaluations.read_bytes()
    evaluations.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"xport"):
        import_files(copy, [tasks, evaluations])
    assert everything(copy)["tasks"] == []


def test_lost_lines_and_odd_lines_are_refused(original, copy, tmp_path):
    tasks, evaluations, *_ = written(original, tmp_path, ".jsonl")
    lines = evaluations.read_text().splitlines(keepends=True)
    for content, message in (
        (lines[:-1], "cut off or was changed: it has 5 rows"),
        (lines + lines[-1:], "it has 7 rows"),
        (lines[1:], "was not written by"),
        ([*lines[:2], "[1]\n"], "line 3, is not a JSON object"),
        ([*lines[:3], '{"seed": 1}\n'], "row 3: other columns than in row 1"),
    ):
        evaluations.write_text("".join(content))
        with pytest.raises(InputError, match=message):
            import_files(copy, [tasks, evaluations])
    evaluations.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as text"):
        import_files(copy, [evaluations])


def test_missing_foreign_and_doubled_files_are_refused(original, copy, tmp_path):
    tasks, *_ = written(original, tmp_path, ".parquet")
    (tmp_path / "again.parquet").write_bytes(tasks.read_bytes())
    parquet.write_table(
        parquet.read_table(tasks).replace_schema_metadata(), tmp_path / "other.parquet"
    )
    for files, message in (
        ([tmp_path / "none.parquet"], "There is no file"),
        ([tmp_path / "e.csv"], "does not say its form"),
        ([tasks, tmp_path / "again.parquet"], "is a second file of tasks"),
        ([tmp_path / "other.parquet"], "was not written by `metad2a db export`"),
    ):
        with pytest.raises(InputError, match=message):
            import_files(copy, files)


# -- merging ---------------------------------------------------------------------------------


def test_a_conflict_is_reported_and_never_overwritten(original, copy):
    merge_store(copy, original)
    before = everything(copy)
    evaluation, latency = (dict(before[table][0]) for table in ("evaluations", "latencies"))
    found = merge(
        copy,
        {
            "evaluations": [
                {**evaluation, "value": 0.9},
                {**evaluation, "seed": 50, "value": 0.9},
                {**evaluation, "source": "journal", "licence": "MIT"},
            ],
            "latencies": [{**latency, "milliseconds": 9.0}],
        },
    )
    assert counts(found) == {"evaluations": (1, 1, 1), "latencies": (0, 0, 1)}
    (conflict,) = found["evaluations"].conflicts
    assert f"{evaluation['value']!r} is kept, 0.9 refused" in conflict
    assert evaluation["architecture"] in conflict and evaluation["task"] in conflict
    after = everything(copy)
    assert [row for row in after["evaluations"] if row["seed"] != 50] == before["evaluations"]
    assert after["latencies"] == before["latencies"]


def test_rows_that_disagree_within_one_import_are_a_conflict(original, copy):
    tables = everything(original)
    row = tables["evaluations"][0]
    tables["evaluations"] += [{**row, "value": 0.9}, row]
    assert counts(merge(copy, tables))["evaluations"] == (6, 1, 1)
    assert everything(copy) == everything(original)


def test_isomorphic_cells_are_one_architecture(original, copy):
    merge_store(copy, original)
    mirrored = next(cell for cell in SPACE.enumerate() if SPACE.canonical(cell) != cell)
    row = {**everything(original)["evaluations"][0], "seed": 7}
    found = merge(
        copy,
        {
            "evaluations": [
                {**row, "architecture": SPACE.format(cell)}
                for cell in (mirrored, SPACE.canonical(mirrored))
            ]
        },
    )
    assert counts(found) == {"evaluations": (1, 1, 0)}


def test_sources_can_be_left_out_of_a_merge(original, copy):
    found = merge_store(copy, original, Sources(exclude=["journal"]))
    assert counts(found) == {**NEW, "latencies": (0, 0, 0)}
    with pytest.raises(InputError, match="Did you mean 'journal'"):
        merge_store(copy, original, Sources(only=["jurnal"]))


def test_merging_in_chunks_equals_merging_at_once(original, copy, monkeypatch):
    monkeypatch.setattr("database.records._CHUNK", 2)
    tables = everything(original)
    assert counts(merge(copy, tables)) == NEW
    bad = {**tables["evaluations"][0], "value": 2.0}
    new = [{**row, "seed": row["seed"] + 10} for row in tables["evaluations"]]
    with pytest.raises(RefusedRowError, match="Row 6 of evaluations"):
        merge(copy, {"evaluations": [*new[:5], {**bad, "seed": 70}]})
    assert everything(copy) == everything(original)  # not even the chunks before it


def test_what_a_database_is(original, tmp_path):
    assert is_database(str(original.path)) and is_database("postgresql+psycopg://u@h/d")
    (tmp_path / "e.jsonl").write_text("{}")
    assert not is_database(str(tmp_path / "e.jsonl"))


# -- the commands ----------------------------------------------------------------------------


def run(*words):
    parser = Parser()
    _db_exchange.configure(parser.add_subparsers(dest="action"))
    args = parser.parse_args([*map(str, words), "--json"])
    return _db_exchange.RUN[args.action](args)


def test_commands_export_import_and_merge(original, tmp_path, capsys):
    names = [tmp_path / f"{table}.jsonl" for table in ("evaluations", "tasks", "latencies")]
    assert (
        run(
            "export",
            original.path,
            names[0],
            "--tasks",
            names[1],
            "--latencies",
            names[2],
            "--exclude-source",
            "journal",
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["latencies"] == {"file": str(names[2]), "rows": 0}

    copy = tmp_path / "copy.sqlite"
    assert run("import", copy, *names) == 0
    assert json.loads(capsys.readouterr().out)["evaluations"] == {
        "new": 6,
        "known": 0,
        "conflicts": [],
    }
    assert run("import", copy, original.path) == 0
    assert json.loads(capsys.readouterr().out)["latencies"]["new"] == 1
    with Store(copy) as store:
        assert everything(store) == everything(original)

    change_jsonl(names[0], with_value("value", 0.125))
    assert run("import", copy, names[0]) == 1
    (conflict,) = json.loads(capsys.readouterr().out)["evaluations"]["conflicts"]
    assert "0.125 refused" in conflict


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.jsonl"], "no file 'none.jsonl'"),
        (["a.jsonl", "--from", "nasbench"], "Did you mean"),
        (["{original}", "{original}"], "One other database"),
    ],
)
def test_command_errors_are_the_users(original, tmp_path, words, message):
    words = [word.format(original=original.path) for word in words]
    with pytest.raises(InputError, match=message):
        run("import", tmp_path / "copy.sqlite", *words)


def test_an_export_never_writes_over_the_database(original, tmp_path):
    with pytest.raises(InputError, match="must differ"):
        run("export", original.path, tmp_path / "e.jsonl", "--tasks", tmp_path / "e.jsonl")


# -- what is inside the package --------------------------------------------------------------

ASSETS = resources.files("metad2a") / "assets" / "database"


@pytest.mark.parametrize(
    ("evaluations", "tasks"),
    [("evaluations", "tasks"), ("finetune", "finetune_tasks")],
)
def test_the_shipped_files_can_be_imported(copy, tmp_path, evaluations, tasks):
    """The rows of one task, as they are, and its definition: all together would take a minute."""
    rows_, defined = (
        parquet.read_table(ASSETS / f"{name}.parquet") for name in (evaluations, tasks)
    )
    key = rows_["task"][0].as_py()
    files = []
    for name, table in (("e", rows_), ("t", defined)):
        mine = pc.equal(pc.cast(table["task"], "string"), key)
        files.append(tmp_path / f"{name}.parquet")
        parquet.write_table(table.filter(mine), files[-1])
    found = import_files(copy, files)
    assert found["tasks"].new == 1
    assert found["evaluations"].new > 0 and not found["evaluations"].conflicts
    # A protocol has one description, and that is the labeller's where there is one.
    named = rows_.group_by(["protocol", "description"]).aggregate([]).to_pylist()
    told = {(row["protocol"], row["description"]) for row in named}
    own = {one.name: one.description for made in LABELLERS for one in made.protocols}
    assert len(dict(told)) == len(told)
    assert all(own.get(name, text) == text for name, text in told)
