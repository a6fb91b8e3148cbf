"""Tables of labels as people and strangers write them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metad2a.datasets import check, load_dataset, tables
from metad2a.errors import InputError

PLAIN = "file_name,label\na/1.png,cat\na/2.png,cat\nb/1.png,dog\nb/2.png,dog\n"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest beside four images, and one image outside its folder."""
    root = tmp_path / "pets"
    for number, name in enumerate(("a/1", "a/2", "b/1", "b/2", "../secret")):
        path = root / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)

    def make(text: str | bytes, name: str = "list.csv") -> Path:
        data = text.encode() if isinstance(text, str) else text
        (root / name).write_bytes(data)
        return root / name

    return make


def jsonl(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN, "list.csv"),
        (PLAIN.replace("\n", "\r\n"), "list.CSV"),
        (b"\xef\xbb\xbf" + PLAIN.encode(), "bom.csv"),
        (PLAIN.replace(",", ";"), "excel.csv"),
        (PLAIN.replace(",", "\t"), "list.tsv"),
        (PLAIN.replace("/", "\\"), "windows.csv"),
        (PLAIN + "\n , \n" + PLAIN.split("\n", 1)[1], "twice.csv"),
        (PLAIN.replace("a/1", "./a//1").replace("file_name,label", " File_Name , LABEL "), "x.csv"),
        (
            'note,label,file_name\n"one\ntwo, ""three""",cat,a/1.png\n,cat,a/2.png\n,dog,b/1.png\n'
            ",dog,b/2.png",
            "quoted newlines.csv",
        ),
        (
            jsonl(
                *(
                    {"file_name": f"{a}/{i}.png", "label": c, "x": [1, {}]}
                    for a, c in (("a", "cat"), ("b", "dog"))
                    for i in (1, 2)
                )
            ),
            "metadata.jsonl",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value else "",
)
def test_manifests_that_mean_the_same(write: Write, text: str | bytes, name: str) -> None:
    dataset = load_dataset(write(text, name))
    assert dataset.name == ("pets" if name == "metadata.jsonl" else Path(name).stem)
    assert dataset.classes == ("cat", "dog")
    assert dataset.labels.tolist() == [0, 0, 1, 1]
    assert [dataset.locate(i) for i in range(4)] == ["a/1.png", "a/2.png", "b/1.png", "b/2.png"]
    assert [dataset.image(i)[0, 0, 0] for i in range(4)] == [0, 1, 2, 3]
    assert check(dataset).images == 4


def test_split_and_integer_labels(write: Write) -> None:
    dataset = load_dataset(
        write(
            "file_name,label,split\nb/1.png,10,test\nb/2.png,9,\n"
            "a/1.png,9,Train\na/2.png,10,validation\n"
        )
    )
    assert dataset.classes == ("9", "10")
    assert dataset.labels.tolist() == [1, 0, 0, 1]
    assert dataset.split.tolist() == [1, 0, 0, 1]
    kept = load_dataset(write(PLAIN.replace("cat", "007").replace("dog", "10")))
    assert kept.classes == ("007", "10")
    rows = (
        {"file_name": f"{a}/1.png", "label": i, "split": None} for a, i in (("a", 10), ("b", 9))
    )
    assert load_dataset(write(jsonl(*rows), "x.jsonl")).classes == ("9", "10")


@pytest.mark.parametrize(
    # What lies outside is not told: a file that is not there gets the same answer.
    "name",
    [
        "../secret.png",
        "../nowhere.png",
        "a/../../secret.png",
        "..\\secret.png",
        "C:\\x.png",
        "\\\\server\\x.png",
        "/etc/passwd",
        "https://example.org/x.png",
        "file:///etc/passwd",
        "a/\0.png",
    ],
)
def test_t_names_that_leave_the_folder(write: Write, name: str) -> None:
    rows = [{"file_name": "a/1.png", "label": "cat"}, {"file_name": name, "label": "dog"}]
    with pytest.raises(InputError, match="1 files lie outside the folder of the manifest") as told:
        load_dataset(write(jsonl(*rows), "x.jsonl"))
    assert os.fspath(write("", "y").parent) not in str(told.value)


def test_t_links_that_leave_the_folder(write: Write) -> None:
    path = write(PLAIN.replace("b/2", "link") + "deep/secret.png,dog\n")
    (path.parent / "link.png").symlink_to("../secret.png")
    (path.parent / "deep").symlink_to("..")
    with pytest.raises(InputError, match=r"2 files lie outside .*'link\.png', 'deep/secret\.png'"):
        load_dataset(path)


def test_t_missing_files(write: Write) -> None:
    many = PLAIN + "".join(f"a/{i}.png,cat\n" for i in range(10, 20)) + f"{'x' * 5000}.png,cat\n"
    with pytest.raises(InputError, match=r"11 of 15 files are missing: 'a/10\.png', .* 6 more"):
        load_dataset(write(many))
    path = write(PLAIN + "".join(f"c/{i}.png,cow\n" for i in range(40)))
    (path.parent / "c").mkdir()
    for i in range(38):
        Image.new("RGB", (8, 8)).save(path.parent / "c" / f"{i}.png")
    report = check(load_dataset(path))
    missing = "2 of 44 files are missing and left out: 'c/38.png', 'c/39.png'."
    assert (report.images, report.notes) == (42, (missing,))
    (path.parent / "c" / "5.png").unlink()
    os.mkfifo(path.parent / "c" / "5.png")  # Waiting for its writer would be for ever.
    (skipped,) = check(load_dataset(path)).skipped
    assert (skipped.name, skipped.reason) == ("c/5.png", "not a file")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "There is no row in it"),
        ("file_name,label\n", "There is no row in it"),
        ("sentence,note\nx,y\nz,u\n", "No column holds the names of images; .* 'sentence', 'note'"),
        ("file_name,x,z\na/1.png,u,v\na/2.png,w,v\n", "No column is called 'label'"),
        ("file_name,label,label\na,b,c\n", "names a column 'label' twice"),
        (PLAIN + "b/3.png,dog,big\n", "Line 6 has 3 fields, but the first has 2"),
        (PLAIN + "b/3.png\n", "Line 6 has 1 fields"),
        (PLAIN + 'b/3.png,"dog\n\n\n', r"Line 8 is no CSV \(unexpected end of data\)"),
        (PLAIN + 'b/3.png,"dog"s\n', "Line 6 is no CSV"),
        (PLAIN + f"b/3.png,{'x' * 200_000}\n", r"Line 6 is no CSV \(field larger"),
        ("file_name,label," + ",".join(map(str, range(10**6))), "has 1,000,002 columns, more than"),
        (PLAIN + "b/3.png,dog" + "," * 10**6, "Line 6 has 1,000,002 fields"),
        (PLAIN + "a/1.png,dog\n", r"'a/1\.png' is there twice .* 'cat' in line 2 and 'dog'"),
        (PLAIN.encode("utf-16-le") + b"\0\xd8", "no text in UTF-16"),
        (b"\x00\x01" + PLAIN.encode(), "there is a zero byte in it"),
        (PLAIN.replace("cat", '"c\nat"'), r"'c\\nat' has the control character U\+000A"),
        (PLAIN.replace("a/1", "a/\u202e1"), r"control character U\+202E"),
        ("file_name,label,split\na/1.png,cat,train\na/1.png,cat,test\n", "another label or split"),
        ("file_name,label,split\na/1.png,cat,later\n", r"'later' is not known \(line 2\)"),
        ("file_name,label\n" + "a/1.png,cat\n" * 2, None),
        (PLAIN.replace("cat", "cat|out").replace("dog", "dog|out"), "several labels of one image"),
        ("image,cat,dog\na/1.png,1,0\na/2.png,1,1\n", "a 1 in 2 columns: several labels"),
        ("file_name,label\na/1.png,\na/2.png,nan\n", "2 of 2 labels are missing"),
    ],
    ids=[
        "empty",
        "a header alone",
        "no file column",
        "no label column",
        "two label columns",
        "too many fields",
        "too few fields",
        "open quote",
        "text after quote",
        "huge field",
        "10^6 columns",
        "10^6 fields",
        "two labels",
        "UTF-16",
        "binary",
        "newline in a label",
        "reordering",
        "both sides",
        "unknown side",
        "one class",
        "several labels",
        "several hot",
        "no label at all",
    ],
)
def test_t_csv_that_cannot_be_used(write: Write, text: str | bytes, message: str | None) -> None:
    path = write(text)
    if message is None:  # Lists well, and is refused for what it holds.
        with pytest.raises(InputError, match="1 class, 'cat'"):
            check(load_dataset(path))
        return
    with pytest.raises(InputError, match=message) as told:
        load_dataset(path)
    assert str(told.value).startswith("'list.csv'")
    assert len(str(told.value)) < 400


GOOD_LINE = jsonl({"file_name": "a/1.png", "label": "cat"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            GOOD_LINE + "{broken\n" + GOOD_LINE + '["a"]\n3\n',
            "3 rows hold no JSON object: lines 2, 4, 5",
        ),
        (GOOD_LINE + "{\n" * 9, "lines 2, 3, 4, 5, 6 and 4 more"),
        ("[" * 100_000 + "\n", "It is no JSON"),
        ('{"file_name": "a/1.png", "label": ' + "1" * 5000 + "}\n", "no JSON object: line 1"),
        (jsonl({"file_name": "a/1.png"}), "No column is called 'label'"),
        (jsonl({"file_name": [], "label": "a"}), "a file name or a split that is no text: line 1"),
        (
            jsonl({"file_name": "a/1.png", "label": ["a", "b"]}),
            r"Row 1 holds several labels \(\['a'",
        ),
        (jsonl({"file_name": "a/1.png", "label": "a", "split": 1}), "a split that is no text"),
        (jsonl({"file_name": "a/1.png", "label": "\ud800"}), r"control character U\+D800"),
    ],
    ids=[
        "broken lines",
        "many broken lines",
        "deep",
        "long number",
        "no label",
        "odd name",
        "list label",
        "odd split",
        "surrogate",
    ],
)
def test_t_jsonl_that_cannot_be_used(write: Write, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(write(text, "x.jsonl"))


def test_a_manifest_that_is_too_large(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST_BYTES", 10)
    with pytest.raises(InputError, match="limit of a manifest"):
        load_dataset(write(PLAIN))


def test_bad_images_of_a_manifest_are_skipped(write: Write) -> None:
    path = write(PLAIN + "".join(f"c/{i}.png,cow\n" for i in range(40)))
    (path.parent / "c").mkdir()
    for i in range(40):
        Image.new("RGB", (8, 8)).save(path.parent / "c" / f"{i}.png")
    (path.parent / "c" / "7.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    with load_dataset(path, sandbox=True) as dataset:
        (skipped,) = check(dataset).skipped
    assert (skipped.name, skipped.reason) == ("c/7.png", "not an image")


def sorted_labels(path: Path) -> list[tuple[str, str]]:
    dataset = load_dataset(path)
    names = [dataset.locate(i) for i in range(len(dataset))]
    return sorted(zip(names, [dataset.classes[i] for i in dataset.labels], strict=True))


CATS = [("a/1.png", "cat"), ("a/2.png", "cat"), ("b/1.png", "dog"), ("b/2.png", "dog")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (PLAIN.split("\n", 1)[1], "no header.csv"),
        (PLAIN.replace(",", "|"), "pipes.csv"),
        ("sep=;\n" + PLAIN.replace(",", ";"), "excel says.csv"),
        (PLAIN.replace("file_name,label", "Image Path,Class Name"), "names.csv"),
        (PLAIN.replace("file_name,label", "picture,finding"), "odd names.csv"),
        (PLAIN.replace(".png", ".PNG"), "case.csv"),
        (PLAIN.replace(".png", ""), "no endings.csv"),
        (PLAIN.replace(".png", ".jpg"), "converted.csv"),
        (PLAIN.replace("a/", "/home/me/data/a/").replace("b/", "/home/me/data/b/"), "absolute.csv"),
        (PLAIN.replace("a/", "C:\\me\\a\\").replace("b/", "C:\\me\\b\\"), "windows.csv"),
        (PLAIN.replace("a/", "../pets/a/").replace("b/", "../pets/b/"), "up and down.csv"),
        (PLAIN.encode("utf-16"), "unicode text.csv"),
        (PLAIN.encode("utf-16-le"), "no mark.csv"),
        (PLAIN.split("\n", 1)[1].replace(",", " "), "train.txt"),
        (PLAIN, "table.txt"),
        ("image,cat,dog\na/1,1.0,0.0\na/2,1,0\nb/1,0,1\nb/2,0,1\n", "one hot.csv"),
        (
            "id,age,sex,diagnosis\na/1,30,m,cat\na/2,31,f,cat\nb/1,30,m,dog\nb/2,12,f,dog\n",
            "others.csv",
        ),
        (json.dumps([{"file_name": f, "label": c} for f, c in CATS], indent=1), "list.json"),
        (json.dumps({"labels": CATS}), "pairs.json"),
        (json.dumps(dict(CATS), indent=1), "mapping.json"),
        (json.dumps({"cat": ["a/1.png", "a/2.png"], "dog": ["b/1.png", "b/2.png"]}), "lists.json"),
        (PLAIN.replace("cat\na/2.png,cat", "cat\na/2.png, Cat "), "spelling.csv"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else "",
)
def test_tables_of_other_tools(write: Write, text: str | bytes, name: str) -> None:
    assert [(f, c.lower()) for f, c in sorted_labels(write(text, name))] == CATS


def test_a_name_that_fits_several_files(write: Write) -> None:
    path = write("file_name,label\n1.png,cat\n2.png,dog\n")
    with pytest.raises(
        InputError, match=r"'1\.png' in line 2 stands for 2 files: 'a/1\.png', 'b/1"
    ):
        load_dataset(path)
    # The folder that is called like the table is meant.
    assert sorted_labels(write(path.read_bytes(), "b_labels.csv")) == [
        ("b/1.png", "cat"),
        ("b/2.png", "dog"),
    ]


@pytest.mark.parametrize(
    ("encoding", "cat", "dog"),
    [
        ("cp1252", "Kätzchen", "Hündchen"),
        ("gbk", "\u732b", "\u72d7"),
        ("cp932", "ねこの写真", "いぬの写真"),
        ("cp1251", "кошка", "собака"),
    ],
)
def test_encodings(write: Write, encoding: str, cat: str, dog: str) -> None:
    text = PLAIN.replace("cat", cat).replace("dog", dog)
    dataset = load_dataset(write(text.encode(encoding)))
    assert set(dataset.classes) == {cat, dog}
    assert dataset.notes == (f"It is no UTF-8 text and was read as {encoding}.",)


def test_rows_without_a_label_are_left_out_and_counted(write: Write) -> None:
    path = write(PLAIN)
    Image.new("RGB", (8, 8)).save(path.parent / "a" / "3.png")
    for none in ("", "nan", "<NA>", "null"):
        report = check(load_dataset(write(PLAIN + f"a/3.png,{none}\n", "x.csv")))
        assert (report.images, report.classes) == (4, 2)
        assert "1 of 5 images have no label" in str(report)
    rows = "a/1.png,-1\na/2.png,0\nb/1.png,1\nb/2.png,\n,1\n"
    dataset = load_dataset(write("file_name,label\n" + rows))
    assert (dataset.classes, dataset.labels.tolist()) == (("0", "1"), [0, 1])
    assert dataset.notes == (
        "1 rows without a file name are left out.",
        "2 of 4 images have no label and are left out.",
    )
