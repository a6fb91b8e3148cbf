"""Arrays in files: npz, IDX, CIFAR's batches, HDF5; and in memory under names."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metad2a.datasets import ImageDataset, check, load_dataset
from metad2a.errors import InputError

RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (12, 10, 10, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def same(dataset: ImageDataset, split: list[int] | None = None) -> None:
    """Hold a dataset against the pictures."""
    assert dataset.labels.tolist() == LABELS.tolist()
    assert dataset.split.tolist() == (split or [0] * 12)
    for index, picture in enumerate(PICTURES):
        np.testing.assert_array_equal(dataset.image(index), picture)
    assert check(dataset).images == 12


SIDES = {
    "train_images": PICTURES[:6],
    "train_labels": LABELS[:6, None],
    "val_images": PICTURES[6:9],
    "val_labels": LABELS[6:9, None],
    "test_images": PICTURES[9:],
    "test_labels": LABELS[9:, None],
}
KERAS = {
    "x_train": PICTURES[:6],
    "y_train": LABELS[:6],
    "x_test": PICTURES[6:],
    "y_test": LABELS[6:],
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize(
    ("arrays", "split"),
    [
        (SIDES, [0] * 6 + [1] * 6),
        (KERAS, [0] * 6 + [1] * 6),
        ({"images": PICTURES, "labels": LABELS}, None),
        ({"X": np.asfortranarray(PICTURES), "y": LABELS.astype(float)}, None),
        ({"first": PICTURES, "second": LABELS}, None),
    ],
    ids=["MedMNIST", "Keras", "plain", "X and y", "any names"],
)
def test_npz(tmp_path: Path, save: Any, arrays: dict[str, Any], split: list[int] | None) -> None:
    save(tmp_path / "flowers.npz", **arrays)
    dataset = load_dataset(tmp_path / "flowers.npz")
    assert (dataset.name, dataset.classes) == ("flowers", ("0", "1", "2"))
    same(dataset, split)
    same(load_dataset(arrays), split)  # The same in memory.


def test_npz_with_class_names_and_other_arrays(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, images=PICTURES, labels=LABELS, class_names=["a", "b", "c"], mean=np.zeros(3))
    dataset = load_dataset(path)
    assert dataset.classes == ("a", "b", "c")
    assert dataset.notes == ("Arrays that are not used: 'mean'.",)


def test_t_npz_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, a=PICTURES, b=LABELS, c=LABELS)
    with pytest.raises(InputError, match=r"'x\.npz': Its arrays are 'a' \(12, 10, 10, 3\), 'b'"):
        load_dataset(path)
    objects = np.array([{}] * 12, dtype=object)
    np.savez(path, images=PICTURES, labels=objects)
    with pytest.raises(InputError, match=r"'labels\.npy' holds Python objects"):
        load_dataset(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, shape in (("images", (10**6, 10**3, 10**3)), ("labels", (10**6,))):
            head = io.BytesIO()
            about = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(head, about)
            archive.writestr(f"{name}.npy", head.getvalue() + bytes(100))
    with pytest.raises(InputError, match="MB, more than the limit of"):
        load_dataset(path, sandbox=True)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        (b"no array", "is no array"),
        (b"\x93NUMPY\x01\x00\x10\x00{'shape': (\0,\n\n\n\n", "is no array"),
        (("|S0", (12,)), "which holds nothing"),
        (("|V0", (2**62, 2**62)), "which holds nothing"),
        (("|u1", (-12, 8, 8)), "which holds nothing"),
        (("|u1", (True, 8, 8)), "which holds nothing"),
    ],
)
def test_heads_of_arrays_that_are_none(tmp_path: Path, head: Any, told: str) -> None:
    if not isinstance(head, bytes):
        stream = io.BytesIO()
        about = {"descr": head[0], "fortran_order": False, "shape": head[1]}
        np.lib.format.write_array_header_1_0(stream, about)
        head = stream.getvalue()
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", head)
        archive.writestr("labels.npy", head)
    with pytest.raises(InputError, match=told):
        load_dataset(path)


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def mnist(folder: Path, packed: bool = True) -> Path:
    """Write the first 8 pictures for training and the others for testing, gray."""
    folder.mkdir(parents=True, exist_ok=True)
    for side, part in (("train", slice(0, 8)), ("t10k", slice(8, 12))):
        for name, values in (
            ("images-idx3", PICTURES[part, :, :, 0]),
            ("labels-idx1", LABELS[part]),
        ):
            data = idx(values)
            path = folder / f"{side}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", ["", "MNIST/raw"])
def test_idx(tmp_path: Path, packed: bool, below: str) -> None:
    mnist(tmp_path / below, packed)
    dataset = load_dataset(tmp_path)
    assert dataset.split.tolist() == [0] * 8 + [1] * 4
    assert dataset.labels.tolist() == LABELS.tolist()
    for index in range(12):
        np.testing.assert_array_equal(dataset.image(index)[:, :, 1], PICTURES[index, :, :, 0])
    for kind in ("images-idx3", "labels-idx1"):
        one = next((tmp_path / below).glob(f"train-{kind}*"))
        assert len(load_dataset(one)) == 8


def test_t_idx_that_cannot_be_used(tmp_path: Path) -> None:
    folder = mnist(tmp_path, packed=False)
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    good = images.read_bytes()
    images.write_bytes(good[:-1])
    with pytest.raises(InputError, match=r"It has not the 800 bytes of its \(8, 10, 10\) values"):
        load_dataset(folder)
    images.write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**31, 2**31, 2**31))
    with pytest.raises(InputError, match="It has not the"):
        load_dataset(folder, sandbox=True)
    images.write_bytes(b"\1" + good[1:])
    with pytest.raises(InputError, match="It is no IDX file"):
        load_dataset(folder)
    images.write_bytes(good)
    labels.write_bytes(idx(LABELS[:7]))
    with pytest.raises(InputError, match=r"has 8 images, and .* 7 labels"):
        load_dataset(folder)
    labels.unlink()
    with pytest.raises(InputError, match="has no labels beside it: 'train-labels-idx1-ubyte'"):
        load_dataset(folder)


def cifar(folder: Path, protocol: int, fine: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = PICTURES.transpose(0, 3, 1, 2).reshape(12, -1)
    key = b"fine_labels" if fine else b"labels"
    names = b"fine_label_names" if fine else b"label_names"
    parts = {
        "train" if fine else "data_batch_1": slice(0, 8),
        "test" if fine else "test_batch": slice(8, 12),
    }
    for name, part in parts.items():
        batch = {b"data": rows[part], key: LABELS[part].tolist(), b"batch_label": b"one of 2"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    meta = folder / ("meta" if fine else "batches.meta")
    meta.write_bytes(pickle.dumps({names: [b"bus", b"cat", b"dog"]}, protocol))
    return folder


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("fine", [False, True])
def test_cifar(tmp_path: Path, protocol: int, fine: bool) -> None:
    folder = cifar(
        tmp_path / ("cifar-100-python" if fine else "cifar-10-batches-py"), protocol, fine
    )
    tar = tmp_path / ("cifar-100-python.tar.gz" if fine else "cifar-10-python.tar.gz")
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(folder, folder.name)
    for source in (folder, tar, tmp_path):
        dataset = load_dataset(source)
        assert dataset.classes == ("bus", "cat", "dog")
        same(dataset, [0] * 8 + [1] * 4)


class Harm:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Harm(os.system, "touch harmed")), r"asks for '\w+\.system', which a batch"),
        (pickle.dumps(Harm(eval, "1")), r"asks for 'builtins\.eval'"),
        (pickle.dumps({b"data": Harm(np.load, "x"), b"labels": [0]}), r"asks for 'numpy\.load'"),
        (pickle.dumps({b"data": np.array([[{}]], dtype=object), b"labels": [0]}), "none of 8-bit"),
        (pickle.dumps({b"data": np.zeros((2, 300)), b"labels": [0, 1]}), "none of 8-bit"),
        (pickle.dumps({b"data": np.zeros((2, 7), np.uint8), b"labels": [0, 1]}), r"shape \(2, 7\)"),
        (pickle.dumps({b"data": b"", b"labels": [0]}), "has no 'data' and 'labels'"),
        (pickle.dumps({b"data": np.zeros((1, 300), np.uint8), b"labels": ["x"]}), "no integers"),
        (pickle.dumps([1, 2]), "no batch of CIFAR's"),
        (pickle.dumps({b"data": PICTURES})[:-50], "It is damaged"),
        (b"", "It is damaged"),
        (b"\x80\x04\x95" + b"\xff" * 8 + b".", "It is damaged"),
    ],
    ids=[
        "program",
        "eval",
        "other function",
        "objects",
        "floats",
        "shape",
        "no array",
        "texts",
        "list",
        "cut",
        "empty",
        "length",
    ],
)
def test_t_cifar_batches_run_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = cifar(tmp_path / "cifar-10-batches-py", 2)
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_dataset(folder)
    with pytest.raises(InputError, match="cifar batches is not opened with sandbox=True"):
        load_dataset(folder, sandbox=True)
    assert not (tmp_path / "harmed").exists()


def test_hdf5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "flowers.h5"
    with h5py.File(path, "w") as file:
        for side, part in (("train", slice(0, 8)), ("test", slice(8, 12))):
            file[f"{side}/images"], file[f"{side}/labels"] = PICTURES[part], LABELS[part]
        file["class_names"] = ["a", "b", "c"]
        file["train/itself"] = file["train"]
    dataset = load_dataset(path)
    assert dataset.classes == ("a", "b", "c")
    same(dataset, [0] * 8 + [1] * 4)
    with pytest.raises(InputError, match="hdf5 arrays is not opened with sandbox=True"):
        load_dataset(path, sandbox=True)
    with h5py.File(tmp_path / "linked.h5", "w") as file:
        file["images"] = h5py.ExternalLink(str(path), "/train/images")
        file["labels"] = LABELS[:8]
    with pytest.raises(InputError, match="which are images and labels is not clear"):
        load_dataset(tmp_path / "linked.h5")
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(InputError, match=r"'flowers\.h5' is no readable HDF5 file"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("x.rar", "Unpack it"),
        ("x.mat", "loadmat"),
        ("x.tfrecord", "class folders"),
        ("x.pkl", "run any program"),
        ("x.npy", "numpy.savez"),
        ("x.tar.lz4", "Unpack it"),
    ],
)
def test_kinds_of_files_that_are_not_read_have_a_remedy(
    tmp_path: Path, name: str, remedy: str
) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(InputError, match=f"of a kind that is not read.*{remedy}"):
        load_dataset(tmp_path / name)
