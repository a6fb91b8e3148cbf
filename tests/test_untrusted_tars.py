"""Headers of tars that no writer makes, or that only some make."""

import tarfile
from pathlib import Path

import pytest
from archives import TREE, listed, picture, read, refusal, tar_bytes

IMAGE = picture(0)
END = bytes(1024)
REST = tar_bytes(TREE)


def header(name: str, size: int, kind: bytes = b"0", field: bytes | None = None) -> bytes:
    """A ustar header with its checksum; ``field`` is written in place of the size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    out = bytearray(member.tobuf(tarfile.USTAR_FORMAT))
    out[:100] = name.encode().ljust(100, b"\0")
    out[124:136] = (b"%011o\0" % size) if field is None else field
    out[148:156] = b" " * 8
    out[148:156] = b"%06o\0 " % sum(out)
    return bytes(out)


def entry(name: str, data: bytes, kind: bytes = b"0", field: bytes | None = None) -> bytes:
    return header(name, len(data), kind, field) + data + bytes(-len(data) % 512)


def record(key: str, value: str) -> bytes:
    body = f" {key}={value}\n".encode()
    length = len(body)
    while length < len(body) + len(str(length)):
        length += 1
    return str(length).encode() + body


@pytest.mark.parametrize(
    "field",
    [
        b"%11o " % len(IMAGE),
        b"%o\0" % len(IMAGE),
        b" %o" % len(IMAGE),
        b"\x80" + len(IMAGE).to_bytes(11, "big"),
    ],
)
def test_ways_of_writing_a_size(tmp_path: Path, field: bytes) -> None:
    data = entry("a/9.png", IMAGE, field=field.ljust(12, b"\0")) + REST
    assert "a/9.png" in read(tmp_path, data, ".tar")


@pytest.mark.parametrize("field", [b"-1", b"9", b"0x1", b"\xff" * 12, b"1 1", "٣".encode()])
def test_sizes_that_are_no_numbers(tmp_path: Path, field: bytes) -> None:
    data = entry("a/9.png", IMAGE, field=field.ljust(12, b"\0")) + REST
    assert "a number in a header is wrong" in refusal(tmp_path, data, ".tar")


def test_a_header_with_a_wrong_checksum(tmp_path: Path) -> None:
    data = REST[:1024] + REST[1024:].replace(b"a/1.png", b"a/9.png")
    message = refusal(tmp_path, data, ".tar")
    assert f"the header at byte {data.index(b'a/9.png'):,} is wrong" in message


def test_a_size_beyond_everything(tmp_path: Path) -> None:
    data = entry("a/9.png", IMAGE, field=b"\x80" + b"\xff" * 11) + REST
    assert "more than the limit of 20 MB a file" in refusal(tmp_path, data, ".tar")


def test_pax_records_win_over_the_header(tmp_path: Path) -> None:
    pax = entry("x", record("size", str(len(IMAGE))) + record("path", "b/é.png"), b"x")
    data = pax + header("a/0.png", 0) + IMAGE + bytes(-len(IMAGE) % 512)
    names = read(tmp_path, data + REST, ".tar")
    assert names == [*TREE, "b/é.png"]  # What follows has its own name again.


@pytest.mark.parametrize(
    "pax",
    [
        b"5",
        b"x a=b\n",
        b"99 a=b\n",
        b"5 a=b\n",
        b"6 a=b\0",
        b"6 aab\n",
        b"0 a=b\n",
        b"-6 a=b\n",
        b"1" * 1000,
        record("size", "-1"),
        record("size", "9" * 5000),
    ],
)
def test_damaged_pax_records(tmp_path: Path, pax: bytes) -> None:
    data = entry("x", pax, b"x") + entry("a/9.png", IMAGE) + REST
    assert "no readable tar" in refusal(tmp_path, data, ".tar")


@pytest.mark.parametrize("kind", [b"x", b"g", b"L", b"K"])
def test_endless_extensions(tmp_path: Path, kind: bytes) -> None:
    long = entry("x", bytes(2**20 + 1), kind)
    assert "is too long" in refusal(tmp_path, long + REST, ".tar")
    chain = entry("x", b"a/9.png", kind) * 2
    assert "is too long" in refusal(tmp_path, chain + REST, ".tar")
    endless = header("x", 0, kind, b"\x80" + b"\xff" * 11)
    assert "is too long" in refusal(tmp_path, endless, ".tar")


def test_a_folder_called_like_an_image(tmp_path: Path) -> None:
    data = entry("a/9.png", b"", b"5") + entry("b/8.png/", b"") + REST
    assert listed(tmp_path, data, ".tar") == list(TREE)


def test_unpadded_names_and_the_end(tmp_path: Path) -> None:
    name = f"a/{'x' * 94}.png"  # All of the 100 bytes, and no zero behind them.
    assert name in read(tmp_path, entry(name, IMAGE) + REST, ".tar")
    without_end = entry("a/1.png", IMAGE) + entry("b/1.png", IMAGE)
    assert "cut short" in refusal(tmp_path, without_end, ".tar")
    assert listed(tmp_path, without_end + END, ".tar") == ["a/1.png", "b/1.png"]
