"""Arrays, labels and numbers of classes that are not as one expects (I17 to I25)."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from pictures import IMAGES, LABELS, TORN, png
from PIL import Image

from metad2a.datasets import check, draw, load_dataset
from metad2a.errors import InputError
from metad2a.model.description import describe


@pytest.mark.parametrize(
    "images",
    [np.repeat(IMAGES[:1], 12, axis=0), np.full_like(IMAGES, 7), np.zeros((12, 8, 8), bool)],
    ids=["I17 all identical", "I18 one colour", "I18 black"],
)
def test_images_without_any_variation_are_described(images: np.ndarray) -> None:
    description, report = describe(load_dataset(images, LABELS), 0)
    assert report.images == 12
    values = [value for value in vars(description).values() if isinstance(value, torch.Tensor)]
    assert values and all(bool(value.isfinite().all()) for value in values)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2, 3] * 4, "Label 3 is outside 0 to 2"),
        ([-2, 0, 1] * 4, "Label -2 is outside 0 to 2"),
        ([2**70, 1, 2] * 4, "more than 63 bits"),
        ([10**5000, 1, 2] * 4, "more than 63 bits"),
        (np.array([2**64 - 1, 1, 2] * 4, dtype=np.uint64), "18446744073709551615 is not a class"),
        ([1e300, 1.0, 2.0] * 4, "1e.300 is not a class"),
        ([float("nan"), "nan", ""] * 4, "12 of 12 labels are missing"),
        ([None] * 12, "12 of 12 labels are missing"),
        (["a", ("b",), "c"] * 4, "is a tuple, not a class"),
        ([{"a": 1}] * 12, "is a dict, not a class"),
        (np.eye(3)[LABELS] * 0.9, "not one-hot"),
        (LABELS[:-1], "12 images but 11 labels"),
        ([*LABELS, 0], "12 images but 13 labels"),
        ("cat", "is the path of a manifest"),
    ],
    ids=[
        "off by one",
        "-2",
        "2^70",
        "10^5000",
        "uint64",
        "1e300",
        "NaN",
        "None",
        "tuple",
        "dicts",
        "soft one-hot",
        "one short",
        "one more",
        "a word",
    ],
)
def test_i19_labels(labels: Any, message: str) -> None:
    names = ["x", "y", "z"] if "outside" in message else None
    with pytest.raises(InputError, match=message):
        load_dataset(IMAGES, labels, classes=names)


@pytest.mark.parametrize("none", [None, float("nan"), "", "nan"])
def test_i19_images_without_a_label_are_left_out(none: Any) -> None:
    dataset = load_dataset(IMAGES, ["a", none, "b"] * 4)
    assert (dataset.classes, len(dataset), dataset.locate(1)) == (("a", "b"), 8, "image 2")
    assert dataset.notes == ("4 of 12 images have no label and are left out.",)
    np.testing.assert_array_equal(dataset.image(1), IMAGES[2])


def test_i19_bytes_are_text() -> None:
    assert load_dataset(IMAGES, np.array([b"cat", b"dog", b"eel"] * 4)).classes == (
        "cat",
        "dog",
        "eel",
    )


@pytest.mark.parametrize("images", [IMAGES[:0], [], torch.zeros(0, 3, 8, 8)])
def test_i19_a_batch_of_none(images: Any) -> None:
    for look in (check, lambda dataset: draw(dataset, 0)):
        with pytest.raises(InputError, match=r"holds no image\. Give at least 2 images of each"):
            look(load_dataset(images, []))


def test_a_damaged_pillow_image_is_skipped() -> None:
    torn = Image.open(io.BytesIO(png(TORN)[:1000]))
    images = [*(Image.fromarray(image) for image in IMAGES), *IMAGES, torn]
    (skipped,) = check(load_dataset(images, [*LABELS, *LABELS, 0])).skipped
    assert (skipped.name, skipped.reason) == ("image 24", "truncated")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(30_000, int), "1 class, '0'; at least 2 are needed"),
        (np.arange(30_000) // 3, "10,000 classes, more than the limit of 1,000"),
        (np.arange(30), r"'0' has 1 readable image \(and 29 other classes as few\)"),
    ],
    ids=["I20 one class", "I21 10,000 classes", "I22 one image a class"],
)
def test_numbers_of_classes(labels: np.ndarray, message: str) -> None:
    dataset = load_dataset(np.zeros((len(labels), 1, 1), np.uint8), labels)
    for look in (check, lambda dataset: draw(dataset, 0)):
        with pytest.raises(InputError, match=message):
            look(dataset)


def test_i21_a_thousand_classes_are_read() -> None:
    dataset = load_dataset(np.zeros((2_000, 1, 1), np.uint8), np.arange(2_000) // 2)
    assert check(dataset).classes == 1_000


def test_i23_a_thousand_to_one() -> None:
    dataset = load_dataset(np.zeros((2_002, 1, 1), np.uint8), [0] * 2_000 + [1] * 2)
    sample = draw(dataset, 0)
    assert np.bincount(sample.labels).tolist() == [20, 2]
    assert sample.report.smallest_class == ("1", 2)
    assert "2 (1) to 2,000 (0) images a class" in str(sample.report)


def test_i24_i25_gray_and_colour_and_all_sizes() -> None:
    images = [IMAGES[0], IMAGES[1, :, :, 0], np.tile(IMAGES[2], (40, 1, 1)), *IMAGES[3:]]
    report = check(load_dataset(images, LABELS))
    assert (report.gray, report.sizes) == (False, (8, 8, 360))
    assert check(
        load_dataset([image[:, :, 0] for image in images if image.ndim == 3], [0, 1] * 5 + [0])
    ).gray
