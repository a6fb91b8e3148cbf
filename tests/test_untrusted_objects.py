"""Torch data sets and Parquet files that are not as one expects (fault T)."""

import io
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import IMAGES, LABELS, TORN, png
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from metad2a.datasets import UnreadableImage, check, load_dataset
from metad2a.errors import InputError


class Items(Dataset[Any]):
    """Items made by ``make``; labels are found by fetching."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        while True:
            yield IMAGES[0], 0


class Sizeless(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        return IMAGES[0], 0


class Claiming(Items):
    def __len__(self) -> int:
        return sys.maxsize


class Lengthless(Items):
    def __len__(self) -> int:
        raise NotImplementedError


def raising(index: int) -> Any:
    if index == 5:
        raise RuntimeError("item 5 is gone")
    return IMAGES[index], LABELS[index]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Items(raising), "reading item 5 for its label raised RuntimeError: item 5 is gone"),
        (Items(lambda i: (IMAGES[i],)), "Item 0 of Items is a tuple of 1; expected a"),
        (Items(lambda i: IMAGES[i]), "Item 0 of Items is a ndarray; expected a pair"),
        (Items(lambda i: (IMAGES[i], None)), "12 of 12 labels are missing"),
        (Endless(), "Endless has no length, so it cannot be sampled"),
        (Sizeless(), "Sizeless has no length"),
        (Lengthless(raising), "Lengthless has no length"),
        (Claiming(raising), "Claiming claims 9,223,372,036,854,775,807 items, more than"),
    ],
    ids=[
        "raises at item k",
        "tuple of 1",
        "no label",
        "label None",
        "iterable and infinite",
        "no __len__",
        "__len__ raises",
        "__len__ without end",
    ],
)
def test_t_torch_datasets_that_cannot_be_used(source: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_dataset(source)


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image,
        Image.fromarray,
        torch.from_numpy,
        lambda image: torch.from_numpy(image).permute(2, 0, 1) / 255,
    ],
    ids=["array", "PIL", "tensor", "tensor 0..1, channels first"],
)
def test_t_torch_items_of_every_kind(convert: Any) -> None:
    dataset = load_dataset(Items(lambda i: [convert(IMAGES[i]), torch.tensor(LABELS[i])]))
    assert dataset.labels.tolist() == LABELS
    for index, image in enumerate(IMAGES):
        np.testing.assert_array_equal(dataset.image(index), image)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Image.open(io.BytesIO(png(TORN)[:1000])), "truncated"),
        (lambda: None, "pixels of type object"),
        (lambda: "a.png", "pixels of type <U5"),
        (lambda: torch.zeros(2, 5, 5), r"an array of shape \(2, 5, 5\)"),
        (lambda: np.full((8, 8), np.nan), "not finite"),
        (lambda: np.zeros((0, 8, 3)), "empty array"),
        (lambda: np.full((8, 8), -1), "negative pixel values, down to -1"),
    ],
    ids=["torn PIL", "None", "a path", "2 channels", "NaN", "no row", "negative"],
)
def test_t_torch_strange_images_are_unreadable(make: Any, reason: str) -> None:
    dataset = load_dataset(Items(lambda i: (make(), i % 2)))
    with pytest.raises(UnreadableImage, match=reason):
        dataset.image(3)


def test_t_torch_forks_badly() -> None:
    """One works only in the process that made it; another leaves a forked process behind."""
    home = os.getpid()

    def make(index: int) -> Any:
        if os.getpid() != home:
            raise RuntimeError("opened in another process")
        child = os.fork()
        if child == 0:
            os._exit(1)
        os.waitpid(child, 0)
        return IMAGES[index], LABELS[index]

    assert check(load_dataset(Items(make), sandbox=True)).images == 12


# -- Parquet -----------------------------------------------------------------------------------


def test_t_parquet_references_outside_are_not_followed(tmp_path: Path) -> None:
    """A path in the image column is only a name; bytes alone are read."""
    (tmp_path / "secret.png").write_bytes(png(IMAGES[0]))
    images = [{"bytes": png(image), "path": "../../x.png"} for image in [*IMAGES, *IMAGES]]
    for path in (str(tmp_path / "secret.png"), "https://example.org/x.png"):
        images[1] = {"bytes": None, "path": path}
        pq.write_table(pa.table({"image": images, "label": LABELS * 2}), tmp_path / "x.parquet")
        with load_dataset(tmp_path / "x.parquet", sandbox=True) as dataset:
            (skipped,) = check(dataset).skipped
        assert (skipped.name, skipped.reason) == ("x.parquet:1", "no image bytes in the row")
    names = pa.table({"image": [str(tmp_path / "secret.png")] * 2, "label": [0, 1]})
    pq.write_table(names, tmp_path / "x.parquet")
    with pytest.raises(InputError, match="no image column"):
        load_dataset(tmp_path / "x.parquet")


def test_t_parquet_rows_that_cost_nothing_to_claim(tmp_path: Path) -> None:
    labels = pa.DictionaryArray.from_arrays(np.zeros(10_000_001, np.int8), pa.array([0]))
    images = pa.nulls(len(labels), pa.binary())
    table = pa.table({"image": images, "label": labels.cast(pa.int64())})
    pq.write_table(table, tmp_path / "x.parquet")
    assert (tmp_path / "x.parquet").stat().st_size < 100_000
    with pytest.raises(InputError, match="10,000,001 rows, more than the limit of 10,000,000"):
        load_dataset(tmp_path / "x.parquet")
