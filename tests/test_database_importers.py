"""Importers: a contract that all of them keep, on small made-up tables, and what each reads."""

from __future__ import annotations

import csv
import gzip
import json

import numpy as np
import pytest

from database import Store, family_of
from database.exchange.rows import TABLES, Sources, stored_rows
from database.importers import IMPORTERS, import_published
from metad2a.errors import DatabaseError, InputError
from metad2a.spaces import SPACES

SPACE = SPACES.get("nasbench201")


def drawn_cells(count=12):
    """Return cells of which two are isomorphic, the canonical one second."""
    mirrored = next(cell for cell in SPACE.enumerate() if SPACE.canonical(cell) != cell)
    rng = np.random.default_rng(0)
    others = [SPACE.sample(rng) for _ in range(count - 2)]
    return [SPACE.format(cell) for cell in (mirrored, SPACE.canonical(mirrored), *others)]


CELLS = drawn_cells()


def write(path, head, lines, packed=False):
    opener = gzip.open if packed else open
    with opener(path, "wt", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *lines])
    return path


def table_of_cells(folder, packed=False):
    rng = np.random.default_rng(1)
    return write(
        folder / f"cells.csv{'.gz' if packed else ''}",
        ["idx", "arch", "rep_idx", "c10_val12", "c10_test200", "params_c10"],
        [
            [i, cell, i, f"{rng.uniform(10, 92):.3f}", f"{rng.uniform(10, 95):.3f}", 73306]
            for i, cell in enumerate(CELLS)
        ],
        packed,
    )


class StandIn:
    """What the official interfaces answer, in the form in which they answer it."""

    def __len__(self):
        return 3

    def arch(self, index):
        return CELLS[index]

    def get_more_info(self, index, dataset, iepoch=None, hp="12", is_random=True):
        assert iepoch is None and is_random is False and hp in ("12", "200")
        info = {
            "train-loss": 0.1,
            "train-accuracy": 99.0,
            "train-per-time": 1.0,
            "train-all-time": float(hp),
            "comment": dataset,
        }
        if dataset != "cifar10":
            info["valid-accuracy"] = 50.0 + index
        info["test-accuracy"] = 60.0 + index
        return info


def nasbench201(folder):
    return [table_of_cells(folder)]


def help_latency(folder):
    head = ["idx", "1080ti_1", "1080ti_256", "gold_6226", "essential_ph_1", "fpga"]
    lines = [[i, *(f"{(i + 1) * (j + 1) / 8}" for j in range(5))] for i in range(len(CELLS))]
    return [write(folder / "latency.csv", head, lines), table_of_cells(folder, packed=True)]


def metad2a_rows(folder):
    (folder / "classes.json").write_text(json.dumps([[1, 600, 7], [2, 3], [4, 5]]))
    lines = [[0, 2, 74.8, "valid"], [2, 3, 70.0, "train"], [0, 4, 71.5, "train"]]
    return [
        write(folder / "rows.csv", ["task", "arch_idx", "acc", "split"], lines),
        folder / "classes.json",
        table_of_cells(folder),
    ]


def transnasbench101(folder):
    rng = np.random.default_rng(2)
    cells = [cell for cell in CELLS if "pool" not in cell]
    lines = [[cell, *(f"{value:.6f}" for value in rng.uniform(-1, 1, 7) + SHIFT)] for cell in cells]
    return [write(folder / "micro.csv.gz", ["arch", *TRANSNAS], lines, packed=True)]


def once_for_all(folder):
    space, rng = SPACES.get("mobilenetv3"), np.random.default_rng(3)
    lines = [sub_network(space.format(space.sample(rng)), 75 + rng.random()) for _ in range(5)]
    return [write(folder / "subnets.csv", ["ks", "e", "d", "r", "params", "top1"], lines)]


def sub_network(text, accuracy):
    """Return a row of once-for-all's table: digits of blocks that are not there are any."""
    side, depths, kernels, widths = text.split("-")
    digits = kernels[2:].replace("0", "5"), widths[1:].replace("0", "6")
    return [*digits, depths[1:], side[1:], "1", f"{accuracy:.3f}"]


TRANSNAS = (
    "autoencoder",
    "class_object",
    "class_scene",
    "jigsaw",
    "normal",
    "room_layout",
    "segmentsemantic",
)
SHIFT = np.array([0, 40, 50, 90, 0, 0, 94])

GIVEN = {
    "nasbench201": nasbench201,
    "transnasbench101": transnasbench101,
    "help-latency": help_latency,
    "metad2a-rows": metad2a_rows,
    "nats-bench": lambda folder: [StandIn()],
    "nasbench201-api": lambda folder: [StandIn()],
    "once-for-all": once_for_all,
}


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path / "store.sqlite") as opened:
        yield opened


def everything(store):
    return {table: [dict(row) for row in stored_rows(store, table, Sources())] for table in TABLES}


# -- the contract ----------------------------------------------------------------------------


def test_every_importer_is_tested():
    assert set(GIVEN) == set(IMPORTERS.names())


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_an_importer_says_where_its_rows_are_from(name):
    importer = IMPORTERS.get(name)
    assert importer.origin.licence in {"MIT", "Apache-2.0"}
    assert importer.origin.url.startswith("https://github.com/")
    assert importer.wants and importer.origin.name == name


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_imports_keep_the_contract(store, tmp_path, name):
    given = GIVEN[name](tmp_path)
    origin = IMPORTERS.get(name).origin
    first = import_published(store, name, *given)
    found = everything(store)
    measured = found["evaluations"] + found["latencies"]
    assert sum(one.new for one in first.values()) == len(measured) + len(found["tasks"]) > 0
    assert not any(one.known or one.conflicts for one in first.values())
    assert {(row["source"], row["licence"], row["url"]) for row in measured} == {
        (origin.name, origin.licence, origin.url)
    }

    again = import_published(store, name, *given)
    assert not any(one.new or one.conflicts for one in again.values())
    assert everything(store) == found

    # Its rows can be left out by name.
    without = {table: list(stored_rows(store, table, Sources(exclude=[name]))) for table in TABLES}
    assert without == {table: [] for table in TABLES}


@pytest.mark.parametrize("name", sorted(GIVEN))
def test_a_wrong_number_of_things_is_refused(store, name):
    importer = IMPORTERS.get(name)
    with pytest.raises(InputError, match=f"wants {len(importer.wants)} things, not 0"):
        import_published(store, name)


FILES = sorted(set(GIVEN) - {"nats-bench", "nasbench201-api"})


@pytest.mark.parametrize("name", FILES)
def test_missing_and_damaged_files_are_refused(store, tmp_path, name):
    for place, path in enumerate(GIVEN[name](tmp_path)):
        given = GIVEN[name](tmp_path)
        content = path.read_bytes()
        end = len(content) // 2 if path.suffix == ".gz" else content.rindex(b",")
        for damaged in (b"", b"a,b\n1,2\n", content[:end], b"\x1f\x8bgarbage"):
            given[place].write_bytes(damaged)
            with pytest.raises(InputError, match=r"\.csv|\.json"):
                import_published(store, name, *given)
        given[place].unlink()
        with pytest.raises(InputError, match="There is no file"):
            import_published(store, name, *given)
    assert everything(store) == {table: [] for table in TABLES}


def test_an_unknown_importer_is_refused(store):
    with pytest.raises(InputError, match="Did you mean 'nasbench201'"):
        import_published(store, "nasbench-201", "x.csv")


# -- what each reads -------------------------------------------------------------------------


def test_nasbench201_is_cifar10_as_published(store, tmp_path):
    write(
        tmp_path / "t.csv",
        ["idx", "arch", "c10_val12", "c10_test200"],
        [[7, CELLS[0], "63.364", "94.37"], [8, CELLS[1], "64.1", "94.0"]],
    )
    import_published(store, "nasbench201", tmp_path / "t.csv")
    found = everything(store)
    (task,) = found["tasks"]
    assert (task["fingerprint"], task["dataset"]) == ("published:cifar10", "cifar10 (published)")
    assert task["family"] == family_of("cifar10") == "natural"
    assert (task["train_images"], task["test_images"], task["train"]) == (50_000, 10_000, [])
    # Isomorphic cells are one architecture, whose trainings differ by the official index.
    assert {row["architecture"] for row in found["evaluations"]} == {CELLS[1]}
    assert {(row["protocol"], row["seed"], row["value"]) for row in found["evaluations"]} == {
        ("nasbench201-val12", 7, 0.63364),
        ("nasbench201-test200", 7, 0.9437),
        ("nasbench201-val12", 8, 0.641),
        ("nasbench201-test200", 8, 0.94),
    }
    assert {(row["kind"], row["seconds"], row["created"].year) for row in found["evaluations"]} == {
        ("accuracy", 0.0, 2020)
    }


@pytest.mark.parametrize(
    ("head", "line", "message"),
    [
        (["idx", "c10_val12"], ["0", "50"], "lacks the columns arch; it has idx, c10_val12"),
        (["idx", "arch"], ["0", CELLS[0]], "none of the columns c10_val12"),
        (
            ["idx", "arch", "c10_val12"],
            ["0", CELLS[0], "n/a"],
            "row 1: column 'c10_val12' holds 'n/a'",
        ),
        (["idx", "arch", "c10_val12"], ["0", CELLS[0], "nan"], "not a finite number"),
        (
            ["idx", "arch", "c10_val12"],
            ["0.5", CELLS[0], "50"],
            "'0.5', which is not a whole number",
        ),
        (["idx", "arch", "c10_val12"], ["0", CELLS[0]], "row 1, has 2 cells for 3 columns"),
        (["idx", "arch", "c10_val12"], ["0", "|conv~0|", "50"], "Row 1: "),
    ],
)
def test_wrong_tables_are_refused(store, tmp_path, head, line, message):
    write(tmp_path / "t.csv", head, [line])
    with pytest.raises(InputError, match=message):
        import_published(store, "nasbench201", tmp_path / "t.csv")


def test_an_accuracy_above_100_percent_is_refused(store, tmp_path):
    write(
        tmp_path / "t.csv",
        ["idx", "arch", "c10_val12"],
        [[0, CELLS[0], "50"], [1, CELLS[1], "101"]],
    )
    with pytest.raises(DatabaseError, match=r"Row 2 of evaluations.*a fraction 0\.\.1"):
        import_published(store, "nasbench201", tmp_path / "t.csv")
    assert everything(store) == {table: [] for table in TABLES}


def test_transnasbench101_has_seven_tasks_of_accuracies_and_scores(store, tmp_path):
    values = ["0.487698", "44.197849", "52.950836", "91.878983", "0.55023", "-0.667697", "94.3"]
    head, line = ["arch", *TRANSNAS], [CELLS[0], *values]
    import_published(store, "transnasbench101", write(tmp_path / "t.csv", head, [line]))
    found = everything(store)
    assert {row["dataset"]: len(row["classes"]) for row in found["tasks"]} == {
        "taskonomy-autoencoder (published)": 2,
        "taskonomy-class_object (published)": 75,
        "taskonomy-class_scene (published)": 47,
        "taskonomy-jigsaw (published)": 1000,
        "taskonomy-normal (published)": 2,
        "taskonomy-room_layout (published)": 2,
        "taskonomy-segmentsemantic (published)": 17,
    }
    assert {
        row["dataset"].split()[0].removeprefix("taskonomy-"): (row["kind"], row["value"])
        for row in found["evaluations"]
    } == {
        "autoencoder": ("score", 0.487698),
        "class_object": ("accuracy", 0.44197849),
        "class_scene": ("accuracy", 0.52950836),
        "jigsaw": ("accuracy", 0.91878983),
        "normal": ("score", 0.55023),
        "room_layout": ("score", -0.667697),
        "segmentsemantic": ("accuracy", 0.943),
    }
    # An isomorphic cell, trained by itself, is another row of the same architecture.
    same = [[CELLS[1], *values]]
    again = import_published(store, "transnasbench101", write(tmp_path / "t.csv", head, same))
    assert (again["evaluations"].new, again["tasks"].known) == (7, 7)
    assert {row["architecture"] for row in everything(store)["evaluations"]} == {CELLS[1]}
    assert len({row["seed"] for row in everything(store)["evaluations"]}) == 2


def test_transnasbench101_names_the_cell_that_is_none(store, tmp_path):
    path = write(tmp_path / "t.csv", ["arch", *TRANSNAS], [["|conv~0|", *["0.5"] * 7]])
    with pytest.raises(
        InputError, match=r"row 1: column 'arch' holds '\|conv~0\|', which is not a c"
    ):
        import_published(store, "transnasbench101", path)


def test_latencies_have_device_and_batch(store, tmp_path):
    import_published(store, "help-latency", *help_latency(tmp_path))
    found = everything(store)["latencies"]
    assert {(row["device"], row["batch"]) for row in found} == {
        ("1080ti", 1),
        ("1080ti", 256),
        ("gold_6226", 1),
        ("essential_ph_1", 1),
        ("fpga", 1),
    }
    # Of two isomorphic cells the canonical one counts, the second of the table.
    assert [
        row["milliseconds"]
        for row in found
        if (row["architecture"], row["device"]) == (CELLS[1], "fpga")
    ] == [2 * 5 / 8]
    classes = {SPACE.canonical(SPACE.parse(cell)) for cell in CELLS}
    assert len(found) == 5 * len(classes)


def test_latencies_need_devices_and_known_cells(store, tmp_path):
    cells = table_of_cells(tmp_path)
    bare = write(tmp_path / "bare.csv", ["idx"], [[0]])
    with pytest.raises(InputError, match="no column of a device"):
        import_published(store, "help-latency", bare, cells)
    far = write(tmp_path / "far.csv", ["idx", "fpga"], [[99, 1.0]])
    with pytest.raises(InputError, match=r"'99', which is not the index of one of the 12 cells"):
        import_published(store, "help-latency", far, cells)


def test_metad2a_rows_are_tasks_of_imagenet_classes(store, tmp_path):
    import_published(store, "metad2a-rows", *metad2a_rows(tmp_path))
    found = everything(store)
    assert {row["name"]: row["classes"] for row in found["tasks"]} == {
        "metad2a-0000": [0, 599, 6],
        "metad2a-0002": [3, 4],
    }  # task 1 has no row
    assert {(row["seed"], row["value"], row["versions"]) for row in found["evaluations"]} == {
        (2, 0.748, "MetaD2A split valid"),
        (3, 0.7, "MetaD2A split train"),
        (4, 0.715, "MetaD2A split train"),
    }


@pytest.mark.parametrize(
    ("line", "classes", "message"),
    [
        ([3, 2, 50, "train"], [[1, 2]], "'3', which is not the number of a task"),
        ([0, 2, 50, "test"], [[1, 2]], "'test', which is not train or valid"),
        ([0, 2, 50, "train"], [[1, 2000]], r"classes of task 0 are \[1, 2000\]"),
        ([0, 2, 50, "train"], [[0, 1]], "numbers from 1 to 1000"),
        ([0, 2, 50, "train"], {"0": [1, 2]}, "holds no list"),
    ],
)
def test_wrong_metad2a_files_are_refused(store, tmp_path, line, classes, message):
    path = write(tmp_path / "rows.csv", ["task", "arch_idx", "acc", "split"], [line])
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    with pytest.raises(InputError, match=message):
        import_published(
            store, "metad2a-rows", path, tmp_path / "classes.json", table_of_cells(tmp_path)
        )


def test_an_interface_is_asked_for_every_split(store):
    import_published(store, "nats-bench", StandIn())
    found = everything(store)
    assert {row["fingerprint"] for row in found["tasks"]} == {
        "published:cifar10",
        "published:cifar100",
        "published:imagenet16-120",
    }
    assert len(found["evaluations"]) == 3 * 2 * 6  # cells, lengths of training, splits
    assert {
        (row["dataset"], row["protocol"], row["value"], row["seconds"])
        for row in found["evaluations"]
        if row["seed"] == 1 and "200" in row["protocol"]
    } == {
        ("cifar10 (published)", "nats-bench-val200", 0.51, 200.0),
        ("cifar10 (published)", "nats-bench-test200", 0.61, 200.0),
        ("cifar100 (published)", "nats-bench-xval200", 0.51, 200.0),
        ("cifar100 (published)", "nats-bench-xtest200", 0.61, 200.0),
        ("imagenet16-120 (published)", "nats-bench-xval200", 0.51, 200.0),
        ("imagenet16-120 (published)", "nats-bench-xtest200", 0.61, 200.0),
    }


@pytest.mark.parametrize("name", ["nats-bench", "nasbench201-api"])
def test_a_pickle_is_not_opened(store, tmp_path, name):
    trap = tmp_path / "NATS-tss-v1_0-3ffb9.pickle.pbz2"
    trap.write_bytes(b"cos\nsystem\n(S'touch opened'\ntR.")
    with pytest.raises(InputError, match=r"pickles, which this program does not open; give, in "):
        import_published(store, name, trap)


def test_once_for_all_has_a_row_a_network_and_counts_those_of_one(store, tmp_path):
    space = SPACES.get("mobilenetv3")
    some = [space.format(space.sample(np.random.default_rng(seed))) for seed in (0, 1, 0)]
    lines = [sub_network(text, 70.5 + number) for number, text in enumerate(some)]
    path = write(tmp_path / "subnets.csv", ["ks", "e", "d", "r", "params", "top1"], lines)
    import_published(store, "once-for-all", path)
    canonical = [space.format(space.canonical(space.parse(text))) for text in some]
    found = everything(store)["evaluations"]
    assert sorted((row["architecture"], row["seed"], row["value"]) for row in found) == sorted(
        zip(canonical, (0, 0, 1), (0.705, 0.715, 0.725), strict=True)
    )
    assert {row["space"] for row in found} == {"mobilenetv3"}


def test_what_is_no_sub_network_is_named(store, tmp_path):
    line = ["35", "34", "23", "224", "70"]
    path = write(tmp_path / "subnets.csv", ["ks", "e", "d", "r", "top1"], [line])
    with pytest.raises(InputError, match=r"row 1, is no network of 'mobilenetv3'"):
        import_published(store, "once-for-all", path)
    assert not everything(store)["evaluations"]
