"""Every registered dataset form builds the same tiny dataset and must tell the same about it."""

import json
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pictures import png
from PIL import Image

from metad2a.datasets import FORMS, ImageDataset, UnreadableImage, check, draw, load_dataset, pixels

CLASSES = ("blue", "green", "red")
LABELS = np.array([0] * 4 + [1] * 3 + [2] * 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 8, 11, 3), dtype=np.uint8)


def files() -> dict[str, bytes]:
    return {
        f"{CLASSES[label]}/{i:02}.png": png(image)
        for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True))
    }


def folders(folder: Path) -> Path:
    for name, data in files().items():
        path = folder / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder / "tree"


def zipped(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "tree.zip", "w") as archive:
        for name, data in files().items():
            archive.writestr(f"wrapping/{name}", data)
    return folder / "tree.zip"


def tarred(folder: Path) -> Path:
    with tarfile.open(folder / "tree.tar.gz", "w:gz") as archive:
        archive.add(folders(folder), "./wrapping")
    return folder / "tree.tar.gz"


def parquet(folder: Path) -> Path:
    images = [{"bytes": png(image), "path": None} for image in IMAGES]
    features = {"label": {"_type": "ClassLabel", "names": CLASSES}, "image": {"_type": "Image"}}
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    table = pa.table({"image": images, "label": LABELS}, schema=schema)
    pq.write_table(table, folder / "images.parquet", row_group_size=4)
    return folder / "images.parquet"


class Pairs:
    """A map-style dataset as torch defines it."""

    classes = CLASSES

    def __len__(self) -> int:
        return len(IMAGES)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        if index >= len(self):
            raise IndexError(index)
        return Image.fromarray(IMAGES[index]), int(LABELS[index])


def manifest(folder: Path) -> Path:
    folders(folder)
    rows = [
        {"file_name": f"tree/{name}", "label": name.split("/")[0], "taken": 2024}
        for name in files()
    ]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder / "list.jsonl"


def huggingface(folder: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=CLASSES))
    images = [{"bytes": png(image), "path": None} for image in IMAGES]
    return datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)


def saved(folder: Path) -> Path:
    huggingface(folder).save_to_disk(folder / "saved")
    return folder / "saved"


def arrays(_: Path) -> dict[str, Any]:
    return {"images": IMAGES, "labels": LABELS, "class_names": np.array(CLASSES)}


def npz(folder: Path) -> Path:
    np.savez(folder / "x.npz", **arrays(folder))
    return folder / "x.npz"


def hdf5(folder: Path) -> Path:
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        file["images"], file["labels"], file["class_names"] = IMAGES, LABELS, list(CLASSES)
    return folder / "x.h5"


def frame(_: Path) -> Any:
    pandas = pytest.importorskip("pandas")
    names = [CLASSES[label] for label in LABELS]
    return pandas.DataFrame({"image": list(IMAGES), "label": names})


def shards(folder: Path) -> Path:
    (folder / "shards").mkdir()
    zipped(folder).rename(folder / "shards" / "train.zip")
    return folder / "shards"


def sevenzip(folder: Path) -> Path:
    py7zr = pytest.importorskip("py7zr")
    with py7zr.SevenZipFile(folder / "tree.7z", "w") as archive:
        archive.writeall(folders(folder), "wrapping")
    return folder / "tree.7z"


MAKERS: dict[str, Callable[[Path], Any]] = {
    "7z of class folders": sevenzip,
    "arrays": lambda _: (IMAGES, [CLASSES[label] for label in LABELS]),
    "class folders": folders,
    "data frame": frame,
    "folder of archives": shards,
    "hdf5 arrays": hdf5,
    "hugging face dataset": huggingface,
    "image parquet": parquet,
    "image paths": lambda folder: {name: folders(folder) / name for name in CLASSES},
    "manifest": manifest,
    "mapping of arrays": arrays,
    "npz arrays": npz,
    "saved hugging face dataset": saved,
    "tar of class folders": tarred,
    "torch dataset": lambda _: Pairs(),
    "zip of class folders": zipped,
}
# These cannot hold the pictures of the others, so each has a test of its own instead of a maker: a
# fixed set, gray ones, squares, and what is fetched.
FIXED = ("example", "idx files", "cifar batches", "hub dataset")


@pytest.fixture(params=sorted(set(FORMS.names()) - set(FIXED)))
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    assert request.param in MAKERS, f"write a maker for the new form {request.param!r}"
    with load_dataset(MAKERS[request.param](tmp_path)) as opened:
        assert opened.form == request.param
        yield opened


def test_lists_the_same(dataset: ImageDataset) -> None:
    assert dataset.classes == CLASSES
    assert dataset.labels.dtype == np.int64
    assert dataset.split.dtype == np.int8
    np.testing.assert_array_equal(dataset.labels, LABELS)
    np.testing.assert_array_equal(dataset.split, np.zeros(10))
    assert len(dataset) == 10
    assert len({dataset.locate(i) for i in range(10)}) == 10


def test_decodes_the_same(dataset: ImageDataset) -> None:
    for index, expected in enumerate(IMAGES):
        image = dataset.image(index)
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, expected)
        assert image.flags.writeable and image.flags.c_contiguous
    reduced, stored = dataset.reduced(3, 2)
    assert stored == (8, 11)
    assert min(reduced.shape[:2]) >= 2


def test_pixels_keep_the_order_given(dataset: ImageDataset) -> None:
    indices = np.array([9, 0, 5, 0])
    out, kept = pixels(dataset, indices, 4)
    assert out.shape == (4, 4, 4, 3)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(kept, indices)
    np.testing.assert_array_equal(out[1], out[3])
    one, _ = pixels(dataset, [9], 4)
    np.testing.assert_array_equal(out[0], one[0])


def test_report_and_sample(dataset: ImageDataset) -> None:
    report = check(dataset)
    assert (report.images, report.classes, report.checked) == (10, 3, 10)
    assert (report.smallest_class, report.largest_class) == (("green", 3), ("blue", 4))
    assert (report.sizes, report.gray, report.split) == ((8, 9, 11), False, (10, 0))
    assert report.skipped == ()
    assert json.loads(json.dumps(report.to_dict()))["images"] == 10
    assert str(report).startswith(f"10 images, 3 classes ({dataset.form})")
    sample = draw(dataset, seed=0, per_class=3)
    np.testing.assert_array_equal(np.bincount(sample.labels), [3, 3, 3])
    for image, index in zip(sample.images, sample.indices, strict=True):
        np.testing.assert_array_equal(image, IMAGES[index])
        image[:] = 0  # Its own memory: nothing that is drawn later changes.
    np.testing.assert_array_equal(dataset.image(0), IMAGES[0])


def test_fingerprint_is_of_the_content(dataset: ImageDataset) -> None:
    first = dataset.fingerprint()
    assert len(first) == 64
    assert first == dataset.fingerprint()
    labels, dataset.labels = dataset.labels, dataset.labels[::-1]
    assert dataset.fingerprint() != first
    dataset.labels = labels
    assert dataset.fingerprint() == first


def test_loaded_dataset_is_passed_through(dataset: ImageDataset) -> None:
    assert load_dataset(dataset) is dataset


def test_fingerprint_in_another_process(tmp_path: Path) -> None:
    folder = folders(tmp_path)
    code = (
        "import sys; from metad2a.datasets import load_dataset, draw; "
        "d = load_dataset(sys.argv[1]); "
        "print(d.fingerprint(), draw(d, 3, per_class=2).indices.tolist(), "
        "'torch' in sys.modules)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "7"},
    )
    here = load_dataset(folder)
    indices = draw(here, 3, per_class=2).indices.tolist()
    assert out.stdout.strip() == f"{here.fingerprint()} {indices} False"


def test_fingerprint_of_a_file_form_is_its_bytes(tmp_path: Path) -> None:
    tree, archive = load_dataset(folders(tmp_path)), load_dataset(zipped(tmp_path))
    assert tree.fingerprint() == archive.fingerprint()
    (tmp_path / "tree" / "red" / "09.png").write_bytes(png(IMAGES[0]))
    assert tree.fingerprint() != archive.fingerprint()
    archive.close()


def test_the_bundled_example() -> None:
    digits = load_dataset("sklearn:digits")
    assert (len(digits), digits.classes) == (1797, tuple("0123456789"))
    image = digits.image(0)
    assert image.shape == (8, 8, 3)
    assert image.max() == 255 * 15 // 16
    assert check(digits).gray


def test_every_form_has_a_maker() -> None:
    assert set(FORMS.names()) == set(MAKERS) | set(FIXED)


def test_one_unreadable_image_is_left_out_of_pixels(tmp_path: Path) -> None:
    folder = folders(tmp_path)
    (folder / "green" / "05.png").write_bytes(b"no image")
    dataset = load_dataset(folder)
    with pytest.raises(UnreadableImage, match="not an image"):
        dataset.image(5)
    out, kept = pixels(dataset, [4, 5, 6], 8)
    assert kept.tolist() == [4, 6]
    assert len(out) == 2
    assert len(dataset.fingerprint()) == 64
