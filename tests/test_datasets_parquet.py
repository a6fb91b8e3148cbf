"""Image Parquet: shards, label kinds, the cache of row groups, and what is refused."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    write(path, [0, None])
    with pytest.raises(InputError, match="1 of 2 labels are missing"):
        load_dataset(path)
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
