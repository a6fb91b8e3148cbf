"""Archives of other kinds, folders of archives, and what Python programs have in memory."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import IMAGES, LABELS, png
from PIL import Image

from metad2a.datasets import ImageDataset, check, load_dataset
from metad2a.datasets.forms import shards
from metad2a.errors import InputError

NAMES = ("cat", "cow", "dog")
TREE = {
    f"{NAMES[label]}/{i:02}.png": png(image)
    for i, (label, image) in enumerate(zip(LABELS, IMAGES, strict=True))
}


def counts(dataset: ImageDataset) -> dict[str, int]:
    """Hold the report against 4 images of each class, and return the images by class."""
    found = np.bincount(dataset.labels).tolist()
    assert check(dataset).images == len(dataset)
    return dict(zip(dataset.classes, found, strict=True))


def tar(tree: dict[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, data in tree.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def webdataset(start: int = 0, ending: str = "cls") -> dict[str, bytes]:
    tree = {}
    for i, (label, image) in enumerate(zip(LABELS, IMAGES, strict=True), start):
        text = json.dumps({"label": NAMES[label], "width": 8}) if ending == "json" else NAMES[label]
        tree |= {f"{i:06}.png": png(image), f"{i:06}.{ending}": text.encode()}
    return tree


@pytest.mark.parametrize("ending", ["cls", "json", "txt"])
def test_webdataset(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "train-000000.tar"
    path.write_bytes(tar(webdataset(0, ending)))
    with load_dataset(path) as dataset:
        assert counts(dataset) == {"cat": 4, "cow": 4, "dog": 4}
        assert dataset.layouts == ("webdataset",)


def test_captions_are_no_classes(tmp_path: Path) -> None:
    tree = webdataset(0, "txt")
    tree = {
        k: (v if k.endswith("png") else b"a long story of a cat\nand a dog")
        for k, v in tree.items()
    }
    (tmp_path / "x.tar").write_bytes(tar(tree))
    with pytest.raises(InputError, match="none in a class folder"):
        load_dataset(tmp_path / "x.tar")


def test_a_folder_of_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_OPEN", 2)
    for i in range(3):
        (tmp_path / f"train-{i:06}.tar").write_bytes(tar(webdataset(12 * i)))
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for name, data in TREE.items():
            archive.writestr(name, data)
    with load_dataset(tmp_path) as dataset:
        assert counts(dataset) == {"cat": 16, "cow": 16, "dog": 16}
        assert dataset.split.tolist() == [0] * 36 + [1] * 12
        assert dataset.locate(12) == "train-000001.tar/000012.png"
        for index in (0, 47, 13, 25, 0):  # Those that rest are opened again.
            assert dataset.image(index).shape == (9, 8, 3)
    (tmp_path / "broken.tar").write_bytes(b"x" * 600)
    with pytest.raises(InputError, match=r"'broken\.tar': It is no readable tar"):
        load_dataset(tmp_path)


def test_an_archive_in_an_archive_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("data/images.zip", b"PK")
    with pytest.raises(
        InputError, match=r"an archive in it is not opened: unpack it and give that"
    ):
        load_dataset(tmp_path / "x.zip")


def test_zstd(tmp_path: Path) -> None:
    zstd = pytest.importorskip("backports.zstd")
    path = tmp_path / "x.tar.zst"
    path.write_bytes(zstd.compress(tar(TREE)))
    with load_dataset(path) as dataset:
        assert counts(dataset) == {"cat": 4, "cow": 4, "dog": 4}
    path.write_bytes(zstd.compress(tar(TREE))[:-20])
    with pytest.raises(InputError, match=r"cut short|damaged"):
        load_dataset(path)
    path.write_bytes(zstd.compress(bytes(2**24)))
    with pytest.raises(InputError, match="when unpacked, the limit"):
        load_dataset(path, sandbox=True)


def test_7z(tmp_path: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    path = tmp_path / "x.7z"

    def pack(**options: Any) -> None:
        with py7zr.SevenZipFile(path, "w", **options) as archive:
            for name, data in TREE.items():
                archive.writestr(data, name)

    pack()
    with load_dataset(path) as dataset:
        assert counts(dataset) == {"cat": 4, "cow": 4, "dog": 4}
    with pytest.raises(InputError, match="is not opened with sandbox=True"):
        load_dataset(path, sandbox=True)
    assert len(load_dataset(tmp_path)) == 12
    with pytest.raises(InputError, match=r"'x\.7z' is no archive that can be read"):
        load_dataset(tmp_path, sandbox=True)
    pack(password="x")
    with pytest.raises(InputError, match="locked by a password"):
        load_dataset(path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="no readable 7z"):
        load_dataset(path)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    for name, data in TREE.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in TREE]


class Somewhere:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def test_paths(files: list[Path]) -> None:
    root, names = files[0].parent.parent, [NAMES[label] for label in LABELS]
    texts = [str(path) for path in files]
    expected = load_dataset(root).fingerprint()
    for source in (
        (texts, names),
        (files, LABELS, list(NAMES)),
        (tuple(Somewhere(path) for path in files), LABELS, {"cat": 0, "cow": 1, "dog": 2}),
        list(zip(texts, names, strict=True)),
        {name: root / name for name in NAMES},
        {name: [t for t, n in zip(texts, names, strict=True) if n == name] for name in NAMES},
        [str(root / name) for name in NAMES],
        os.fsencode(root),
        Somewhere(root),
    ):
        dataset = load_dataset(source)
        assert dataset.classes == NAMES
        assert counts(dataset) == dict.fromkeys(NAMES, 4)
        if not isinstance(source, tuple) and not isinstance(source, list):
            assert dataset.fingerprint() == expected
    assert load_dataset(texts, names).labels.tolist() == LABELS
    with pytest.raises(InputError, match=r"12 of 12 files are missing: .* start from the working"):
        load_dataset(["x.png"] * 12, names)
    with pytest.raises(InputError, match="12 images but 11 labels"):
        load_dataset(texts, names[1:])
    with pytest.raises(InputError, match="'cow', does not exist"):
        load_dataset({"cat": root / "cat", "cow": root / "nowhere"})
    with pytest.raises(InputError, match="have the same name, which would be the class"):
        load_dataset([root / "cat", root / "cat"])
    with pytest.raises(InputError, match="The path of the dataset is empty"):
        load_dataset("")


def test_data_frames(files: list[Path]) -> None:
    pandas = pytest.importorskip("pandas")
    names = [NAMES[label] for label in LABELS]
    sides = ["train"] * 8 + ["test"] * 4
    texts = [str(path) for path in files]
    dataset = load_dataset(
        pandas.DataFrame({"age": 3, "species": names, "path": texts, "split": sides})
    )
    assert counts(dataset) == dict.fromkeys(NAMES, 4)
    assert dataset.split.tolist() == [0] * 8 + [1] * 4
    pictures = [Image.fromarray(image) for image in IMAGES]
    dataset = load_dataset(pandas.DataFrame({"image": pictures, "label": [*LABELS[:11], None]}))
    assert counts(dataset) == {"0": 4, "1": 4, "2": 3}
    with pytest.raises(InputError, match="no column of labels; its columns are image, caption"):
        load_dataset(pandas.DataFrame({"image": texts, "caption": names}))
    with pytest.raises(InputError, match="no column of images or their paths"):
        load_dataset(pandas.DataFrame({"score": [0.5], "label": [1]}))


def test_arrays_of_sides_rows_and_mappings() -> None:
    labels = np.array(LABELS)
    dataset = load_dataset(((IMAGES[:8], labels[:8]), (IMAGES[8:], labels[8:])))
    assert dataset.split.tolist() == [0] * 8 + [1] * 4
    np.testing.assert_array_equal(dataset.image(11), IMAGES[11])
    rows = load_dataset(np.arange(12 * 784).reshape(12, 784) % 256, LABELS)
    assert rows.notes == ("Rows of 784 numbers are read as 28x28 px.",)
    assert rows.image(0).shape == (28, 28, 3)
    digits = pytest.importorskip("sklearn.datasets").load_digits()
    dataset = load_dataset(digits)
    assert (len(dataset), dataset.classes) == (1797, tuple("0123456789"))
    assert dataset.image(0).shape == (8, 8, 3)
    some = load_dataset(IMAGES, [-1, *LABELS[1:]])
    assert (len(some), some.locate(0)) == (11, "image 1")
    with pytest.raises(InputError, match="several labels of one image"):
        load_dataset(IMAGES, [[0, 1], [1]] * 6)


class Items:
    """A map-style dataset of anything."""

    def __init__(self, make: Any) -> None:
        self.make = make

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        return self.make(index)


@pytest.mark.parametrize(
    "make",
    [
        lambda i: {"image": IMAGES[i], "label": LABELS[i], "path": f"{i}.png"},
        lambda i: {"pixels": Image.fromarray(IMAGES[i]), "target": np.int64(LABELS[i])},
        lambda i: (IMAGES[i], LABELS[i], f"{i}.png"),
    ],
    ids=["dict", "other keys", "three"],
)
def test_items_that_are_no_pairs(make: Any) -> None:
    dataset = load_dataset(Items(make))
    assert dataset.labels.tolist() == LABELS
    np.testing.assert_array_equal(dataset.image(5), IMAGES[5])
    with pytest.raises(
        InputError, match="a dict with the keys 'image', 'boxes'; expected 'image' and"
    ):
        load_dataset(Items(lambda i: {"image": IMAGES[i], "boxes": [[0, 0, 1, 1]]}))


def test_names_given_as_a_dict_and_labels_that_are_none() -> None:
    items = Items(lambda i: (IMAGES[i], LABELS[i]))
    items.targets = [-1, *LABELS[1:]]  # type: ignore[attr-defined]
    items.classes = {"cat": 0, "cow": 1, "dog": 2}  # type: ignore[attr-defined]
    dataset = load_dataset(items)
    assert (dataset.classes, len(dataset), dataset.locate(0)) == (NAMES, 11, "item 1")
    np.testing.assert_array_equal(dataset.image(0), IMAGES[1])
    assert dataset.notes == ("1 of 12 images have no label and are left out.",)


def test_loaders_and_several_datasets() -> None:
    torch = pytest.importorskip("torch")
    data = torch.utils.data
    pairs = Items(lambda i: (IMAGES[i], LABELS[i]))
    pairs.classes, pairs.targets = list(NAMES), LABELS  # type: ignore[attr-defined]
    loader = data.DataLoader(data.Subset(pairs, range(6)), batch_size=4, shuffle=True)
    assert counts(load_dataset(loader)) == dict.fromkeys(NAMES, 2)
    both = load_dataset(data.ConcatDataset([pairs, pairs]))
    assert counts(both) == dict.fromkeys(NAMES, 8)


def test_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked = []

    def fetch(*args: Any, **options: Any) -> Any:
        asked.append((args, options["revision"]))
        features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=NAMES))
        images = [{"bytes": png(image), "path": None} for image in IMAGES]
        whole = datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)
        return datasets.DatasetDict({"train": whole, "test": whole})

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    dataset = load_dataset("hf:org/pets@v1:small")
    assert (dataset.name, dataset.form) == ("pets", "hub dataset")
    assert counts(dataset) == dict.fromkeys(NAMES, 8)
    load_dataset("hf://datasets/org/pets")
    assert asked == [(("org/pets", "small"), "v1"), (("org/pets", None), None)]
    with pytest.raises(InputError, match="is no name of a dataset"):
        load_dataset("hf:a/b/c")
    with pytest.raises(InputError, match="write 'hf:org/pets'"):
        load_dataset("org/pets")

    def fail(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(
        InputError, match=r"cannot be fetched from the Hub \(ConnectionError: no netw"
    ):
        load_dataset("hf:org/pets")
