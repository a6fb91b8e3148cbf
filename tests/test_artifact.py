"""The model folder: strict, pickle-free, and every difference in one message."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from metad2a.errors import ArtifactError
from metad2a.model.artifact import (
    FILES,
    FORMAT_VERSION,
    Artifact,
    check_tensors,
    load_artifact,
    save_artifact,
)


def example() -> Artifact:
    weights = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    tensors = {"layer.weight": weights.T, "steps": torch.tensor([3])}
    return Artifact({"width": 8, "spaces": ["nasbench201"]}, tensors, "# Card é\n", {"a": [0.5]})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_artifact(tmp_path / "deep" / "model", example())
    return tmp_path / "deep" / "model"


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_weights(folder: Path, content: bytes) -> None:
    """Put other weights in and make the digest agree, as someone who means harm would."""
    (folder / "model.safetensors").write_bytes(content)
    edit_config(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def test_round_trip(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert json.loads((folder / "config.json").read_text())["format_version"] == FORMAT_VERSION
    loaded, saved = load_artifact(folder), example()
    assert (loaded.config, loaded.card, loaded.golden) == (saved.config, saved.card, saved.golden)
    assert loaded.tensors.keys() == saved.tensors.keys()
    for name, tensor in saved.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)
        assert loaded.tensors[name].dtype == tensor.dtype


def test_saving_again_gives_the_same_bytes(folder: Path) -> None:
    before = {name: (folder / name).read_bytes() for name in FILES}
    save_artifact(folder, load_artifact(folder))
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_all_missing_files_are_listed(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        load_artifact(tmp_path / "nowhere")
    assert all(f"- {name} is missing" in str(caught.value) for name in FILES)


def test_several_problems_come_in_one_message(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "golden.json").write_text("[1, 2]")
    (folder / "config.json").write_text("{ not json")
    with pytest.raises(ArtifactError) as caught:
        load_artifact(folder)
    for part in ("README.md is missing", "golden.json holds a list", "config.json is not JSON"):
        assert part in str(caught.value)


def test_a7_newer_format_asks_for_an_upgrade(folder: Path) -> None:
    edit_config(folder, format_version=FORMAT_VERSION + 1)
    with pytest.raises(ArtifactError, match=r"format_version \d.*up to \d: upgrade metad2a"):
        load_artifact(folder)


@pytest.mark.parametrize("version", [None, "1", 0, True, 1.0])
def test_a7_odd_format_versions_are_refused(folder: Path, version: object) -> None:
    edit_config(folder, format_version=version)
    with pytest.raises(ArtifactError, match="expected a whole number"):
        load_artifact(folder)


@pytest.mark.parametrize("digest", ["0" * 64, None, "", 7, ["x" * 10**5]], ids=str)
def test_a6_weights_cut_short_or_of_another_model(folder: Path, digest: object) -> None:
    path = folder / "model.safetensors"
    if digest == "0" * 64:
        path.write_bytes(path.read_bytes()[:-8])
    else:
        edit_config(folder, weights_sha256=digest)
    with pytest.raises(ArtifactError, match="damaged, cut short or of another model") as caught:
        load_artifact(folder)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 4,
        (2**40).to_bytes(8, "little") + b"{}",
        (200_000_000).to_bytes(8, "little") + b" " * 64,
        (3).to_bytes(8, "little") + b"{]}",
    ],
    ids=["truncated to nothing", "truncated header", "absurd header", "header cut", "no JSON"],
)
def test_a3_damaged_safetensors(folder: Path, content: bytes) -> None:
    replace_weights(folder, content)
    with pytest.raises(ArtifactError, match=r"model\.safetensors cannot be read"):
        load_artifact(folder)


def tensor_at(start: int, end: int) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2], "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("tensors", "length"),
    [
        ({"a": tensor_at(0, 8), "b": tensor_at(0, 8)}, 8),
        ({"a": tensor_at(0, 8), "b": tensor_at(4, 12)}, 12),
        ({"a": tensor_at(0, 8), "b": tensor_at(12, 20)}, 20),
        ({"a": tensor_at(0, 8)}, 4),
        ({"a": tensor_at(0, 8) | {"shape": [2**62, 2]}}, 8),
        ({"a": tensor_at(8, 0)}, 8),
    ],
    ids=["the same bytes", "overlapping", "a hole", "truncated", "huge shape", "backwards"],
)
def test_a3_offsets_that_do_not_fit(folder: Path, tensors: dict, length: int) -> None:
    header = json.dumps(tensors).encode()
    replace_weights(folder, len(header).to_bytes(8, "little") + header + bytes(length))
    with pytest.raises(ArtifactError, match=r"model\.safetensors cannot be read"):
        load_artifact(folder)


def test_a3_a_header_of_more_than_100_mb(folder: Path) -> None:
    path, size = folder / "model.safetensors", 100_000_001
    with path.open("wb") as file:  # a sparse file
        file.write(size.to_bytes(8, "little"))
        file.truncate(8 + size)
    with path.open("rb") as file:
        edit_config(folder, weights_sha256=hashlib.file_digest(file, "sha256").hexdigest())
    with pytest.raises(ArtifactError, match=r"model\.safetensors cannot be read.*[Hh]eader"):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["config.json", "golden.json", "README.md"])
def test_texts_are_bounded(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"")
    with (folder / name).open("ab") as file:
        file.truncate(2**30)  # a sparse file
    with pytest.raises(ArtifactError, match=rf"{name} has 1,073,741,824 bytes"):
        load_artifact(folder)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "1" * 5000, '{"a": ' * 10**5, "\ufeff{}", ""], ids=lambda text: text[:5]
)
def test_a4_what_is_no_json(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"config\.json is not JSON"):
        load_artifact(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a2_tensors_that_are_not_finite(folder: Path, value: float) -> None:
    from safetensors.torch import save

    bad = {"fine": torch.zeros(2), "broken": torch.tensor([1.0, value])}
    replace_weights(folder, save(bad))
    with pytest.raises(ArtifactError, match="broken holds values that are not finite") as caught:
        load_artifact(folder)
    assert "fine" not in str(caught.value)
    with pytest.raises(ArtifactError, match="cannot be saved"):
        save_artifact(folder, Artifact({}, bad, "", {}))


def test_reserved_config_keys_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="'format_version' is reserved"):
        save_artifact(tmp_path, Artifact({"format_version": 7}, {}, "", {}))
    assert list(tmp_path.iterdir()) == []


class Trap:
    """Writes a marker file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.marker,)  # type: ignore[return-value]


def test_a5_a_pickle_beside_is_never_opened(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "opened"
    for name in ("pytorch_model.bin", "model.pkl", "model.pt"):
        (folder / name).write_bytes(pickle.dumps(Trap(marker)))
    assert load_artifact(folder).config == example().config
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        load_artifact(folder)
    assert not marker.exists()
    pickle.loads((folder / "model.pkl").read_bytes())
    assert marker.exists(), "the trap itself must work"


def test_a1_every_difference_is_listed() -> None:
    with torch.device("meta"):
        expected = {
            "gone": torch.zeros(1),
            "shape": torch.zeros(10**9, 4),
            "dtype": torch.zeros(2),
            "same": torch.zeros(3),
        }
    found = {
        "shape": torch.zeros(4, 2),
        "dtype": torch.zeros(2, dtype=torch.int64),
        "same": torch.ones(3),
        "new": torch.zeros(1),
    }
    with pytest.raises(ArtifactError) as caught:
        check_tensors(expected, found)
    for line in (
        "gone is missing",
        "new is unknown",
        "shape has shape (4, 2), expected (1000000000, 4)",
        "dtype is torch.int64, expected torch.float32",
    ):
        assert f"\n- {line}" in str(caught.value)
    assert "same" not in str(caught.value)
    check_tensors(found, found)


def test_a1_a_stranger_cannot_fill_the_screen() -> None:
    names = ["\x1b[2J" + "x" * 999, *(f"tensor{i}" for i in range(2100))]
    found = {name: torch.zeros(1) for name in names}
    with pytest.raises(ArtifactError, match="and 101 more") as caught:
        check_tensors({}, found)
    assert str(caught.value).count(" is unknown") >= 1999
    assert "\x1b" not in str(caught.value)
    assert max(map(len, str(caught.value).splitlines())) < 400
