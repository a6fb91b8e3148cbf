"""Pictures of more than 8 bits: one black and one white for a set, neither dark nor binary."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metad2a.datasets import UnreadableImage, check, load_dataset
from metad2a.datasets.decode import decode, spread
from metad2a.datasets.levels import Levels, levels_of, spread_of
from metad2a.prediction import Predictor

RNG = np.random.default_rng(5)


def gray_set(folder: Path, pictures: list[np.ndarray], kind: str = "png") -> Path:
    for i, picture in enumerate(pictures):
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"{i}.{kind}")
    return folder


def noise(low: float, high: float, dtype: str = "uint16") -> np.ndarray:
    return RNG.uniform(low, high, (24, 20)).astype(dtype)


def seen(*pictures: np.ndarray) -> Levels:
    return levels_of(one for one in map(spread_of, pictures) if one is not None)


@pytest.mark.parametrize(
    ("low", "high", "dtype", "white"),
    [
        (0, 1020, "uint16", 1023),
        (1605, 4095, "uint16", 4095),
        (0, 9000, "uint16", 16383),
        (300, 60000, "uint16", 65535),
        (0, 4000, "int32", 4095),
        (0, 0.9, "float32", 1),
        (0, 200, "float32", 255),
        (0, 2, "uint16", 1),
    ],
)
def test_white_is_the_end_of_the_range_that_is_used(
    low: float, high: float, dtype: str, white: float
) -> None:
    assert seen(noise(low, high, dtype)) == Levels(0, white)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [(0, 90, "uint16"), (291, 300, "uint16"), (20_000, 25_000, "uint16"), (-30, 40, "float32")],
)
def test_what_uses_less_than_an_eighth_is_spread(low: float, high: float, dtype: str) -> None:
    picture = noise(low, high, dtype)
    picture[0, 0] = 60_000  # an odd pixel
    many = [noise(low, high, dtype) for _ in range(5)] + [np.tile(picture, (8, 8))]
    many[-1][1:, 1:] = np.tile(noise(low, high, dtype), (8, 8))[1:, 1:]
    shown = seen(*many).eight_bits(many[0])
    assert 90 < shown.mean() < 165 and len(np.unique(shown)) > 7


def test_one_rule_for_a_set(tmp_path: Path) -> None:
    dark, bright = noise(0, 500), noise(0, 4095)
    with load_dataset(gray_set(tmp_path / "x", [dark, bright] * 4)) as dataset:
        report = check(dataset)
        found = {dataset.locate(i): dataset.image(i).mean() for i in range(len(dataset))}
    assert found["b/1.png"] / found["a/0.png"] == pytest.approx(4095 / 500, rel=0.1)
    assert report.notes == ("Pictures of more than 8 bits: 0 is shown as black and 4095 as white.",)
    with load_dataset(tmp_path / "x", sandbox=True) as apart:
        assert check(apart) == report
        assert {apart.locate(i): apart.image(i).mean() for i in range(len(apart))} == found


def test_a_border_without_data(tmp_path: Path) -> None:
    pictures = [noise(0.3, 0.8, "float32") for _ in range(4)]
    for picture in pictures:
        picture[:3] = np.nan
    with load_dataset(gray_set(tmp_path, pictures, "tif")) as dataset:
        image = dataset.image(0)
    assert (image[:3] == 0).all() and 110 < image[4:].mean() < 170


def test_arrays_are_shown_as_all_of_them_say() -> None:
    images = np.stack([noise(0, 600), *(noise(0, 4095) for _ in range(3))])
    assert load_dataset(images, [0, 0, 1, 1]).image(0).max() == round(600 / 4095 * 255)
    digits = RNG.integers(0, 17, (6, 8, 8)).astype(float)
    assert load_dataset(digits, [0, 1] * 3).image(0).max() > 200


def test_a_dark_item_is_not_binary() -> None:
    items = [(torch.full((3, 8, 8), 200.0), 0), (torch.rand(3, 8, 8), 1)] * 4

    class Items(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return len(items)

        def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
            return items[index]

    dataset = load_dataset(Items())
    assert dataset.image(0).max() == 200 and dataset.image(1).max() <= 1


def test_a_picture_is_predicted_as_the_training_showed_it(tmp_path: Path) -> None:
    (picture,) = sorted(gray_set(tmp_path, [noise(0, 500)]).rglob("*.png"))
    network = torch.nn.Flatten()
    own = Predictor(network, ["a", "b"], 20)._square(picture)
    trained = Predictor(network, ["a", "b"], 20, Levels(0, 4095))._square(picture)
    assert own.max() > 100
    assert trained.max() < 40


def test_only_the_head_of_other_pictures_is_read() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (300, 300)).save(stream, "PNG")
    assert spread(stream.getvalue()[:60]) is None


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiffs_that_are_not_read_say_what_they_are(order: str) -> None:
    tags = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 13, 200), (277, 3, 1, 13), (339, 3, 13, 226)]
    head = b"II*\0" if order == "<" else b"MM\0*"
    data = head + struct.pack(f"{order}LH", 8, len(tags))
    for tag, kind, count, value in tags:
        short = kind == 3 and count == 1
        data += struct.pack(f"{order}HHL", tag, kind, count)
        data += struct.pack(
            f"{order}HH" if short else f"{order}L", *([value, 0] if short else [value])
        )
    data = data.ljust(200, b"\0") + struct.pack(f"{order}13H", *[16] * 13)
    data += struct.pack(f"{order}13H", *[1] * 13) + bytes(9 * 9 * 26)
    with pytest.raises(UnreadableImage, match="a TIFF of 13 channels of 16-bit whole numbers"):
        decode(data)
    with pytest.raises(UnreadableImage, match=r"a TIFF of|not an image"):
        decode(data[:60])


def test_a_pointer_of_git_lfs() -> None:
    data = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    with pytest.raises(UnreadableImage, match="git lfs pull"):
        decode(data)
