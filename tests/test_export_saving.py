"""``candidate.save``: what is in the folder, and that it is whole or not there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from safetensors.torch import load_file
from test_export_code import CELL, CUT, DARTS, GENOTYPE, NAS, candidate, trained

from metad2a.errors import ArtifactError, InputError
from metad2a.export import Design, card, code, from_json, load, saving, to_json
from metad2a.suggestion import Measured

MEASURED = Measured(88.5, "standalone-v1, on held-out images", 12.5, (50.0, 88.5))
IMAGES = torch.rand(3, 3, 24, 24, generator=torch.Generator().manual_seed(2))


def entries(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_untrained_candidate(tmp_path):
    one = candidate(NAS, CELL, measured=MEASURED, latency_ms=1.5)
    folder = one.save(tmp_path / "a" / "best")
    assert folder == tmp_path / "a" / "best" and entries(tmp_path / "a") == ["best"]
    assert entries(folder) == ["architecture.json", "architecture.svg", "card.md", "model.py"]
    assert (folder / "model.py").read_text(encoding="utf-8") == code(one)
    assert (folder / "card.md").read_text(encoding="utf-8") == card(one)
    ElementTree.parse(folder / "architecture.svg")
    data = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    assert data == {
        "format_version": 1,
        "space": "nasbench201",
        "architecture": CELL,
        "classes": 10,
        "macro": {"channels": 16, "cells": 5},
        "resolution": 32,
        "params": one.params,
        "macs": one.macs,
        "latency_ms": 1.5,
        "prediction": {"accuracy": 91.25, "interval": [80.0, 97.5]},
        "measured": {
            "accuracy": 88.5,
            "protocol": MEASURED.protocol,
            "seconds": 12.5,
            "curve": [50.0, 88.5],
        },
        "reason": "predicted best",
        "standardisation": None,
        "weights": None,
    }
    umask = os.umask(0)
    os.umask(umask)
    assert folder.stat().st_mode & 0o777 == 0o777 & ~umask
    assert (folder / "model.py").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.parametrize(
    ("space", "architecture", "macro"),
    [
        (NAS, CELL, {"channels": 4, "cells": 1}),
        (DARTS, GENOTYPE, {"channels": 2, "cells": 3}),
    ],
    ids=["nasbench201", "darts"],
)
def test_a_trained_one_computes_the_same_after_a_reload(tmp_path, space, architecture, macro):
    one = trained(space, architecture, 4, **macro)
    one.save(tmp_path / "best")
    weights, known = load_file(tmp_path / "best" / "model.safetensors"), one.network.state_dict()
    assert weights.keys() == known.keys()
    assert all(torch.equal(weights[name], value) for name, value in known.items())
    found = load(tmp_path / "best")
    with torch.no_grad():
        assert torch.equal(found.build()(IMAGES), one.build()(IMAGES))
    assert (found.side, found.macro) == (24, macro)
    assert code(found) == code(one) and card(found) == card(one)
    assert to_json(found) == to_json(one)


def test_other_sizes_are_a_new_untrained_network(tmp_path):
    folder = trained(NAS, CELL, 4, channels=4, cells=1).save(tmp_path / "best", channels=8)
    assert "model.safetensors" not in entries(folder)
    data = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    assert (data["macro"], data["weights"]) == ({"channels": 8, "cells": 5}, None)
    assert (data["standardisation"], data["resolution"]) == (None, 32)


def test_an_earlier_result_is_replaced_whole(tmp_path):
    trained(NAS, CELL, 4, channels=4, cells=1).save(tmp_path / "best")
    folder = candidate(NAS, CUT).save(tmp_path / "best")
    assert "model.safetensors" not in entries(folder) and entries(tmp_path) == ["best"]
    assert load(folder).space.format(load(folder).architecture) == CUT


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "best").mkdir()
    assert "model.py" in entries(candidate(NAS, CELL).save(tmp_path / "best"))


@pytest.mark.parametrize(
    "others", [["notes.txt"], ["architecture.json", "notes.txt"], ["model.py"]], ids=str
)
def test_a_folder_with_other_files_is_left_alone(tmp_path, others):
    (tmp_path / "best").mkdir()
    for name in others:
        (tmp_path / "best" / name).write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"holds other files.*choose a new or an empty one"):
        candidate(NAS, CELL).save(tmp_path / "best")
    assert entries(tmp_path / "best") == others and entries(tmp_path) == ["best"]
    assert (tmp_path / "best" / others[0]).read_text(encoding="utf-8") == "mine"


def test_a_file_or_a_link_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    for name in ("file", "link", "lost"):
        with pytest.raises(InputError, match="is no folder"):
            candidate(NAS, CELL).save(tmp_path / name)
    with pytest.raises(ArtifactError, match=r"Cannot write .*/file/best"):
        candidate(NAS, CELL).save(tmp_path / "file" / "best")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("before", [False, True], ids=["new", "replacing"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, before):
    if before:
        candidate(NAS, CUT).save(tmp_path / "best")
    write = saving.write_file

    def full(path, content):
        if Path(path).name == "architecture.svg":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(saving, "write_file", full)
    with pytest.raises(ArtifactError, match=r"No space left on device.*disk has room"):
        candidate(NAS, CELL).save(tmp_path / "best")
    assert entries(tmp_path) == (["best"] if before else [])
    if before:
        assert load(tmp_path / "best").architecture == NAS.parse(CUT)


def test_an_earlier_result_is_put_back_where_the_new_one_cannot_be(tmp_path, monkeypatch):
    candidate(NAS, CUT).save(tmp_path / "best")
    rename = Path.rename

    def failing(path, target):
        if path.name == "new":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(ArtifactError, match="Input/output error"):
        candidate(NAS, CELL).save(tmp_path / "best")
    assert load(tmp_path / "best").architecture == NAS.parse(CUT) and entries(tmp_path) == ["best"]


def test_what_is_damaged_is_named(tmp_path):
    folder = trained(NAS, CELL, 4, channels=4, cells=1).save(tmp_path / "best")
    text = (folder / "architecture.json").read_text(encoding="utf-8")
    for wrong in (text.replace('"channels": 4', '"channels": 5'), text.replace(CELL, CUT)):
        (folder / "architecture.json").write_text(wrong, encoding="utf-8")
        with pytest.raises(ArtifactError, match="weights do not fit"):
            load(folder)
    (folder / "architecture.json").write_text(text, encoding="utf-8")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-1])
    with pytest.raises(ArtifactError, match="SHA-256"):
        load(folder / "architecture.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match="missing"):
        load(folder)


GOOD = json.loads(to_json(candidate(NAS, CELL, measured=MEASURED)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format_version": 2}, "format_version"),
        ({"format_version": True}, "format_version"),
        ({"space": "nasbench"}, "Did you mean 'nasbench201'"),
        ({"architecture": 7}, "'7' is not"),
        ({"classes": None}, "classes=None"),
        ({"classes": "9"}, "classes='9'"),
        ({"classes": 10**9}, "classes=1000000000"),
        ({"macro": {"channels": 10**9}}, "channels="),
        ({"macro": [1]}, "macro"),
        ({"macro": {"__class__": 1}}, "no size '__class__'"),
        ({"prediction": {"accuracy": float("nan"), "interval": [0, 1]}}, "prediction.accuracy"),
        ({"prediction": {"accuracy": 9, "interval": [1]}}, "2 finite numbers"),
        ({"measured": {"accuracy": 1, "seconds": 1, "protocol": 7}}, "measured.protocol"),
        ({"measured": {"accuracy": 1, "seconds": 1, "protocol": "a", "curve": ["x"]}}, "curve"),
        ({"reason": ["x" * 1000]}, "reason"),
        ({"latency_ms": True}, "latency_ms"),
    ],
    ids=str,
)
def test_a_strangers_description_is_checked(change, words):
    with pytest.raises(InputError, match=words) as caught:
        from_json({**GOOD, **change})
    assert len(str(caught.value)) < 400
    assert to_json(from_json(GOOD)) == to_json(candidate(NAS, CELL, measured=MEASURED))


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b" " * 2**21])
def test_what_is_no_description(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match="description"):
        load(tmp_path / "a.json")
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "nowhere.json")


def test_words_on_the_card_are_shown_as_they_are():
    hostile = candidate(NAS, CELL, reason="<img src=x onerror=a()> | *b* [c](d) `e`\n# F")
    text = card(hostile)
    assert r"&lt;img src=x onerror=a()&gt; \| \*b\* \[c\](d) \`e\` # F" in text
    assert "<img" not in text and "\n# F" not in text


def test_a_design_builds_the_same_weights_each_time():
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.random.get_rng_state()
        found.append(Design.of(candidate(NAS, CELL)).build()(IMAGES))
        assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(*found)
