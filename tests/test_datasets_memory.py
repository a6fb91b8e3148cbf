"""Arrays and torch datasets: layouts, value ranges and labels."""

import builtins
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset

from metad2a.datasets import check, draw, load_dataset
from metad2a.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
LABELS = [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.transpose(0, 3, 1, 2),
        IMAGES.astype(np.int64),
        IMAGES.astype(np.float32),
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        IMAGES.astype(np.uint16) * 257,
        torch.from_numpy(IMAGES).permute(0, 3, 1, 2),
        torch.from_numpy(IMAGES) / 255,
        list(IMAGES),
        [Image.fromarray(image) for image in IMAGES],
        np.concatenate([IMAGES, np.full((6, 5, 7, 1), 255, np.uint8)], axis=3),
    ],
)
def test_i19_layouts_and_ranges(images: Any) -> None:
    dataset = load_dataset(images, LABELS)
    for index, image in enumerate(IMAGES):
        np.testing.assert_array_equal(dataset.image(index), image)


def test_i19_gray_bool_and_mixed_sizes() -> None:
    gray = IMAGES[:, :, :, 0]
    np.testing.assert_array_equal(load_dataset(gray, LABELS).image(1)[:, :, 2], gray[1])
    np.testing.assert_array_equal(load_dataset(gray[:, None], LABELS).image(1)[:, :, 2], gray[1])
    bits = load_dataset(gray > 128, LABELS).image(0)
    assert sorted(set(bits.ravel().tolist())) == [0, 255]
    mixed = load_dataset([IMAGES[0], gray[1, :3], *IMAGES[2:]], LABELS)
    assert mixed.image(1).shape == (3, 7, 3)
    assert check(mixed).sizes == (3, 6, 7)


def test_tensors_are_channels_first_where_both_fit() -> None:
    images = RNG.integers(0, 256, (4, 3, 8, 3), dtype=np.uint8)
    assert load_dataset(images, [0, 0, 1, 1]).image(0).shape == (3, 8, 3)
    assert load_dataset(torch.from_numpy(images), [0, 0, 1, 1]).image(0).shape == (8, 3, 3)


def test_transparent_array_goes_on_white() -> None:
    clear = np.concatenate([IMAGES, np.zeros((6, 5, 7, 1), np.uint8)], axis=3)
    assert (load_dataset(clear, LABELS).image(0) == 255).all()


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES - 300.0, "negative pixel values"),
        (np.where(IMAGES > 250, np.nan, IMAGES / 255), "not finite"),
        (np.where(IMAGES > 250, np.inf, IMAGES / 255), "not finite"),
        (IMAGES[0, 0], "shape"),
        (IMAGES[..., :2], "shape"),
        (IMAGES[:, :0], "shape"),
        (IMAGES.astype(np.complex64), "type complex64"),
        (IMAGES[:5], "5 images but 6 labels"),
        ([[1, 2], [3], [4], [5], [6], [7]], "shape"),
        ("pictures", "shape"),
    ],
)
def test_i19_images_that_cannot_be_understood(images: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(images, LABELS)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (LABELS, ("0", "1", "2")),
        ([5, 5, -1, -1, 30, 30], ("-1", "5", "30")),
        (np.float32(LABELS), ("0", "1", "2")),
        (torch.tensor(LABELS), ("0", "1", "2")),
        (np.array(LABELS)[:, None], ("0", "1", "2")),
        (np.eye(4)[LABELS], ("0", "1", "2")),
        (["x", "x", "a", "a", "m", "m"], ("a", "m", "x")),
        (np.array(["x", "x", "a", "a", "m", "m"], dtype=object), ("a", "m", "x")),
        ([True, True, False, False, True, True], ("0", "1")),
        (np.array(LABELS, dtype=object), ("0", "1", "2")),
    ],
)
def test_i19_labels(labels: Any, classes: tuple[str, ...]) -> None:
    dataset = load_dataset(IMAGES, labels)
    assert dataset.classes == classes
    assert dataset.labels.dtype == np.int64
    first = str(np.asarray(labels).ravel()[0])
    if len(classes[0]) == 1 and first in classes:
        assert classes[dataset.labels[0]] == first


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5] * 6, "0.5 is not a class"),
        ([np.nan] * 6, "6 of 6 labels are missing"),
        (np.full((6, 3), 0.3), "not one-hot"),
        (np.zeros((6, 2, 2)), "shape"),
        (np.zeros(6, dtype="datetime64[s]"), "datetime64"),
        ([[1], [1, 2]], "several labels of one image"),
    ],
)
def test_i19_labels_that_are_none(labels: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(IMAGES, labels)


def test_class_names_for_arrays() -> None:
    dataset = load_dataset(IMAGES, [3, 3, 0, 0, 1, 1], classes=["cat", "dog", "eel", "fox"])
    assert dataset.classes == ("cat", "dog", "fox")
    assert dataset.labels.tolist() == [2, 2, 0, 0, 1, 1]
    with pytest.raises(InputError, match="Label 2 is outside 0 to 1"):
        load_dataset(IMAGES, LABELS, classes=["cat", "dog"])
    with pytest.raises(InputError, match="'b' is none of the 1 class names"):
        load_dataset(IMAGES, list("aaabbb"), classes=["a"])
    with pytest.raises(InputError, match="classes= names the classes of arrays"):
        load_dataset("sklearn:digits", classes=["a"])


# -- torch -------------------------------------------------------------------------------------


class Lazy(Dataset[Any]):
    """Lists its labels, so that listing must not fetch an item."""

    classes = ("cat", "dog", "eel")

    def __init__(self) -> None:
        self.targets = torch.tensor(LABELS)
        self.fetched: list[int] = []

    def __len__(self) -> int:
        return len(LABELS)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        self.fetched.append(index)
        return torch.from_numpy(IMAGES[index]).permute(2, 0, 1) / 255, LABELS[index]


def test_listed_labels_fetch_nothing() -> None:
    source = Lazy()
    dataset = load_dataset(source)
    assert source.fetched == []
    assert (dataset.name, dataset.classes) == ("Lazy", ("cat", "dog", "eel"))
    np.testing.assert_array_equal(dataset.image(3), IMAGES[3])


def test_subsets() -> None:
    source = Lazy()
    dataset = load_dataset(Subset(Subset(source, [0, 1, 4, 5]), [3, 2, 1]))
    assert source.fetched == []
    assert dataset.classes == ("cat", "eel")
    assert dataset.labels.tolist() == [1, 1, 0]
    np.testing.assert_array_equal(dataset.image(0), IMAGES[5])


def test_target_transform_and_samples() -> None:
    source = Lazy()
    source.target_transform = lambda label: 2 - int(label)  # type: ignore[attr-defined]
    assert load_dataset(source).labels.tolist() == [2, 2, 1, 1, 0, 0]
    del source.target_transform, source.targets  # type: ignore[attr-defined]
    source.samples = [("x.png", label) for label in LABELS]  # type: ignore[attr-defined]
    assert load_dataset(source).labels.tolist() == LABELS
    source.samples = source.samples[1:]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="5 labels for 6 items"):
        load_dataset(source)


def test_labels_by_iterating() -> None:
    tensors = TensorDataset(torch.from_numpy(IMAGES).permute(0, 3, 1, 2), torch.tensor(LABELS))
    dataset = load_dataset(tensors)
    assert dataset.labels.tolist() == LABELS
    np.testing.assert_array_equal(dataset.image(2), IMAGES[2])


def test_items_that_raise_are_skipped() -> None:
    class Shaky(Lazy):
        def __init__(self) -> None:
            super().__init__()
            self.targets = torch.arange(60) % 3

        def __len__(self) -> int:
            return 60

        def __getitem__(self, index: int) -> tuple[Any, int]:
            if index == 7:
                raise OSError("/some/where")
            if index == 8:
                return torch.full((3, 5, 5), -1.0), 0
            return super().__getitem__(index % 6)

    report = check(load_dataset(Shaky()))
    assert [entry.reason for entry in report.skipped] == [
        "reading it raised OSError",
        "negative pixel values, down to -1: leave Normalize out of the transforms, as networks here "
        "normalise by themselves",
    ]
    assert report.skipped[0].name == "item 7"


def test_datasets_that_cannot_be_used() -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return iter(())

    class Rows(Lazy):
        def __getitem__(self, index: int) -> Any:
            return {"image": 1, "label": 2}

    class Broken(Lazy):
        def __getitem__(self, index: int) -> Any:
            raise KeyError("gone")

    with pytest.raises(InputError, match="Endless has no length, so it cannot be sampled"):
        load_dataset(Endless())
    with pytest.raises(InputError, match=r"Item \d of Rows is a dict"):
        draw(load_dataset(Rows()), 0)
    source = Broken()
    source.targets = None  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"lists no labels .* KeyError"):
        load_dataset(source)


# -- the bundled example -----------------------------------------------------------------------


def test_unknown_example_and_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"sklearn:digit'.*Did you mean 'sklearn:digits'"):
        load_dataset("sklearn:digit")
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install metad2a\[demo\]"):
        load_dataset("sklearn:digits")
