"""Archives from strangers, faults Z1 to Z6: bombs of every kind."""

import gzip
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from archives import PACKERS, TREE, listed, patched, picture, read, refusal, tar_bytes, zip_bytes

from metad2a.datasets import UnreadableImage, archive, check, load_dataset
from metad2a.errors import InputError
from metad2a.settings import LIMITS

ZEROS = bytes(12_000_000)
archives = pytest.mark.parametrize("ending", PACKERS)


def entry_copies(data: bytes, count: int, stated: int | None = None) -> bytes:
    """Repeat the list's only entry under new names."""
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    entry = data[start:end]
    copies = b"".join(entry.replace(b"/000000.", f"/{i:06}.".encode()) for i in range(count))
    stated = count if stated is None else stated
    return (
        data[:start]
        + copies
        + data[end : end + 8]
        + struct.pack("<HHLLH", stated, stated, len(copies), start, 0)
    )


@archives
def test_z1_flat_bomb(tmp_path: Path, ending: str) -> None:
    data = PACKERS[ending](TREE | {"a/9.png": ZEROS})
    if ending == ".tar":  # Its own size is the unpacked one: it is large, not a bomb.
        assert "a/9.png" in listed(tmp_path, data, ending)
        return
    assert len(data) < 60_000
    assert "more than 10 MB when unpacked" in refusal(tmp_path, data, ending)


@archives
def test_z1_a_small_archive_of_flat_images_is_no_bomb(tmp_path: Path, ending: str) -> None:
    data = PACKERS[ending](TREE | {"a/9.png": ZEROS[:9_000_000]})
    assert len(listed(tmp_path, data, ending)) == len(TREE) + 1


def test_z1_one_member_is_too_large(tmp_path: Path) -> None:
    message = refusal(tmp_path, tar_bytes({"a/1.png": bytes(20_000_001)}), ".tar")
    assert "'a/1.png' has 20.0 MB, more than the limit of 20 MB a file" in message


@archives
def test_z2_archives_inside_are_not_opened(tmp_path: Path, ending: str) -> None:
    inner = zip_bytes({"c/1.png": picture(0), "c/2.png": ZEROS})
    pack = PACKERS[ending]
    assert read(tmp_path, pack(TREE | {"c/inner.zip": inner}), ending) == list(TREE)
    assert "No image found" in refusal(tmp_path, pack({"a/inner.zip": inner}), ending)
    names = listed(tmp_path, pack(TREE | {"a/9.png": inner}), ending)
    with (
        load_dataset(tmp_path / f"x{ending}") as dataset,
        pytest.raises(UnreadableImage, match="not an image"),
    ):
        dataset.image(names.index("a/9.png"))


def test_z3_quoted_overlap(tmp_path: Path) -> None:
    # The first member holds the second one, header and all: read twice, written once.
    inner = zip_bytes({"a/2.png": picture(2)}, zipfile.ZIP_STORED)
    data = zip_bytes({"a/1.png": inner[: inner.index(b"PK\1\2")]}, zipfile.ZIP_STORED)
    start = data.rindex(b"PK\1\2")
    entry = inner[inner.index(b"PK\1\2") : inner.index(b"PK\5\6")]
    entry = entry[:42] + struct.pack("<L", data.index(b"PK\3\4", 4)) + entry[46:]
    entries = data[start : data.rindex(b"PK\5\6")] + entry
    end = b"PK\5\6" + struct.pack("<HHHHLLH", 0, 0, 2, 2, len(entries), start, 0)
    (tmp_path / "x.zip").write_bytes(data[:start] + entries + end)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:  # Python 3.11 reads it.
        assert archive.namelist() == ["a/1.png", "a/2.png"]
    message = refusal(tmp_path, data[:start] + entries + end)
    assert "'a/1.png' claims" in message and "overlap what follows it" in message


def test_z4_full_overlap(tmp_path: Path) -> None:
    data = entry_copies(zip_bytes({"a/000000.png": picture(0)}), 10)
    assert "overlap what follows it" in refusal(tmp_path, data)


@pytest.mark.parametrize("told", [0, 100])
def test_z5_the_size_is_a_lie(tmp_path: Path, told: int) -> None:
    data = zip_bytes(
        {
            "b/1.png": TREE["b/1.png"],
            "b/2.png": TREE["b/2.png"],
            "a/0.png": picture(1),
            "a/1.png": ZEROS,
        }
    )
    path = tmp_path / "x.zip"
    path.write_bytes(patched(data, b"PK\1\2", 24, "L", told))
    with load_dataset(path) as dataset:
        tracemalloc.start()
        with pytest.raises(UnreadableImage, match="damaged in the archive"):
            dataset.image(1)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500_000  # 12 MB are behind it.
    with (
        load_dataset(path, sandbox=True) as dataset,
        pytest.raises(InputError, match=r"1 of the 4 images .*a/1.png \(damaged in the"),
    ):
        check(dataset)


def test_z5_a_stored_file_with_two_sizes_and_a_tar_that_promises(tmp_path: Path) -> None:
    data = patched(zip_bytes(TREE, zipfile.ZIP_STORED), b"PK\1\2", 24, "L", 5)
    assert "has two sizes" in refusal(tmp_path, data)
    assert "cut short" in refusal(tmp_path, tar_bytes(TREE)[:-10_000], ".tar")


@pytest.mark.parametrize("stated", [60_000, 1, 0])
def test_z6_too_many_members(tmp_path: Path, stated: int) -> None:
    data = entry_copies(zip_bytes({"a/000000.txt": b""}), 60_000, stated)
    assert (
        "It has 60,000 files or more, and the limit is 50,000"
        if stated == 60_000
        else "list disagree"
    ) in refusal(tmp_path, data)


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_z6_too_many_members_of_a_tar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    header = tar_bytes({"a/x.txt": b""})[:512]
    if ending == ".tar.gz":  # The size alone gives it away, before any member is counted.
        data = gzip.compress(header * 51_000, 1)
        assert "10 MB when unpacked" in refusal(tmp_path, data, ending)
    else:
        monkeypatch.setattr(archive, "LIMITS", replace(LIMITS, archive_members=500))
        assert "It has 501 files or more" in refusal(tmp_path, header * 600, ending)
