"""Class-folder trees and zips as people really have them."""

import io
import struct
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metad2a.datasets import check, draw, load_dataset
from metad2a.datasets.forms import folders, zipped
from metad2a.datasets.layout import read_layout
from metad2a.errors import InputError
from metad2a.settings import LIMITS, cache_folder


def png(value: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (3, 2), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def build(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(i))
    return root


# -- layout ------------------------------------------------------------------------------------

PLAIN = ("a/1.png", "a/2.JPG", "b/1.jpeg", "b/2.webp")


@pytest.mark.parametrize("wrap", ["", "flowers/", "flowers/images/"])
def test_wrapping_folders_are_passed_through(wrap: str) -> None:
    layout = read_layout([wrap + path for path in PLAIN])
    assert layout.classes == ("a", "b")
    assert layout.labels.tolist() == [0, 0, 1, 1]
    assert layout.split.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("wrap", ["", "flowers/"])
def test_split_levels(wrap: str) -> None:
    sides = {"Train": 0, "val": 1, "valid": 1, "validation": 1, "test": 1}
    layout = read_layout([f"{wrap}{side}/{path}" for side in sides for path in PLAIN])
    assert layout.classes == ("a", "b")
    for path, split in zip(layout.paths, layout.split, strict=True):
        assert split == sides[path.removeprefix(wrap).split("/")[0]]
    assert np.bincount(layout.split).tolist() == [4, 16]


def test_only_a_training_side_and_unlabelled_test_images() -> None:
    layout = read_layout(["train/a/1.png", "train/b/1.png", "test/1.png", "test/2.png"])
    assert layout.paths == ["train/a/1.png", "train/b/1.png"]
    assert read_layout([f"train/{path}" for path in PLAIN]).classes == ("a", "b")


def test_classes_called_like_sides() -> None:
    assert read_layout(["train/1.png", "test/1.png"]).classes == ("test", "train")
    assert read_layout(["train/x/1.png", "bus/x/1.png"]).classes == ("bus", "train")


def test_litter_and_loose_files_are_left_out() -> None:
    litter = ["__MACOSX/a/._1.png", "a/.DS_Store", "a/Thumbs.db", ".git/a/1.png", "a/._1.png",
              "readme.txt", "cover.png", "b/notes.csv", "b/noending"]
    assert read_layout([*PLAIN, *litter]).paths == list(PLAIN)


def test_deep_images_belong_to_the_first_folder() -> None:
    layout = read_layout(["a/x/1.png", "a/y/z/2.png", "b/1.png"])
    assert layout.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("paths", "message"), [([], "No image found"), (["a.txt"], "No image found"),
                           (["1.png", "2.png"], "none in a class folder")]
)
def test_nothing_to_learn_from(paths: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_layout(paths)


# -- folders -----------------------------------------------------------------------------------


def test_folder_with_sides(tmp_path: Path) -> None:
    root = build(tmp_path / "pets", *(f"{side}/{c}/{i}.png" for side in ("train", "val")
                                      for c in ("cat", "dog") for i in range(2)))
    dataset = load_dataset(str(root))
    assert dataset.name == "pets"
    assert dataset.locate(0) == "train/cat/0.png"
    report = check(dataset)
    assert report.split == (4, 4)
    assert "4 train, 4 validation or test" in str(report)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    root = build(tmp_path, *PLAIN)
    (root / "a" / "again").symlink_to(root)
    elsewhere = tmp_path.parent / f"{tmp_path.name}-more"
    (root / "c").symlink_to(build(elsewhere, "1.png", "2.png"))
    assert load_dataset(root).classes == ("a", "b", "c")


def test_a_file_that_vanished_is_unreadable(tmp_path: Path) -> None:
    dataset = load_dataset(build(tmp_path, *(f"{c}/{i}.png" for c in "ab" for i in range(20))))
    (tmp_path / "a" / "7.png").unlink()
    (skipped,) = check(dataset).skipped
    assert skipped.name == "a/7.png"
    assert skipped.reason == "cannot be read: No such file or directory"


def test_huge_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = load_dataset(build(tmp_path, *PLAIN))
    monkeypatch.setattr(folders, "LIMITS", replace(LIMITS, image_bytes=10))
    with pytest.raises(InputError, match="MiB, more than the limit"):
        draw(dataset, 0)


@pytest.mark.parametrize("source", ["nowhere", 3, None, {"a": 1}, (1,), b"x"])
def test_unknown_sources(source: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist|no dataset of a known form"):
        load_dataset(source)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a\.txt.*no dataset of a known form.*a folder with"):
        load_dataset(tmp_path / "a.txt")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No image found"):
        load_dataset(tmp_path)


# -- zips --------------------------------------------------------------------------------------


def pack(path: Path, *names: str, mode: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", mode) as archive:
        for i, name in enumerate(names):
            archive.writestr(name, png(i))
    return path


def test_zip_with_litter_and_no_ending(tmp_path: Path) -> None:
    names = [f"flowers/train/{c}/{i}.png" for c in "ab" for i in range(2)]
    path = pack(tmp_path / "upload", *names, "__MACOSX/flowers/train/a/._0.png")
    with load_dataset(path) as dataset:
        assert dataset.classes == ("a", "b")
        assert check(dataset).images == 4


@pytest.mark.parametrize("name", ["../a/3.png", "/a/3.png", "C:\\a\\3.png", "a\\..\\..\\3.png"])
def test_zip_names_that_leave_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="a path that leaves the zip"):
        load_dataset(pack(tmp_path / "x.zip", *PLAIN, name))


@pytest.mark.parametrize(
    ("limit", "message"),
    [({"zip_members": 3}, "4 files, more than the limit of 3"),
     ({"zip_bytes": 100}, "MB when unpacked, more than the limit"),
     ({"zip_member_bytes": 10}, "'a/1.png' has .* MB a file")],
)
def test_zip_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, int], message: str
) -> None:
    monkeypatch.setattr(zipped, "LIMITS", replace(LIMITS, **limit))
    with pytest.raises(InputError, match=message):
        load_dataset(pack(tmp_path / "x.zip", *PLAIN))


def test_zip_of_overlapping_members(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/1.png", bytes(10_000))
    data = path.read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    record, tail = data[start:end], data[end:]
    copies = b"".join(record.replace(b"a/1", f"a/{i}".encode()) for i in range(1, 10))
    counts = struct.pack("<HHII", 9, 9, len(copies), start)
    path.write_bytes(data[:start] + copies + tail[:8] + counts + tail[20:])
    with zipfile.ZipFile(path) as archive:
        assert len(archive.namelist()) == 9
    with pytest.raises(InputError, match=r"claim 90,000 packed bytes, .* they overlap"):
        load_dataset(path)


def test_encrypted_and_broken_zips(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", *PLAIN)
    data = bytearray(path.read_bytes())
    position = data.index(b"PK\x01\x02")
    data[position + 8] |= 1
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"encrypted\. Zip the folder without a password"):
        load_dataset(path)
    path.write_bytes(b"PK\x03\x04 nothing else")
    with pytest.raises(InputError, match="no readable zip"):
        load_dataset(path)


def test_a_damaged_member_is_skipped(tmp_path: Path) -> None:
    names = [f"{c}/{i:02}.png" for c in "ab" for i in range(20)]
    path = pack(tmp_path / "x.zip", *names, mode=zipfile.ZIP_STORED)
    data = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        at = archive.getinfo("b/03.png").header_offset + 30 + len("b/03.png") + 40
    path.write_bytes(data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])
    with load_dataset(path) as dataset:
        (skipped,) = check(dataset).skipped
    assert (skipped.name, skipped.reason) == ("b/03.png", "damaged in the zip")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("METAD2A_CACHE")
    assert cache_folder().name == "metad2a"
