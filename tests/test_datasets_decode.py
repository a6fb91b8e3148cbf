"""Images of every mode come out as the picture that a viewer shows."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metad2a.datasets import UnreadableImage
from metad2a.datasets.decode import FORMATS, decode, to_rgb

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 11, 3), dtype=np.uint8)
GRAY = RNG.integers(0, 256, (9, 11), dtype=np.uint8)
SMOOTH = np.stack(
    np.broadcast_arrays(np.linspace(20, 220, 32)[:, None], np.linspace(0, 200, 48), 90.0), axis=2
).astype(np.uint8)


def tiled(values: Any, dtype: Any) -> Image.Image:
    """Return rows of pixels, repeated until the image is large enough to be read."""
    block = np.array(values, dtype=dtype)
    return Image.fromarray(np.tile(block, (8, 8) + (1,) * (block.ndim - 2)))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def read(image: Image.Image, kind: str = "PNG", **options: Any) -> np.ndarray:
    pixels, size = decode(encode(image, kind, **options))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*size, 3)
    return pixels


@pytest.mark.parametrize("kind", FORMATS)
def test_formats(kind: str) -> None:
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98}}.get(kind, {})
    out = read(Image.fromarray(SMOOTH), kind, **options)
    tolerance = {"JPEG": 6, "GIF": 40}.get(kind, 0)
    assert np.abs(out.astype(int) - SMOOTH).max() <= tolerance


def test_other_formats_are_not_opened() -> None:
    for kind in ("ICO", "TGA", "PCX"):
        with pytest.raises(UnreadableImage, match="not an image"):
            read(Image.fromarray(SMOOTH), kind)


def test_i9_gray_and_one_bit() -> None:
    np.testing.assert_array_equal(read(Image.fromarray(GRAY)), np.stack([GRAY] * 3, axis=2))
    bits = Image.fromarray(GRAY > 128)
    assert bits.mode == "1"
    np.testing.assert_array_equal(read(bits)[:, :, 0], 255 * (GRAY > 128))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_i9_alpha_goes_on_white(mode: str) -> None:
    alpha = np.zeros((9, 11), dtype=np.uint8)
    alpha[0], alpha[1] = 255, 128
    image = Image.fromarray(COLOUR).convert("L" if mode == "LA" else "RGB")
    opaque = np.asarray(image.convert("RGB")).astype(int)
    image.putalpha(Image.fromarray(alpha))
    assert image.mode == mode
    out = read(image).astype(int)
    np.testing.assert_array_equal(out[0], opaque[0])
    assert np.abs(out[1] - (opaque[1] + 255) / 2).max() <= 2
    assert (out[2:] == 255).all()


def test_i9_palette_with_and_without_transparency() -> None:
    image = tiled([[0, 1], [2, 1]], np.uint8).convert("P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    np.testing.assert_array_equal(read(image)[0, :2], [[255, 0, 0], [0, 255, 0]])
    for transparency in (1, bytes([255, 0])):
        out = read(image, transparency=transparency)
        np.testing.assert_array_equal(out[0, :2], [[255, 0, 0], [255, 255, 255]])
        np.testing.assert_array_equal(out[1, 0], [0, 0, 255])


def test_i9_colour_key_transparency() -> None:
    image = tiled([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    out = read(image, transparency=(1, 2, 3))
    np.testing.assert_array_equal(out[0, :2], [[255, 255, 255], [4, 5, 6]])


def test_i9_cmyk_jpeg() -> None:
    out = read(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=98)
    assert np.abs(out.astype(int) - SMOOTH).max() <= 8


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_i9_sixteen_bits_are_scaled_not_clipped(kind: str) -> None:
    out = read(tiled([[0, 257, 32896, 65535]], np.uint16), kind)
    np.testing.assert_array_equal(out[0, :4, 0], [0, 1, 128, 255])
    np.testing.assert_array_equal(out[:, :, 0], out[:, :, 2])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 0.5, 1.0], [0, 128, 255]),
        ([0.0, 127.6, 255.0], [0, 128, 255]),
        ([-1.0, 0.0, 1.0], [0, 128, 255]),
        ([300.0, 300.0, 300.0], [75, 75, 75]),
    ],
)
def test_i9_float_tiff(values: list[float], expected: list[int]) -> None:
    out = read(tiled([values], np.float32), "TIFF")
    np.testing.assert_array_equal(out[0, :3, 0], expected)


def test_i9_float_tiff_with_a_border_of_no_data() -> None:
    out = read(tiled([[np.nan, 0.5, 1.0, np.inf]], np.float32), "TIFF")
    np.testing.assert_array_equal(out[0, :4, 0], [0, 128, 255, 0])
    with pytest.raises(UnreadableImage, match="no pixel value is finite"):
        read(tiled([[np.nan, np.nan]], np.float32), "TIFF")


def test_i9_int32_and_premultiplied_modes() -> None:
    out = to_rgb(Image.fromarray(np.array([[-10, 0, 10]], dtype=np.int32)))
    np.testing.assert_array_equal(out[0, :, 0], [0, 128, 255])
    clear = Image.new("RGBA", (2, 2), (9, 9, 9, 0)).convert("RGBa")
    assert (to_rgb(clear) == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_i10_exif_orientation(orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }
    image = Image.fromarray(COLOUR)
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = image.transpose(turns[orientation]) if orientation in turns else image
    np.testing.assert_array_equal(read(image, exif=exif), np.asarray(upright))


def test_i11_damaged_exif_is_ignored() -> None:
    data = encode(Image.fromarray(SMOOTH), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert decode(data)[1] == (32, 48)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    out = read(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(out[0, 0], [255, 0, 0])


def test_a_large_jpeg_is_reduced_but_its_size_is_told() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.new("RGB", (640, 400), "teal"), "JPEG", exif=exif)
    pixels, size = decode(data, side=50)
    assert size == (640, 400)
    assert pixels.shape == (80, 50, 3)
    assert decode(data)[0].shape == (640, 400, 3)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP"])
def test_truncated(kind: str) -> None:
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(UnreadableImage) as caught:
        decode(data[: len(data) // 2])
    assert len(str(caught.value)) < 120
    if kind != "TIFF":
        assert str(caught.value) == "truncated"


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty file"), (b"<svg/>", "not an image")])
def test_no_image(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage) as caught:
        decode(data)
    assert str(caught.value) == reason


@pytest.mark.parametrize("side", [4_001, 10_000, 20_000])
def test_i2_bombs_are_refused_before_decoding(side: int) -> None:
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"\x89PNG\r\n\x1a\n" + chunks + struct.pack(">I", 10) + b"IDAT"
    with pytest.raises(UnreadableImage, match="more than 16 megapixels"):
        decode(data)
