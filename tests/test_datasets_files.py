"""Class-folder trees and archives as people really have them."""

import os
import re
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archives import PACKERS, TREE, picture, read, refusal, tar_bytes, zip_bytes

from metad2a.datasets import UnreadableImage, archive, check, draw, load_dataset, names
from metad2a.datasets.layout import read_layout
from metad2a.errors import InputError
from metad2a.settings import LIMITS, OWN, cache_folder


def build(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(i))
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
    with pytest.raises(InputError, match="names of the sides of a split"):
        read_layout(["train/1.png", "test/1.png"])
    assert read_layout(["train/x/1.png", "bus/x/1.png"]).classes == ("bus", "train")


def test_litter_and_loose_files_are_left_out() -> None:
    litter = [
        "__MACOSX/a/._1.png",
        "a/.DS_Store",
        "a/Thumbs.db",
        ".git/a/1.png",
        "a/._1.png",
        "readme.txt",
        "cover.png",
        "b/notes.csv",
        "b/noending",
    ]
    assert read_layout([*PLAIN, *litter]).paths == list(PLAIN)


def test_deep_images_belong_to_the_first_folder() -> None:
    layout = read_layout(["a/x/1.png", "a/y/z/2.png", "b/1.png"])
    assert layout.labels.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "No image found"),
        (["a.txt"], "No image found"),
        (["1.png", "2.png"], "none in a class folder"),
    ],
)
def test_nothing_to_learn_from(paths: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_layout(paths)


# -- folders -----------------------------------------------------------------------------------


def test_folder_with_sides(tmp_path: Path) -> None:
    root = build(
        tmp_path / "pets",
        *(
            f"{side}/{c}/{i}.png"
            for side in ("train", "val")
            for c in ("cat", "dog")
            for i in range(2)
        ),
    )
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
    dataset.limits = replace(OWN, image_bytes=10)
    with pytest.raises(InputError, match="MiB, more than the limit"):
        draw(dataset, 0)


@pytest.mark.parametrize("source", ["nowhere", 3, None, {"a": 1}, (1,), b"x"])
def test_unknown_sources(source: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not exist|no dataset of a known form"):
        load_dataset(source)
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(InputError, match=r"a\.doc.*no dataset of a known form.*a folder with"):
        load_dataset(tmp_path / "a.doc")


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No image found"):
        load_dataset(tmp_path)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"K\x94ln")
    try:
        build(folder, "1.png", "2.png")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes names in UTF-8 alone")
    build(tmp_path, "b/1.png", "b/2.png")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("Köln", "b")  # CP437, as an archive's name would be read.
    assert check(dataset).images == 4


def test_a_control_character_in_a_name(tmp_path: Path) -> None:
    build(tmp_path, *PLAIN)
    with pytest.raises(InputError, match=r"'a/\\x1b\[31m.png' has the control character U\+001B"):
        load_dataset(build(tmp_path, "a/\x1b[31m.png"), sandbox=True)
    with load_dataset(tmp_path) as dataset:  # one's own
        names = [dataset.locate(i) for i in range(len(dataset))]
        assert dataset.image(names.index("a/\\u001b[31m.png")).ndim == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    build(tmp_path, *PLAIN)
    os.mkfifo(tmp_path / "a" / "pipe.png")
    with pytest.raises(UnreadableImage, match="not a file"):
        load_dataset(tmp_path).image(2)


# -- archives; those from strangers have test files of their own -------------------------------


@pytest.mark.parametrize("ending", PACKERS)
def test_an_archive_reads_like_its_folder(tmp_path: Path, ending: str) -> None:
    paths = [f"train/{c}/{i}.png" for c in ("a", "é", "дом") for i in range(3)]
    root = build(tmp_path / "flowers", *paths)
    tree = {path: (root / path).read_bytes() for path in paths}
    for wrap in ("", "./", "flowers/", "flowers/images/", "/".join("12345") + "/"):
        packed = {wrap + name: data for name, data in tree.items()}
        path = tmp_path / f"flowers{ending}"
        path.write_bytes(PACKERS[ending](packed))
        if wrap.startswith("1"):
            with pytest.raises(InputError, match=r"lies 7 folders deep, and the limit is 6"):
                load_dataset(path, sandbox=True)
            continue
        with load_dataset(path) as dataset:
            assert dataset.name == "flowers"
            assert dataset.fingerprint() == load_dataset(root).fingerprint()
            assert check(dataset).images == 9


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_kind_of_tar(tmp_path: Path, form: int) -> None:
    tree = {f"{'x' * 60}/{name}/{'é' * 30}{i}.png": picture(i) for name in "ab" for i in range(3)}
    assert read(tmp_path, tar_bytes(tree, form=form), ".tar") == list(tree)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_archives_are_known_by_their_content(tmp_path: Path, ending: str) -> None:
    tree = {**TREE, "__MACOSX/a/._0.png": b"x", "a/.DS_Store": b"x"}
    assert read(tmp_path, PACKERS[ending](tree), "") == list(TREE)


@pytest.mark.parametrize("ending", [".zip", ".tar"])
@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"archive_members": 5}, "6 files or more, and the limit is 5"),
        ({"archive_bytes": 100}, "than 0 MB when unpacked, the limit for an archive"),
        ({"member_bytes": 10}, "'a/0.png' has .* MB, more than the limit"),
        ({"name_bytes": 4}, "'0.png' has 5 bytes, and the limit is 4"),
    ],
)
def test_limits_of_archives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    limit: dict[str, int],
    message: str,
) -> None:
    for module in (archive, names):
        monkeypatch.setattr(module, "LIMITS", replace(LIMITS, **limit))
    assert re.search(message, refusal(tmp_path, PACKERS[ending](TREE), ending))


def test_a_damaged_member_is_skipped(tmp_path: Path) -> None:
    tree = {f"{c}/{i:02}.png": picture(i) for c in "ab" for i in range(20)}
    data = bytearray(zip_bytes(tree, zipfile.ZIP_STORED))
    data[data.index(tree["b/03.png"], data.index(b"b/03.png")) + 40] ^= 255
    (tmp_path / "x.zip").write_bytes(data)
    with load_dataset(tmp_path / "x.zip") as dataset:
        (skipped,) = check(dataset).skipped
    assert (skipped.name, skipped.reason) == ("b/03.png", "damaged in the archive")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("METAD2A_CACHE")
    assert cache_folder().name == "metad2a"
