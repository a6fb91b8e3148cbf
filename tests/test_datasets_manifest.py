"""CSV and JSONL manifests as people and strangers write them."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metad2a.datasets import check, load_dataset
from metad2a.datasets.forms import _manifest_rows
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
    assert [entry.name for entry in report.skipped] == ["c/38.png", "c/39.png"]
    assert report.skipped[0].reason == "cannot be read: No such file or directory"
    (path.parent / "c" / "5.png").unlink()
    os.mkfifo(path.parent / "c" / "5.png")  # Waiting for its writer would be for ever.
    with pytest.raises(InputError, match="3 of 44 files are missing"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name the column 'file_name' once; it names nothing"),
        ("a/1.png,cat\na/2.png,cat\n", r"it names 'a/1\.png', 'cat'. Name the columns file_name"),
        ("file_name,class\nx,y\n", "must name the column 'label' once"),
        ("file_name,label,label\na,b,c\n", "must name the column 'label' once"),
        (PLAIN + "b/3.png,dog,big\n", "Line 6 has 3 fields, but the header has 2"),
        (PLAIN + "b/3.png\n", "Line 6 has 1 fields"),
        (PLAIN + 'b/3.png,"dog\n\n\n', r"Line 8 is no CSV \(unexpected end of data\)"),
        (PLAIN + 'b/3.png,"dog"s\n', "Line 6 is no CSV"),
        (PLAIN + f"b/3.png,{'x' * 200_000}\n", r"Line 6 is no CSV \(field larger"),
        (PLAIN + "b/3.png,\n,dog\n", "2 rows hold no file name or no label: lines 6, 7"),
        ("file_name,label," + ",".join(map(str, range(10**6))), "has 1,000,002 columns, more than"),
        (PLAIN + "b/3.png,dog" + "," * 10**6, "Line 6 has 1,000,002 fields"),
        (PLAIN + "a/1.png,dog\n", r"'a/1\.png' is there twice .* 'cat' in line 2 and 'dog'"),
        (PLAIN.encode("utf-16"), r"no UTF-8 text \(byte 0\)"),
        (PLAIN.replace("cat", "k\u00e4tze").encode("latin-1"), "no UTF-8 text"),
        (PLAIN.replace("cat", '"c\nat"'), r"'c\\nat' has the control character U\+000A"),
        (PLAIN.replace("a/1", "a/\u202e1"), r"control character U\+202E"),
        ("file_name,label,split\na/1.png,cat,train\na/1.png,cat,test\n", "another label or split"),
        ("file_name,label,split\na/1.png,cat,holdout\n", r"'holdout' is not known \(line 2\)"),
        ("file_name,label\n" + "a/1.png,cat\n" * 2, None),
    ],
    ids=[
        "empty",
        "no header",
        "no label column",
        "two label columns",
        "too many fields",
        "too few fields",
        "open quote",
        "text after quote",
        "huge field",
        "gaps",
        "10^6 columns",
        "10^6 fields",
        "two labels",
        "UTF-16",
        "Latin-1",
        "newline in a label",
        "reordering",
        "both sides",
        "unknown side",
        "one class",
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
        ("[" * 100_000 + "\n", "no JSON object: line 1"),
        ('{"file_name": "a/1.png", "label": ' + "1" * 5000 + "}\n", "no JSON object: line 1"),
        (jsonl({"file_name": "a/1.png"}), "no 'file_name' that is text.*: line 1"),
        (jsonl({"file_name": 3, "label": "a"}), "no 'file_name' that is text"),
        (jsonl({"file_name": "a/1.png", "label": ["a"]}), "no 'label' that is text or an integer"),
        (jsonl({"file_name": "a/1.png", "label": True}), "no 'label' that is text or an integer"),
        (jsonl({"file_name": "a/1.png", "label": "a", "split": 1}), "a 'split' that is no text"),
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
        "bool label",
        "odd split",
        "surrogate",
    ],
)
def test_t_jsonl_that_cannot_be_used(write: Write, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(write(text, "x.jsonl"))


def test_a_manifest_that_is_too_large(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_manifest_rows, "MOST_BYTES", 10)
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
