"""Image Parquet: shards, label kinds, the cache of row groups, and what is refused."""

import base64
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from metad2a.datasets import check, load_dataset
from metad2a.datasets.forms import parquet
from metad2a.errors import InputError
from metad2a.settings import LIMITS


def png(value: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 8), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write(path: Path, labels: Any, column: str = "image", **kwargs: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"bytes": png(i), "path": f"{i}.png"} for i in range(len(labels))]
    pq.write_table(pa.table({column: images, "label": labels, **kwargs}), path)


def test_folder_of_shards(tmp_path: Path) -> None:
    root = tmp_path / "birds"
    write(root / "data" / "test-00000-of-00001.parquet", ["owl", "kea"])
    write(root / "data" / "train-00001-of-00002.parquet", ["kea", "kea", "owl"])
    write(root / "data" / "train-00000-of-00002.parquet", ["owl"])
    with load_dataset(root) as dataset:
        assert dataset.name == "birds"
        assert dataset.classes == ("kea", "owl")
        assert dataset.labels.tolist() == [1, 0, 0, 1, 1, 0]
        assert dataset.split.tolist() == [0, 0, 0, 0, 1, 1]
        assert dataset.image(3)[0, 0].tolist() == [2, 0, 0]
        assert dataset.locate(3) == "train-00001-of-00002.parquet:2"
        assert dataset.locate(5) == "test-00000-of-00001.parquet:1"


def test_binary_column_and_integer_labels_without_names(tmp_path: Path) -> None:
    table = pa.table({"label": [10, 2, 10, 2], "img": [png(i) for i in range(4)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1)
    dataset = load_dataset(tmp_path / "x.parquet")
    assert (dataset.name, dataset.classes) == ("x", ("2", "10"))
    assert [dataset.image(i)[0, 0, 0] for i in (3, 0, 2, 1)] == [3, 0, 2, 1]
    dataset.close()


def test_cache_stays_within_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "LIMITS", replace(LIMITS, parquet_cache_bytes=1))
    table = pa.table({"label": [0, 1, 0, 1], "img": [png(i) for i in range(4)]})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=1)
    with load_dataset(tmp_path / "x.parquet") as dataset:
        assert [dataset.image(i)[0, 0, 0] for i in (3, 0, 2, 1)] == [3, 0, 2, 1]
        assert len(dataset._cache) == 1  # type: ignore[attr-defined]


def test_rows_without_bytes_are_unreadable(tmp_path: Path) -> None:
    images = [png(i) for i in range(40)]
    pq.write_table(
        pa.table({"label": [0, 1] * 20, "img": [None, *images[1:]]}), tmp_path / "x.parquet"
    )
    with load_dataset(tmp_path / "x.parquet") as dataset:
        (skipped,) = check(dataset).skipped
    assert (skipped.name, skipped.reason) == ("x.parquet:0", "no image bytes in the row")


def test_parquet_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(InputError, match=r"'x\.parquet' is no readable image Parquet"):
        load_dataset(path)
    pq.write_table(pa.table({"label": [0], "name": ["a"]}), path)
    with pytest.raises(InputError, match=r"no image column .* its columns are label, name"):
        load_dataset(path)
    pq.write_table(pa.table({"img": [b"a"], "score": [0.5]}), path)
    with pytest.raises(InputError, match="no label column"):
        load_dataset(path)
    for metadata in (b"[]", b"{", b'{"info": 3}'):
        pq.write_table(
            pa.table({"img": [b"a"], "label": [0]}).replace_schema_metadata(
                {b"huggingface": metadata}
            ),
            path,
        )
        with pytest.raises(InputError, match="no readable image Parquet"):
            load_dataset(path)
    write(path, [None, None])
    with pytest.raises(InputError, match="no label column"):
        load_dataset(path)
    write(path, [[0, 1], [1]])
    with pytest.raises(InputError, match="'label' holds several labels of each image"):
        load_dataset(path)
    paths = [{"bytes": None, "path": f"/x/{i}.png"} for i in range(2)]
    pq.write_table(pa.table({"image": paths, "label": [0, 1]}), path)
    with pytest.raises(InputError, match=r"'image' holds no pictures but paths .* '/x/0\.png'"):
        load_dataset(path)
    pq.write_table(pa.table({"image": ["no base64"] * 4, "label": [0, 1] * 2}), path)
    with pytest.raises(InputError, match="no image column: 'image' holds texts"):
        check(load_dataset(path))
    write(tmp_path / "more" / "train.parquet", [0, 1])
    write(tmp_path / "more" / "test.parquet", [0, 1], column="picture")
    with pytest.raises(InputError, match=r"'test\.parquet' has other columns"):
        load_dataset(tmp_path / "more")


def test_more_pieces_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "MOST_OPEN", 3)
    for piece in range(8):
        write(tmp_path / f"train-{piece:05}-of-00008.parquet", [0, 1] * 2)
    with load_dataset(tmp_path) as dataset:
        assert isinstance(dataset, parquet.ParquetDataset)
        for index in (0, 31, 9, 17, 3):
            assert dataset.image(index)[0, 0, 0] == index % 4
            assert len(dataset._open) <= 3


def same(path: Path, classes: tuple[str, ...] = ("cat", "dog")) -> None:
    """Whether it is read as two images of each of two classes."""
    with load_dataset(path) as dataset:
        assert (dataset.classes, sorted(dataset.labels.tolist())) == (classes, [0, 0, 1, 1])
        assert check(dataset).images == 4


TEXTS = ["cat", "dog", "cat", "dog"]


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (pa.array(TEXTS).dictionary_encode(), ("cat", "dog")),
        (pa.array(TEXTS, pa.string_view()), ("cat", "dog")),
        (pa.array(TEXTS, pa.large_string()), ("cat", "dog")),
        (pa.array([True, False, True, False]), ("False", "True")),
        (pa.array([0.0, 1.0, 0.0, 1.0]), ("0", "1")),
    ],
    ids=["categories", "string view", "large string", "bool", "float"],
)
def test_kinds_of_labels(tmp_path: Path, labels: Any, classes: tuple[str, ...]) -> None:
    write(tmp_path / "x.parquet", labels)
    same(tmp_path / "x.parquet", classes)


def test_names_of_columns(tmp_path: Path) -> None:
    path, pictures = tmp_path / "x.parquet", [png(i) for i in range(4)]
    for name in ("class_name", "species", "breed", "finding"):
        pq.write_table(pa.table({"image": pictures, name: TEXTS, "file": list("abcd")}), path)
        same(path)
    table = {
        "thumb": pictures[:1] * 4,
        "image": pictures,
        "fine_label": TEXTS,
        "coarse_label": [0] * 4,
    }
    pq.write_table(pa.table(table), path)
    same(path)
    dataset = load_dataset(path)
    assert dataset.notes == ("The labels are those of 'fine_label', not 'coarse_label'.",)
    assert dataset.image(3)[0, 0, 0] == 3
    coded = [base64.b64encode(one).decode() for one in pictures]
    for texts in (coded, [f"data:image/png;base64,{one}" for one in coded]):
        pq.write_table(pa.table({"image": texts, "label": TEXTS}), path)
        same(path)
    path.rename(tmp_path / "x.parquet.gzip")
    same(tmp_path / "x.parquet.gzip")


def test_images_without_a_label_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write(root / "train-0.parquet", [0, 1, 0, None, 1])
    write(root / "test-0.parquet", [-1, -1])
    with load_dataset(tmp_path) as dataset:
        assert dataset.labels.tolist() == [0, 1, 0, 1]
        assert [dataset.image(i)[0, 0, 0] for i in range(4)] == [0, 1, 2, 4]
        assert dataset.locate(3) == "train-0.parquet:4"
        assert dataset.notes == ("3 of 7 images have no label and are left out.",)
        assert sorted(dataset.shuffled(np.arange(4), np.random.default_rng(0))) == [0, 1, 2, 3]
    pq.write_table(pa.table({"image": [png(), png(1)]}), root / "test-0.parquet")
    with load_dataset(tmp_path) as dataset:
        assert dataset.notes[1] == "Left out, as they have no column of labels: 'test-0.parquet'."


def test_folders_of_the_hub_and_of_partitions(tmp_path: Path) -> None:
    write(tmp_path / "set" / "plain_text" / "train-0.parquet", ["cat", "dog"])
    write(tmp_path / "set" / "plain_text" / "test-0.parquet", ["cat", "dog"])
    same(tmp_path / "set")
    assert load_dataset(tmp_path / "set").split.tolist() == [0, 0, 1, 1]
    write(tmp_path / "set" / "other" / "train-0.parquet", ["cat", "dog"])
    with pytest.raises(InputError, match="several sets of Parquet files: 'other', 'plain_text'"):
        load_dataset(tmp_path / "set")
    for name in ("cat", "dog"):
        place = tmp_path / "parts" / f"label={name}"
        place.mkdir(parents=True)
        pq.write_table(pa.table({"image": [png(0), png(1)]}), place / "0.parquet")
    same(tmp_path / "parts")
    for side in ("train", "test"):
        write(tmp_path / "sides" / "default" / side / "0000.parquet", ["cat", "dog"])
    assert load_dataset(tmp_path / "sides").split.tolist() == [0, 0, 1, 1]


def test_a_table_of_something_else_beside_class_folders(tmp_path: Path) -> None:
    for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
        (tmp_path / f"{name}.png").parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.png").write_bytes(png())
    pq.write_table(pa.table({"file": ["a"], "embedding": [0.5]}), tmp_path / "embeddings.parquet")
    assert load_dataset(tmp_path).form == "class folders"
