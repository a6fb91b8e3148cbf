"""Names and kinds of members from strangers, faults P1 to P14."""

import io
import os
import re
import stat
import tarfile
import unicodedata
import zipfile
from pathlib import Path

import pytest
from archives import PACKERS, TREE, listed, picture, read, refusal, zip_bytes

from metad2a.datasets import check, load_dataset
from metad2a.datasets.layout import read_layout
from metad2a.errors import InputError

both = pytest.mark.parametrize("ending", [".zip", ".tar"])
SPECIAL = {
    "symbolic link": (tarfile.SYMTYPE, stat.S_IFLNK),
    "hard link": (tarfile.LNKTYPE, 0),
    "device": (tarfile.CHRTYPE, stat.S_IFCHR),
    "disk": (tarfile.BLKTYPE, stat.S_IFBLK),
    "pipe": (tarfile.FIFOTYPE, stat.S_IFIFO),
    "socket": (b"s", stat.S_IFSOCK),
}


@both
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("../../x.png", id="P1"),
        pytest.param("a/../../x.png", id="P1-inside"),
        pytest.param("a/../b/x.png", id="P1-and-back"),
        pytest.param("../notes.txt", id="P1-no-image"),
        pytest.param("/etc/x.png", id="P2"),
        pytest.param("//etc/x.png", id="P2-twice"),
        pytest.param("C:\\a\\x.png", id="P3"),
        pytest.param("c:/a/x.png", id="P3-slash"),
        pytest.param("\\\\srv\\a\\x.png", id="P3-share"),
        pytest.param("..\\..\\x.png", id="P5"),
        pytest.param("a\\..\\..\\x.png", id="P5-inside"),
    ],
)
def test_paths_that_lead_out(tmp_path: Path, ending: str, name: str) -> None:
    message = refusal(tmp_path, PACKERS[ending](TREE | {name: picture(1)}), ending)
    assert f"{name!r} is a path that leaves the archive" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["temporary", f"x{ending}"]


@both
def test_p4_nul_in_a_name(tmp_path: Path, ending: str) -> None:
    name = f"a/{'N' * 110}.png"  # Long enough for a pax record: a short one in a tar ends at NUL.
    data = PACKERS[ending](TREE | {name: picture(1)})
    data = data.replace(b"NNNN.png", b"NN\0N.png")
    assert "leaves the archive" in refusal(tmp_path, data, ending)


@pytest.mark.parametrize("kind", SPECIAL)
def test_p6_p7_links_and_devices(tmp_path: Path, kind: str) -> None:
    in_tar, in_zip = SPECIAL[kind]
    member = tarfile.TarInfo("a/link")
    member.type, member.linkname = in_tar, "/etc"
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.addfile(member)
        archive.addfile(tarfile.TarInfo("a/link/passwd.png"))  # Through the link.
    message = refusal(tmp_path, stream.getvalue(), ".tar")
    assert "'a/link' is a link, a device or a sparse file" in message
    if in_zip:
        info = zipfile.ZipInfo("a/link")
        info.external_attr = (in_zip | 0o777) << 16
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(info, "/etc")
            archive.writestr("a/link/passwd.png", b"")
        message = refusal(tmp_path, stream.getvalue())
        assert "'a/link' is a link or a device. Zip the files themselves" in message


def test_p7_sparse_files(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a/hole.png")
    member.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(2**40),
        "GNU.sparse.name": "a/hole.png",
    }
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member)
    assert "or a sparse file" in refusal(tmp_path, stream.getvalue(), ".tar")


@both
def test_p8_long_names_and_paths(tmp_path: Path, ending: str) -> None:
    pack = PACKERS[ending]
    image = picture(1)
    message = refusal(tmp_path, pack(TREE | {f"a/{'x' * 296}.png": image}), ending)
    assert "has 300 bytes, and the limit is 255" in message
    message = refusal(tmp_path, pack(TREE | {f"a/{'é' * 126}.png": image}), ending)
    assert "has 256 bytes" in message
    message = refusal(tmp_path, pack(TREE | {"a/" + "y/" * 2000 + "1.png": image}), ending)
    assert "lies 2,001 folders deep, and the limit is 6" in message
    longest = f"{'x' * 255}/{'é' * 125}z.png"
    tree = {longest: image, "b/1.png": image}
    assert set(listed(tmp_path, pack(tree), ending)) == set(tree)


@both
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("é", unicodedata.normalize("NFD", "é")),
        ("cat", "c\u200bat"),
        ("cat", "cat\ufeff"),
        ("cat", "cat\u200f"),
        ("STRASSE", "straße"),
        ("cat", "cat."),
        ("cat", "cat "),
    ],
    ids=["NFC-NFD", "zero width", "mark", "direction", "case", "dot", "space"],
)
def test_p9_p11_twins(tmp_path: Path, ending: str, one: str, other: str) -> None:
    tree = {f"{name}/{i}.png": picture(i) for name in (one, other) for i in range(2)}
    message = refusal(tmp_path, PACKERS[ending](tree), ending)
    assert "are the same name on some systems" in message
    assert ascii(one) in message and ascii(other) in message  # As text, they may look alike.


@both
@pytest.mark.parametrize("character", ["\u202e", "\u2066", "\n", "\x1b", "\x7f", "\x85", "\u2028"])
def test_p9_characters_that_act(tmp_path: Path, ending: str, character: str) -> None:
    data = PACKERS[ending](TREE | {f"a/x{character}gnp.png": picture(1)})
    message = refusal(tmp_path, data, ending)
    assert f"has the control character U+{ord(character):04X}" in message
    assert character not in message


@both
def test_p9_other_scripts_stay_as_they_are(tmp_path: Path, ending: str) -> None:
    # Persian is not written without the zero-width non-joiner, nor some emoji without the joiner.
    classes = ("خانه\u200cها", "חתול", "日本", "👩\u200d🚀", unicodedata.normalize("NFD", "für"))
    tree = {f"{name}/{i}.png": picture(i) for name in classes for i in range(2)}
    path = tmp_path / f"x{ending}"
    path.write_bytes(PACKERS[ending](tree))
    with load_dataset(path) as dataset:
        assert set(dataset.classes) == set(classes)
        assert check(dataset).images == 10


def test_p10_old_encodings(tmp_path: Path) -> None:
    tree = {name.replace("a/", "Kxln/"): data for name, data in TREE.items()}
    for raw, name in ((b"K\x94ln", "Köln"), (b"K\xffln", "K\xa0ln"), ("Kö".encode() + b"n", "Kön")):
        zipped = zip_bytes(tree).replace(b"Kxln", raw)
        assert f"{name}/2.png" in listed(tmp_path, zipped)
        # Said to be UTF-8, true or not.
        flagged = re.sub(rb"(?s)(PK\x01\x02.{4})..", b"\\1\0\x08", zipped)
        assert f"{name}/2.png" in listed(tmp_path, flagged)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, data in tree.items():
            member = tarfile.TarInfo(os.fsdecode(name.encode().replace(b"Kxln", b"K\x94ln")))
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert "Köln/2.png" in listed(tmp_path, stream.getvalue(), ".tar")


@both
@pytest.mark.parametrize("name", ["CON.png", "aux.png", "x .png", "nul", "dot.", "space "])
def test_p11_names_that_windows_refuses(tmp_path: Path, ending: str, name: str) -> None:
    # Nothing is written under these names, so they are names like any other.
    path = f"a/{name}" if name.endswith(".png") else f"{name}/1.png"
    tree = TREE | {path: picture(1), f"{path}.png": picture(2)}
    assert path in read(tmp_path, PACKERS[ending](tree), ending)


@both
def test_p12_litter_is_ignored(tmp_path: Path, ending: str) -> None:
    litter = (
        "__MACOSX/._a.png",
        "__MACOSX/a/._0.png",
        ".DS_Store",
        "a/.DS_Store",
        "a/Thumbs.db",
        "a/Icon\r",
        "a/.0.png.swp",
        ".git/a/0.png",
        "a/desktop.ini",
        "readme.txt",
        f"__MACOSX/{'d/' * 9}._x.png",
    )
    data = PACKERS[ending](dict.fromkeys(litter, b"litter") | TREE)
    assert read(tmp_path, data, ending) == list(TREE)


@both
def test_p13_wrapping_folders_and_sides(tmp_path: Path, ending: str) -> None:
    tree = {
        f"./pets/{side}/{name}": data
        for side in ("train", "val", "test")
        for name, data in TREE.items()
    }
    path = tmp_path / f"x{ending}"
    path.write_bytes(PACKERS[ending](tree))
    with load_dataset(path) as dataset:
        report = check(dataset)
        assert (dataset.classes, report.split, report.images) == (("a", "b"), (6, 12), 18)


@both
def test_p5_backslashes_that_stay_inside(tmp_path: Path, ending: str) -> None:
    tree = {name.replace("/", "\\"): data for name, data in TREE.items()}
    assert read(tmp_path, PACKERS[ending](tree | {"a\\b.png\\": b""}), ending) == list(TREE)


@both
@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "=cmd|' /C calc'!A0",
        "{{7*7}}",
        "${jndi:x}",
        "'; DROP TABLE x; --",
        "%s%n",
    ],
)
def test_p14_markup_and_formulas_are_text(tmp_path: Path, ending: str, name: str) -> None:
    tree = TREE | {f"{name}/{i}.png": picture(i) for i in range(2)}
    path = tmp_path / f"x{ending}"
    path.write_bytes(PACKERS[ending](tree))
    with load_dataset(path) as dataset:
        assert name.partition("/")[0] in dataset.classes
        assert check(dataset).images == 8


@both
def test_p14_a_class_of_ten_thousand_letters(tmp_path: Path, ending: str) -> None:
    data = PACKERS[ending](TREE | {f"{'x' * 10_000}/1.png": picture(1)})
    message = refusal(tmp_path, data, ending)
    assert "has 10,000 bytes, and the limit is 255" in message


def test_control_characters_in_any_tree() -> None:
    with pytest.raises(InputError, match=r"U\+001B"):
        read_layout(["a\x1b[2J/1.png", "b/1.png"])
