"""Archives that contradict themselves, faults Z7 to Z16, and what compressed tars do besides."""

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from archives import PACKERS, TREE, listed, patched, picture, read, refusal, tar_bytes, zip_bytes

from metad2a.datasets import load_dataset
from metad2a.datasets.forms import _uncompress
from metad2a.settings import LIMITS

ENTRY, END, END64, LOCATOR, LOCAL = b"PK\1\2", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\3\4"
ZIP = zip_bytes(TREE)
archives = pytest.mark.parametrize("ending", PACKERS)


@archives
def test_z7_cut_anywhere(tmp_path: Path, ending: str) -> None:
    data = PACKERS[ending](TREE)
    # The last block of a tar is padding, and one block of zeros ends it.
    last = data.rindex(TREE["b/2.png"]) + 512 if ending == ".tar" else len(data) - 1
    for cut in range(1, last, max(last // 60, 1)):
        assert "damaged" in (message := refusal(tmp_path, data[:cut], ending)) or (
            "no readable" in message or "cut short" in message
        )


@pytest.mark.parametrize(
    ("magic", "offset", "layout", "value"),
    [
        (END, 8, "HH", 5),
        (END, 8, "HH", 7),
        (END, 12, "L", 10),
        (END, 16, "L", 7),
        (END, 20, "H", 9),
        (END, 4, "H", 1),
        (ENTRY, 28, "H", 3),
        (ENTRY, 32, "H", 60_000),
        (ENTRY, 42, "L", 1),
        (ENTRY, 42, "L", 0xFFFFFFF0),
        (ENTRY, 20, "L", 10**7),
        (LOCAL, 26, "H", 2),
        (LOCAL, 28, "H", 60_000),
    ],
)
def test_z7_lists_that_lie(
    tmp_path: Path, magic: bytes, offset: int, layout: str, value: int
) -> None:
    data = patched(ZIP, magic, offset, layout, *[value] * len(layout))
    message = refusal(tmp_path, data)
    assert "no readable zip" in message or "overlap" in message


@pytest.fixture
def zip64(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A zip with a zip64 end, as writers make for 65,535 files and more."""
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 0)
    data = zip_bytes(TREE)
    assert END64 in data and LOCATOR in data
    return data


def test_z8_zip64_is_read(tmp_path: Path, zip64: bytes) -> None:
    assert read(tmp_path, zip64) == list(TREE)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in TREE.items():
            with archive.open(name, "w", force_zip64=True) as member:
                member.write(data)
    assert read(tmp_path, stream.getvalue()) == list(TREE)


@pytest.mark.parametrize(
    ("magic", "offset", "value"),
    [
        (END, 8, 3),
        (END, 12, 9),
        (LOCATOR, 8, 0),
        (LOCATOR, 8, 2**63),
        (END64, 4, 60),
        (END64, 24, 7),
        (END64, 32, 2**40),
        (END64, 40, 1),
        (END64, 48, 2**64 - 1),
        (END64, 16, 1),
    ],
)
def test_z8_zip64_that_disagrees(
    tmp_path: Path, zip64: bytes, magic: bytes, offset: int, value: int
) -> None:
    layout = "H" if magic == END and offset == 8 else "L" if magic == END else "Q"
    assert "no readable zip" in refusal(tmp_path, patched(zip64, magic, offset, layout, value))


@pytest.mark.parametrize("offset", [20, 24, 42])
def test_z8_a_zip64_size_is_missing(tmp_path: Path, offset: int) -> None:
    data = patched(ZIP, ENTRY, offset, "L", 2**32 - 1)
    assert "a zip64 size is missing" in refusal(tmp_path, data)


@pytest.mark.parametrize("place", [len(ZIP), 2**40, 2**64 - 1])
def test_z8_a_member_far_behind_the_end(tmp_path: Path, place: int) -> None:
    extra = struct.pack("<2HQ", 1, 8, place)
    data = patched(patched(ZIP, ENTRY, 42, "L", 2**32 - 1), ENTRY, 30, "H", len(extra))
    entries, end = data.index(ENTRY), data.rindex(END)
    data = data[:end] + extra + data[end:]
    data = patched(data, END, 12, "L", end - entries + len(extra))
    assert "'b/2.png' claims" in refusal(tmp_path, data)


def test_z9_encrypted(tmp_path: Path) -> None:
    for flag in (0x0001, 0x0040, 0x2000):
        message = refusal(tmp_path, patched(ZIP, ENTRY, 8, "H", flag))
        assert "'b/2.png' is encrypted. Zip the folder without a password" in message


@pytest.mark.parametrize("method", [1, 9, 12, 14, 93, 98, 99])
def test_z10_other_methods(tmp_path: Path, method: int) -> None:
    message = refusal(tmp_path, patched(ZIP, ENTRY, 10, "H", method))
    assert f"'b/2.png' is packed by method {method}" in message
    patch = patched(ZIP, ENTRY, 8, "H", 0x20)  # Of a file that is somewhere else.
    assert "is packed by method 8" in refusal(tmp_path, patch)
    modes = {12: zipfile.ZIP_BZIP2, 14: zipfile.ZIP_LZMA}
    if method in modes:
        assert f"by method {method}" in refusal(tmp_path, zip_bytes(TREE, modes[method]))


def test_z11_other_data_around_it(tmp_path: Path) -> None:
    before = picture(0)
    assert "other data stands before it" in refusal(tmp_path, before + ZIP)
    (tmp_path / "polyglot.png").write_bytes(before)
    with zipfile.ZipFile(tmp_path / "polyglot.png", "a") as archive:  # With its places corrected.
        archive.writestr("a/1.png", before)
    polyglot = (tmp_path / "polyglot.png").read_bytes()
    assert "other data stands before it" in refusal(tmp_path, polyglot)
    assert "other data stands before it" in refusal(tmp_path, polyglot, "")  # By its content.
    assert "other data after it" in refusal(tmp_path, ZIP + before)
    for compress in (gzip.compress, bz2.compress, lzma.compress):
        data = compress(tar_bytes(TREE)) + b"<!doctype html><html>"
        assert "compression is damaged" in refusal(tmp_path, data, ".tar.gz")


@archives
def test_z12_empty(tmp_path: Path, ending: str) -> None:
    assert "No image found" in refusal(tmp_path, PACKERS[ending]({}), ending)
    assert "no readable" in refusal(tmp_path, b"", ending)


@archives
def test_z13_only_folders(tmp_path: Path, ending: str) -> None:
    folders = {"a/": b"", "b.png/": b"", "b.png/c/": b""}
    if ending != ".zip":
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w:" + ending[5:]) as archive:
            for name in folders:
                member = tarfile.TarInfo(name)
                member.type = tarfile.DIRTYPE
                archive.addfile(member)
        data = stream.getvalue()
    else:
        data = zip_bytes(folders)
    assert "No image found" in refusal(tmp_path, data, ending)


@archives
def test_z14_the_same_name_twice(tmp_path: Path, ending: str) -> None:
    data = PACKERS[ending](TREE | {"a//0.png": picture(1)})
    assert "'a/0.png' is in it twice" in refusal(tmp_path, data, ending)


@archives
@pytest.mark.parametrize(("one", "other"), [("a/0.png", "a/0.PNG"), ("a", "A")])
def test_z15_names_that_differ_by_case(tmp_path: Path, ending: str, one: str, other: str) -> None:
    twin = other if "/" in other else f"{other}/9.png"
    message = refusal(tmp_path, PACKERS[ending](TREE | {twin: picture(1)}), ending)
    assert f"{one!r} and {other!r} are the same name" in message


@archives
@pytest.mark.parametrize(
    "data",
    [
        b"PK\3\4 nothing else",
        b"<html></html>",
        picture(0),
        bytes(300),
        b"\x1f\x8b",
        b"BZh9",
        b"\xfd7zXZ\0",
        END * 30,
    ],
)
def test_z16_something_else(tmp_path: Path, ending: str, data: bytes) -> None:
    message = refusal(tmp_path, data, ending)
    assert "no readable" in message or "damaged" in message or "cut short" in message


# -- compressed tars ---------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_streams_in_a_row(tmp_path: Path, compress) -> None:
    tar = tar_bytes(TREE)
    parts = [compress(tar[at : at + 3_000]) for at in range(0, len(tar), 3_000)]
    assert read(tmp_path, (bytes(512)).join(parts) + bytes(100), ".tgz") == list(TREE)


def test_xz_that_asks_for_much_memory(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(TREE, "xz"))
    end = 12 + 4 * data[12]  # Of the first block's header; its checksum follows.
    assert data[14:16] == b"\x21\x01"  # LZMA2, with one byte for the size of its dictionary:
    data[16] = 36  # 1 GiB
    data[end : end + 4] = zlib.crc32(data[12:end]).to_bytes(4, "little")
    lzma.LZMADecompressor().decompress(bytes(data))
    assert "compression is damaged" in refusal(tmp_path, bytes(data), ".tar.xz")


def test_unpacking_is_stopped_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_uncompress, "LIMITS", replace(LIMITS, ingest_seconds=0))
    assert "takes more than 0 s" in refusal(tmp_path, tar_bytes(TREE, "gz"), ".tar.gz")


def test_too_many_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_uncompress, "LIMITS", replace(LIMITS, archive_members=50))
    data = gzip.compress(b"") * 51 + tar_bytes(TREE, "gz")
    assert "more than 50 compressed pieces" in refusal(tmp_path, data, ".tar.gz")


def test_a_bomb_behind_the_end_of_the_tar(tmp_path: Path) -> None:
    data = gzip.compress(tar_bytes(TREE) + bytes(20_000_000))
    assert "10 MB when unpacked" in refusal(tmp_path, data, ".tar.gz")


def test_no_room_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(tmp_path))

    monkeypatch.setattr(_uncompress, "_copy", full)
    message = refusal(tmp_path, tar_bytes(TREE, "gz"), ".tar.gz")
    assert "cannot be read (No space left on device). Is there room on the disk?" in message


@pytest.mark.parametrize("ending", [".zip", ".tar"])
def test_the_file_shrinks_or_is_closed(tmp_path: Path, ending: str) -> None:
    large = np.random.default_rng(0).bytes(100_000)
    data = PACKERS[ending](TREE | {"c/1.png": large, "c/2.png": large})
    index = listed(tmp_path, data, ending).index("c/1.png")
    path = tmp_path / f"x{ending}"
    with load_dataset(path) as dataset:
        assert dataset.content(index) == large
        os.truncate(path, 50_000)
        assert dataset.content(index) == b""
    assert dataset.content(0) == b""
