"""Image files from strangers (I1 to I16): the right picture, or a reason, and no harm."""

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metad2a.datasets import UnreadableImage, check, load_dataset, sandbox
from metad2a.datasets.decode import decode
from metad2a.datasets.sandbox import Sandbox
from metad2a.settings import LIMITS

NOISE = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
RED = Image.new("RGB", (8, 8), "red")
BLUE = Image.new("RGB", (8, 8), "blue")
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def flat_png(width: int, height: int, *extra: bytes) -> bytes:
    """Return a black PNG of one bit a pixel, with more chunks before its data."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + (width + 7) // 8) * height), 1)
    return (
        SIGNATURE
        + chunk(b"IHDR", header)
        + b"".join(extra)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (12_000, 12_000, "more than 16 megapixels"),  # Pillow only warns
        (4_001, 4_000, "4001x4000 pixels, more than 16 megapixels"),
        (30_000, 30_000, "more than 16 megapixels"),
        (1, 1, "1x1 pixels, a side below 8"),
        (1, 100_000, "1x100000 pixels, a side below 8"),
        (8_193, 9, "8193x9 pixels, a side above 8,192"),
    ],
    ids=["I1 144 Mpx", "I1 16 Mpx", "I2 900 Mpx", "I3 1x1", "I4 1x100,000", "8193x9"],
)
def test_sizes(width: int, height: int, reason: str) -> None:
    data = flat_png(width, height)
    assert len(data) < 600_000
    with pytest.raises(UnreadableImage, match=reason):
        decode(data)


def test_sizes_at_the_limits_are_read() -> None:
    assert decode(flat_png(8, 8_192))[0].shape == (8_192, 8, 3)
    assert decode(flat_png(4_000, 4_000))[1] == (4_000, 4_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
@pytest.mark.parametrize("tenth", range(10))
def test_i5_truncated_at_every_tenth(kind: str, tenth: int) -> None:
    data = encode(Image.fromarray(NOISE), kind)
    with pytest.raises(UnreadableImage) as told:
        decode(data[: len(data) * tenth // 10])
    assert 0 < len(str(told.value)) < 120


@pytest.fixture(scope="module")
def box() -> Iterator[Sandbox]:
    opened = Sandbox()
    yield opened
    opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "PPM"])
def test_i6_flipped_bits(kind: str, box: Sandbox) -> None:
    data = np.frombuffer(encode(Image.fromarray(NOISE), kind), dtype=np.uint8)
    rng = np.random.default_rng(6)
    read = 0
    for flips in rng.integers(1, 9, 600):
        damaged = data.copy()
        # Headers are short and decide the most: every other flip is in the first hundred bytes.
        places = rng.integers(0, [100, len(data)], (flips, 2)).ravel()
        damaged[places] ^= np.uint8(1) << rng.integers(0, 8, len(places), dtype=np.uint8)
        try:
            image, stored = box.decode(damaged.tobytes())
        except UnreadableImage as error:
            assert 0 < len(str(error)) < 120
        else:
            assert image.shape == (*stored, 3)
            read += 1
    assert read < 600
    assert not box.lost


@pytest.mark.parametrize(
    ("data", "name"),
    [(encode(RED, kind), kind) for kind in ("EPS", "PDF", "ICO", "TGA", "PCX", "SGI", "DDS", "IM")]
    + [
        (b"SIMPLE  =                    T".ljust(2880), "FITS"),
        (b"8BPS\0\1" + bytes(40), "PSD"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<html></html>", "HTML"),
        (b"\0" * 300, "I14 zeros"),
        (b"", "I14 nothing"),
        (b"\x7fELF" + bytes(90), "ELF"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_i7_other_things_called_png(data: bytes, name: str, tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for i in range(12):
            (tmp_path / label / f"{i}.png").write_bytes(encode(RED))
    (tmp_path / "a" / "0.png").write_bytes(data)
    (skipped,) = check(load_dataset(tmp_path)).skipped
    assert skipped.name == "a/0.png"
    assert skipped.reason == ("not an image" if data else "empty file")


def test_i7_a_known_format_under_another_ending_is_read() -> None:
    np.testing.assert_array_equal(decode(encode(Image.fromarray(NOISE), "TIFF"))[0], NOISE)


def animation(kind: str, frames: int) -> bytes:
    """Return a red frame and then many blue ones."""
    data = encode(RED, kind, save_all=True, append_images=[BLUE], duration=10, loop=0)
    if kind == "GIF":  # blocks that start with a graphic control extension
        start = data.index(b"\x21\xf9", data.index(b"\x21\xf9") + 1)
        return data[:start] + data[start:-1] * frames + data[-1:]
    if kind == "WEBP":
        start = data.index(b"ANMF", data.index(b"ANMF") + 1)
        return _riff(data[:start] + data[start:] * frames)
    start, end = data.rindex(b"fcTL") - 4, data.index(b"IEND") - 4
    control = bytearray(data[start + 8 : start + 8 + 26])
    body = data[data.index(b"fdAT") + 8 : end - 4]
    out = [
        data[: data.index(b"acTL") - 4],
        chunk(b"acTL", struct.pack(">II", frames + 1, 0)),
        data[data.index(b"acTL") + 16 : start],
    ]
    for i in range(frames):
        control[:4] = struct.pack(">I", 1 + 2 * i)
        out += [chunk(b"fcTL", bytes(control)), chunk(b"fdAT", struct.pack(">I", 2 + 2 * i) + body)]
    return b"".join([*out, data[end:]])


def _riff(data: bytes) -> bytes:
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_i8_animations_of_ten_thousand_frames(kind: str) -> None:
    data = animation(kind, 9_999)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 10_000  # type: ignore[attr-defined]
    image, stored = decode(data)
    assert stored == (8, 8)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= 8


@functools.cache
def zeros(count: int) -> bytes:
    """Return a compressed run of zeros; made at its first use, as collecting tests makes none."""
    return zlib.compress(bytes(count))


@pytest.mark.parametrize(
    "extra",
    [
        lambda: chunk(b"zTXt", b"a\0\0" + zeros(200_000_000)),
        lambda: chunk(b"iCCP", b"a\0\0" + zeros(200_000_000)),
        lambda: chunk(b"iTXt", b"a\0\1\0\0\0" + zeros(200_000_000)),
        lambda: chunk(b"tEXt", b"a\0" + bytes(5_000_000)),
        lambda: chunk(
            b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\3\xff\xff\xff\xff" * 6_000
        ),
        lambda: chunk(b"zTXt", b"a\0\0" + zeros(900_000)) * 100,
    ],
    ids=["zTXt", "iCCP", "iTXt", "tEXt", "EXIF", "many zTXt"],
)
def test_i11_metadata_bombs(extra: Callable[[], bytes], box: Sandbox) -> None:
    data = flat_png(8, 8, extra())
    try:
        image, _ = box.decode(data)
    except UnreadableImage as error:
        assert "large" in str(error) or "Too much memory" in str(error)
    else:
        assert (image == 0).all()
    assert not box.lost


def test_i11_a_huge_colour_profile_is_passed_over() -> None:
    data = encode(Image.fromarray(NOISE), "JPEG", icc_profile=bytes(10_000_000))
    assert decode(data)[1] == (24, 20)


@pytest.mark.parametrize("kind", ["TIFF", "MPO"])
def test_i12_i13_the_first_of_several_pages(kind: str) -> None:
    data = encode(RED, kind, save_all=True, append_images=[BLUE] * 20)
    image, stored = decode(data)
    assert stored == (8, 8)
    assert np.abs(image.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_i15_a_header_and_then_a_page(kind: str) -> None:
    head = encode(Image.fromarray(NOISE), kind)[:30]
    with pytest.raises(UnreadableImage):
        decode(head + b"<html><script>alert(1)</script></html>" * 50)


def many_scans(side: int, scans: int) -> bytes:
    """Return a gray progressive JPEG whose last scan is there again and again."""
    data = encode(Image.new("L", (side, side), 200), "JPEG", progressive=True)
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:last] + data[last:end] * scans + data[end:]


@pytest.mark.slow
def test_i16_ten_thousand_scans(monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = many_scans(64, 10_000), many_scans(4_000, 10_000)
    assert len(large) < 2_000_000
    box = Sandbox()
    monkeypatch.setattr(sandbox, "LIMITS", replace(LIMITS, decode_seconds=0.5))
    with pytest.raises(UnreadableImage, match=r"decoding takes more than 0\.5 s"):
        box.decode(large)
    monkeypatch.undo()
    try:
        assert box.decode(small)[1] == (64, 64)
    except UnreadableImage as error:  # A libjpeg that limits the scans.
        assert "cannot be decoded" in str(error)
    box.close()
