"""Images in batches: resident and streamed, by processes and by threads, from every form."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pictures import png
from PIL import Image

from metad2a.datasets import ImageDataset, load_dataset, workers
from metad2a.datasets.batches import Batches
from metad2a.datasets.decode import FILL, UnreadableImage, decode, square
from metad2a.errors import InputError, MetaD2AError

SIDE = 12
COUNT = 50
LABELS = np.arange(COUNT) % 3
SHAPES = ((20, 14), (9, 30), (16, 16), (40, 11), (SIDE, SIDE))
IMAGES = [
    np.random.default_rng(i).integers(0, 256, (*SHAPES[i % len(SHAPES)], 3), dtype=np.uint8)
    for i in range(COUNT)
]
BROKEN = 7
"""The image whose file is cut short in :func:`damaged`."""


def files() -> dict[str, bytes]:
    return {f"{'abc'[LABELS[i]]}/{i:02}.png": png(image) for i, image in enumerate(IMAGES)}


def folder(place: Path) -> Path:
    for name, data in files().items():
        (place / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "tree" / name).write_bytes(data)
    return place / "tree"


def zipped(place: Path) -> Path:
    with zipfile.ZipFile(place / "tree.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files().items():
            archive.writestr(name, data)
    return place / "tree.zip"


def tarred(place: Path, ending: str) -> Path:
    with tarfile.open(place / f"tree{ending}", "w:gz" if ending.endswith("gz") else "w") as archive:
        archive.add(folder(place), "tree")
    return place / f"tree{ending}"


def parquet(place: Path) -> Path:
    table = pa.table({"image": list(map(png, IMAGES)), "label": LABELS})
    pq.write_table(table, place / "images.parquet", row_group_size=7)
    return place / "images.parquet"


def manifest(place: Path) -> Path:
    folder(place)
    rows = [f"tree/{name},{name[0]}" for name in files()]
    (place / "list.csv").write_text("\n".join(["file_name,label", *rows]))
    return place / "list.csv"


def huggingface(place: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("int64"))
    images = [{"bytes": png(image), "path": None} for image in IMAGES]
    return datasets.Dataset.from_dict({"image": images, "label": LABELS}, features=features)


def pairs(_: Path) -> Any:
    class Pairs:
        """A map-style dataset as torch defines it; of a class that no other process can import."""

        inside = 0

        def __len__(self) -> int:
            return COUNT

        def __getitem__(self, index: int) -> tuple[Any, int]:
            self.inside += 1
            assert self.inside == 1, "two threads at a time"
            item = Image.fromarray(IMAGES[index]), int(LABELS[index])
            self.inside -= 1
            return item

    return Pairs()


# Each with whether worker processes can open it too.
FORMS = {
    "arrays": (lambda _: (IMAGES, LABELS), True),
    "class folders": (folder, True),
    "hugging face": (huggingface, True),
    "manifest": (manifest, True),
    "parquet": (parquet, True),
    "tar": (lambda place: tarred(place, ".tar"), True),
    "tar.gz": (lambda place: tarred(place, ".tar.gz"), False),
    "torch": (pairs, False),
    "zip": (zipped, True),
}


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let even a few images be decoded by worker processes."""
    monkeypatch.setattr(workers, "FEW", 0)


@pytest.fixture
def damaged(tmp_path: Path) -> ImageDataset:
    tree = folder(tmp_path)
    path = next(tree.glob(f"*/{BROKEN:02}.png"))
    path.write_bytes(path.read_bytes()[:60])
    return load_dataset(tree)


def whole(batches: Batches, **how: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return all images (n, side, side, 3), labels and positions of a pass."""
    parts = [[t.numpy() for t in part] for part in batches.epoch(**how)]
    images, labels, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
    return images.transpose(0, 2, 3, 1), labels, positions


def expected(dataset: ImageDataset, indices: Any) -> np.ndarray:
    return np.stack([square(dataset.image(int(i)), SIDE) for i in indices])


def test_a_square_keeps_the_middle_and_the_ratio() -> None:
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    image[:, 5:25] = 200
    np.testing.assert_array_equal(square(image, 20), image[:, 5:25])
    assert (square(image, 10)[:, 2:-2] == 200).all()
    np.testing.assert_array_equal(
        square(image.transpose(1, 0, 2), 10), square(image, 10).transpose(1, 0, 2)
    )
    # What is longer is filled, so that no more than a third is cut off.
    long = square(np.full((10, 60, 3), 255, dtype=np.uint8), 30)
    assert long.shape == (30, 30, 3)
    filled = (long == FILL).all((1, 2))
    assert filled.sum() == 22
    assert not filled[11:19].any()
    assert (long[11:19] == 255).all()
    same = IMAGES[4]
    assert square(same, SIDE) is same
    assert square(np.zeros((8, 8192, 3), dtype=np.uint8), 8).shape == (8, 8, 3)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size(tmp_path, monkeypatch) -> None:
    for i in range(4):
        (tmp_path / f"{'ab'[i % 2]}").mkdir(exist_ok=True)
        Image.new("RGB", (160, 120), (9 * i, 80, 200)).save(tmp_path / "ab"[i % 2] / f"{i}.jpg")
    dataset = load_dataset(tmp_path)
    drawn = []
    load = dataset.reduced
    monkeypatch.setattr(
        dataset, "reduced", lambda i, side: drawn.append(load(i, side)) or drawn[-1]
    )
    Batches(dataset, range(4), 20)
    assert {image.shape for image, _ in drawn} == {(60, 80, 3)}
    assert min(drawn[0][0].shape[:2]) >= 2 * 20


@pytest.mark.parametrize("form", FORMS)
def test_resident_and_streamed_are_the_same_from_every_form(form, tmp_path, processes) -> None:
    make, portable = FORMS[form]
    with load_dataset(make(tmp_path)) as dataset:
        indices = np.random.default_rng(1).permutation(COUNT)[:40]
        resident = Batches(dataset, indices, SIDE)
        assert resident.resident
        np.testing.assert_array_equal(resident.kept, indices)
        np.testing.assert_array_equal(resident.labels.numpy(), dataset.labels[indices])
        images, labels, positions = whole(resident, batch=16)
        np.testing.assert_array_equal(images, expected(dataset, indices))
        np.testing.assert_array_equal(labels, dataset.labels[indices])
        np.testing.assert_array_equal(positions, np.arange(40))
        # Processes are slow to start, so not for every form as many.
        for count in (1, 2) if form == "class folders" else (1,):
            streamed = Batches(dataset, indices, SIDE, resident_bytes=0, workers=count)
            assert not streamed.resident
            for seed in (None, 3):
                rngs = [None if seed is None else np.random.default_rng(seed) for _ in range(2)]
                for ours, theirs in zip(
                    whole(resident, batch=17, rng=rngs[0]),
                    whole(streamed, batch=17, rng=rngs[1]),
                    strict=True,
                ):
                    np.testing.assert_array_equal(ours, theirs)
            assert streamed._pool.processes is portable
        filed = Batches(dataset, indices, SIDE, resident_bytes=0, filed=True)
        for ours, theirs in zip(whole(resident, batch=17), whole(filed, batch=17), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_what_is_yielded(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))
    for bytes_kept in (2**30, 0):
        batches = Batches(dataset, range(COUNT), SIDE, resident_bytes=bytes_kept)
        sizes = []
        for images, labels, positions in batches.epoch(20, np.random.default_rng(0)):
            assert images.dtype == torch.uint8
            assert images.shape[1:] == (3, SIDE, SIDE)
            assert images.is_contiguous(memory_format=torch.channels_last)
            assert labels.dtype == positions.dtype == torch.int64
            assert torch.equal(labels, batches.labels[positions])
            sizes.append(len(images))
        assert sizes == [20, 20, 10]
        assert len(batches) == COUNT


def test_take_answers_for_any_positions(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))
    for kept in (2**30, 0):
        batches = Batches(dataset, [5, 3, 4], SIDE, resident_bytes=kept, filed=True)
        taken = batches.take(torch.tensor([2, 0, 2]))
        assert taken.is_contiguous(memory_format=torch.channels_last)
        shown = taken.numpy().transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(shown, expected(dataset, [4, 5, 4]))


def test_squares_in_a_file_leave_out_what_is_unreadable_and_ask_for_room(
    damaged, monkeypatch
) -> None:
    held = Batches(damaged, range(COUNT), SIDE)
    filed = Batches(damaged, range(COUNT), SIDE, resident_bytes=0, filed=True)
    np.testing.assert_array_equal(filed.kept, held.kept)
    assert torch.equal(filed.labels, held.labels)
    every = torch.arange(COUNT - 1)
    assert torch.equal(filed.take(every), held.take(every))
    told = r"50 images of 12 px take .* GB .* free. Name a larger disk"
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", lambda *_: 10)  # as a disk does that has filled meanwhile
        with pytest.raises(InputError, match=told):
            Batches(damaged, range(COUNT), SIDE, resident_bytes=0, filed=True)
    full = shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    with pytest.raises(InputError, match=told):
        Batches(damaged, range(COUNT), SIDE, resident_bytes=0, filed=True)


def test_the_order_is_the_seeds_and_can_begin_later(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))

    def order(**how: Any) -> list[int]:
        return whole(Batches(dataset, range(COUNT), SIDE, **how), batch=8, rng=rng())[2].tolist()

    def rng() -> np.random.Generator:
        return np.random.default_rng(5)

    first = order()
    assert sorted(first) == list(range(COUNT))
    assert first == order(resident_bytes=0, workers=1) == order(resident_bytes=0, workers=3)
    for kept in (2**30, 0):
        batches = Batches(dataset, range(COUNT), SIDE, resident_bytes=kept)
        assert whole(batches, batch=8, rng=rng(), first=2)[2].tolist() == first[16:]


@pytest.mark.usefixtures("processes")
def test_an_unreadable_image_is_left_out_and_counted(damaged) -> None:
    broken = next(i for i in range(COUNT) if f"{BROKEN:02}" in damaged.locate(i))
    alike = [i for i in range(COUNT) if damaged.labels[i] == damaged.labels[broken]]
    nearest = next(i for i in alike if i > broken)
    others = [i for i in range(COUNT) if i != broken]
    resident = Batches(damaged, range(COUNT), SIDE)
    np.testing.assert_array_equal(resident.kept, others)
    assert list(resident.skipped) == [broken]
    assert str(resident.skipped[broken]) == f"{damaged.locate(broken)} (truncated)"
    np.testing.assert_array_equal(whole(resident, batch=9)[0], expected(damaged, others))
    for kept in (True, False):  # by processes and by threads
        streamed = Batches(damaged, range(COUNT), SIDE, resident_bytes=0, workers=2)
        streamed._pool.processes = kept
        images, labels, positions = whole(streamed, batch=9)
        # Another image of its class stands in its place, so that all else stays where it was.
        shown = [nearest if i == broken else i for i in range(COUNT)]
        np.testing.assert_array_equal(images, expected(damaged, shown))
        np.testing.assert_array_equal(labels, damaged.labels)
        np.testing.assert_array_equal(positions, np.arange(COUNT))
        assert streamed.skipped == resident.skipped


def test_without_another_of_its_class_an_unreadable_image_leaves_a_gap(damaged) -> None:
    broken = next(i for i in range(COUNT) if f"{BROKEN:02}" in damaged.locate(i))
    lone = [i for i in range(COUNT) if damaged.labels[i] != damaged.labels[broken]][:10]
    streamed = Batches(damaged, [*lone, broken], SIDE, resident_bytes=0)
    _, _, positions = whole(streamed, batch=4)
    assert positions.tolist() == list(range(10))


def test_nothing_readable_is_an_error(tmp_path) -> None:
    for i in range(4):
        (tmp_path / "ab"[i % 2]).mkdir(exist_ok=True)
        (tmp_path / "ab"[i % 2] / f"{i}.png").write_bytes(b"no image")
    dataset = load_dataset(tmp_path)
    with pytest.raises(InputError, match=r"None of the 4 images of .* can be read"):
        Batches(dataset, range(4), SIDE)
    streamed = Batches(dataset, range(4), SIDE, resident_bytes=0)
    with pytest.raises(InputError, match="None of the 4 images"):
        list(streamed.epoch(2))


@pytest.mark.usefixtures("processes")
def test_workers_serve_every_pass_and_end_with_the_last_batches(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))
    first = Batches(dataset, range(30), SIDE, resident_bytes=0, workers=2)
    second = Batches(dataset, range(30, COUNT), 2 * SIDE, resident_bytes=0, workers=2)
    for part in first.epoch(4):  # left early, with images on their way
        assert len(part[0]) == 4
        break
    del part
    assert first._pool is second._pool
    (crew,) = first._pool._idle
    assert len(whole(second, batch=7)[0]) == 20
    np.testing.assert_array_equal(whole(first, batch=7)[0], expected(dataset, range(30)))
    assert first._pool._idle == [crew]
    # Two passes at a time have workers each.
    both = list(zip(first.epoch(5), first.epoch(5), strict=True))
    assert all(torch.equal(one[0], other[0]) for one, other in both)
    assert len(first._pool._idle) == 2
    crew = first._pool._idle[0]
    ended = crew.end
    del crew, first
    assert ended.alive
    del second
    assert not ended.alive


@pytest.mark.usefixtures("processes")
def test_a_worker_that_dies_is_an_error_and_no_end(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))
    batches = Batches(dataset, range(COUNT), SIDE, resident_bytes=0, workers=2)
    list(batches.epoch(10))
    process = batches._pool._idle[0].processes[0]
    process.kill()
    process.wait()
    with pytest.raises(MetaD2AError, match="A process that decodes images has ended"):
        list(batches.epoch(10))
    assert len(whole(batches, batch=10)[0]) == COUNT


@pytest.mark.usefixtures("processes")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_copy_has_workers_of_its_own(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))
    batches = Batches(dataset, range(COUNT), SIDE, resident_bytes=0, workers=1)
    images = whole(batches, batch=10)[0]
    child = os.fork()
    if not child:
        try:
            np.testing.assert_array_equal(whole(batches, batch=10)[0], images)
            batches._pool._idle.pop().end()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    np.testing.assert_array_equal(whole(batches, batch=10)[0], images)


def test_a_worker_passes_on_what_it_cannot_do(tmp_path, processes, monkeypatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "refusing.py").write_text(
        "class Refuses:\n"
        "    targets = [0, 1] * 25\n"
        "    def __len__(self):\n        return 50\n"
        "    def __getitem__(self, index):\n        return 'no pair'\n"
    )
    import refusing

    dataset = load_dataset(refusing.Refuses())
    batches = Batches(dataset, range(COUNT), SIDE, resident_bytes=0, workers=1)
    with pytest.raises(InputError, match="expected a pair"):
        list(batches.epoch(10))
    assert batches._pool.processes


def test_large_datasets_stay_here(tmp_path, processes, monkeypatch) -> None:
    monkeypatch.setattr(workers, "PICKLED_BYTES", 1000)
    dataset = load_dataset((np.stack([image[:9, :11] for image in IMAGES]), LABELS))
    batches = Batches(dataset, range(COUNT), SIDE, resident_bytes=0)
    assert len(whole(batches, batch=10)[0]) == COUNT
    assert not batches._pool.processes


def test_a_pickled_dataset_opens_its_own_files(tmp_path) -> None:
    for make in (zipped, parquet):
        dataset = load_dataset(make(tmp_path))
        data = pickle.dumps(dataset)
        assert len(data) < sum(map(len, files().values()))
        with pickle.loads(data) as twin:
            dataset.close()
            np.testing.assert_array_equal(twin.image(3), load_dataset(make(tmp_path)).image(3))


def test_parquet_is_shuffled_by_groups_that_stay_in_memory(tmp_path, monkeypatch) -> None:
    from metad2a.datasets.forms import parquet as form

    dataset = load_dataset(parquet(tmp_path))
    groups = np.arange(COUNT) // 7
    order = dataset.shuffled(np.arange(COUNT), np.random.default_rng(0))
    assert sorted(order) == list(range(COUNT))
    assert (np.diff(groups[order]) != 0).sum() > 20  # all of them together
    limits = form.LIMITS.__class__(parquet_cache_bytes=2 * dataset._group_bytes(0))
    monkeypatch.setattr(form, "LIMITS", limits)
    order = dataset.shuffled(np.arange(COUNT), np.random.default_rng(0))
    assert sorted(order) == list(range(COUNT))
    assert (np.diff(groups[order]) != 0).sum() < 20
    assert not (np.diff(groups[order]) >= 0).all()
    again = dataset.shuffled(np.arange(COUNT), np.random.default_rng(0))
    np.testing.assert_array_equal(order, again)


def test_threads_that_decode_leave_the_filters_of_warnings_alone(tmp_path) -> None:
    dataset = load_dataset(folder(tmp_path))
    before = list(warnings.filters)
    Batches(dataset, range(COUNT), SIDE, workers=8)
    assert warnings.filters == before
    with pytest.raises(UnreadableImage):
        decode(b"no image")
    assert warnings.filters == before


def test_the_users_script_is_not_run_again_and_needs_no_guard(tmp_path) -> None:
    tree = folder(tmp_path)
    script = tmp_path / "mine.py"
    script.write_text(
        "print('once')\n"
        "import sys\n"
        "from metad2a.datasets import load_dataset, workers\n"
        "from metad2a.datasets.batches import Batches\n"
        "workers.FEW = 0\n"
        f"batches = Batches(load_dataset({str(tree)!r}), range(50), 8, resident_bytes=0)\n"
        "print(sum(len(images) for images, _, _ in batches.epoch(9)), batches._pool.processes)\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", str(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout == "once\n50 True\n"
    assert "ResourceWarning" not in done.stderr
