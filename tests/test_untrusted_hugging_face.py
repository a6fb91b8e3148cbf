"""Data sets of the Hugging Face library ``datasets`` that are not as one expects (fault T)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import IMAGES, LABELS, png

from metad2a.datasets import UnreadableImage, load_dataset
from metad2a.datasets.decode import decode
from metad2a.errors import InputError


@pytest.fixture(scope="module")
def hf() -> Any:
    return pytest.importorskip("datasets")


def table(hf: Any, label: Any, values: Any = LABELS, column: str = "label", **more: Any) -> Any:
    columns = {
        "image": [{"bytes": png(image), "path": None} for image in IMAGES[: len(values)]],
        column: values,
        **more,
    }
    kinds = {"image": hf.Image(), column: label, **{name: hf.Value("float32") for name in more}}
    return hf.Dataset.from_dict(columns, features=hf.Features(kinds))


def test_t_hugging_face_label_columns(hf: Any) -> None:
    names = hf.ClassLabel(names=["cat", "cow", "dog", "eel"])
    dataset = load_dataset(table(hf, names, [0, 0, 3, 3]))
    assert (dataset.classes, dataset.labels.tolist()) == (("cat", "eel"), [0, 0, 1, 1])
    strings = load_dataset(table(hf, hf.Value("string"), ["b", "b", "a", "a"], score=[0.5] * 4))
    assert (strings.classes, strings.labels.tolist()) == (("a", "b"), [1, 1, 0, 0])
    assert load_dataset(table(hf, names, [1, 2], "fine_label")).classes == ("cow", "dog")
    assert load_dataset(table(hf, hf.Value("int64"), [9, 10], "labels")).classes == ("9", "10")
    with pytest.raises(InputError, match=r"no label column .* its columns are image, score"):
        load_dataset(table(hf, hf.Value("float32"), [0.5] * 4, "score"))
    with pytest.raises(InputError, match="no column of type Image; its columns are label"):
        load_dataset(table(hf, names).remove_columns("image"))
    for none in (None, -1):
        part = load_dataset(table(hf, names, [1, none, 2]))
        assert (part.classes, part.locate(1)) == (("cow", "dog"), "row 2")
        assert part.notes == ("1 of 3 images have no label and are left out.",)
    species = table(hf, hf.Value("string"), ["b", "b", "a", "a"], "species")
    assert load_dataset(species).classes == ("a", "b")
    assert load_dataset(table(hf, hf.Value("bool"), [True, False])).classes == ("0", "1")
    several = hf.Sequence(hf.Value("int64"))
    with pytest.raises(InputError, match="'label' holds several labels of each image"):
        load_dataset(table(hf, several, [[0, 1], [1]]))


def test_t_hugging_face_splits(hf: Any) -> None:
    names = hf.ClassLabel(names=["cat", "cow", "dog"])
    whole = table(hf, names)
    parts = hf.DatasetDict({"test": whole.select([0, 5]), "train": whole.select(range(6, 12))})
    dataset = load_dataset(parts)
    assert dataset.split.tolist() == [0] * 6 + [1] * 2
    assert (dataset.locate(5), dataset.locate(7)) == ("train:5", "test:1")
    np.testing.assert_array_equal(dataset.image(5), IMAGES[11])
    np.testing.assert_array_equal(dataset.image(7), IMAGES[5])
    parts["other"] = table(hf, hf.ClassLabel(names=["x", "y", "z"]))
    with pytest.raises(InputError, match=r"has other class names than the split '\w+'"):
        load_dataset(parts)
    lacking = hf.DatasetDict({"train": whole, "test": whole.remove_columns("label")})
    assert load_dataset(lacking).notes == (
        "The split 'test' of the dataset has no label column and is left out.",
    )
    with pytest.raises(InputError, match="no dataset of a known form"):
        load_dataset(hf.DatasetDict())
    with pytest.raises(InputError, match="is streamed and cannot be sampled"):
        load_dataset(whole.to_iterable_dataset())
    with pytest.raises(InputError, match="The split 'train' of the dataset is streamed"):
        load_dataset(hf.IterableDatasetDict({"train": whole.to_iterable_dataset()}))


def test_t_hugging_face_views_and_formats_are_looked_through(hf: Any) -> None:
    whole = table(hf, hf.Value("int64"))
    expected = load_dataset(whole)
    for view in (whole.with_format("torch"), whole.with_transform(lambda rows: 1 / 0)):
        assert load_dataset(view).fingerprint() == expected.fingerprint()
    shuffled = load_dataset(whole.select([7, 3, 3]))
    np.testing.assert_array_equal(shuffled.image(0), IMAGES[7])
    assert shuffled.labels.tolist() == [1, 0, 0]


def test_t_hugging_face_files_elsewhere(hf: Any, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(IMAGES[0]))
    (tmp_path / "notes.png").write_text("secret: hidden")
    os.mkfifo(tmp_path / "pipe.png")
    paths = [
        *(str(tmp_path / name) for name in ("a.png", "notes.png", "gone.png", "pipe.png")),
        "https://example.org/x.png",
        "zip://x.png::/data.zip",
        "a\0b",
        None,
    ]
    images = hf.Dataset.from_dict({"image": paths, "label": [0, 1] * 4})
    dataset = load_dataset(images.cast_column("image", hf.Image()))
    np.testing.assert_array_equal(dataset.image(0), decode(png(IMAGES[0]))[0])
    for index, reason in enumerate(
        [
            "not an image",
            "No such file",
            "not a file",
            "elsewhere",
            "elsewhere",
            "no such file",
            "no image in the row",
        ],
        start=1,
    ):
        with pytest.raises(UnreadableImage, match=reason):
            dataset.image(index)
