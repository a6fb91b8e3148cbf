"""``candidate.save``: the folder of an untrained suggestion, and that it is whole or not there."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from test_export_code import CELL, CUT, NAS

from metad2a.candidate import Candidate
from metad2a.errors import ArtifactError, InputError
from metad2a.export import code, folder
from metad2a.spaces import SPACES


def candidate(space, architecture, names=("a", "b", "c"), **given):
    found = space.parse(architecture)
    cost = space.cost(found, len(names))
    return Candidate(
        **{
            "rank": 1,
            "space": space.name,
            "architecture": architecture,
            "accuracy": 91.25,
            "interval": (80.0, 97.5),
            "params": cost.params,
            "macs": cost.macs,
            "class_names": tuple(names),
            "reason": "predicted best",
            "resolution": space.resolution(found),
            **given,
        }
    )


def entries(place):
    return sorted(path.name for path in place.iterdir())


def described(place):
    return json.loads((place / "architecture.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SPACES.names())
def test_an_untrained_candidate_of_every_space(tmp_path, name):
    space = SPACES.get(name)
    cheapest = min(draw(space), key=lambda one: space.cost(one, 3).params)
    one = candidate(space, space.format(cheapest))
    saved = one.save(tmp_path / "a" / "best")
    place = saved.folder
    assert place == tmp_path / "a" / "best" and entries(tmp_path / "a") == ["best"]
    assert entries(place) == [
        "README.md",
        "architecture.json",
        "drawing.svg",
        "labels.json",
        "model.py",
        "preprocessing.json",
    ]
    assert (place / "model.py").read_text(encoding="utf-8") == code(one.delivery())
    ElementTree.parse(place / "drawing.svg")
    data = described(place)
    assert (data["space"], data["architecture"]) == (name, one.architecture)
    assert (data["params"], data["macs"], data["resolution"]) == (
        one.params,
        one.macs,
        one.resolution,
    )
    assert (data["predicted"], data["interval"]) == (91.25, [80.0, 97.5])
    assert (data["weights"], data["accuracy"]) == (None, None)
    assert json.loads((place / "labels.json").read_text()) == {"0": "a", "1": "b", "2": "c"}
    card = (place / "README.md").read_text(encoding="utf-8")
    assert "untrained" in card and "91.2 %" in card
    umask = os.umask(0)
    os.umask(umask)
    assert place.stat().st_mode & 0o777 == 0o777 & ~umask


def draw(space):
    import numpy as np

    return space.pool(10, np.random.default_rng(0), 3)


def test_other_sizes_are_a_new_network_of_which_nothing_is_predicted(tmp_path):
    saved = candidate(NAS, CELL).save(tmp_path / "best", channels=8)
    data = described(saved.folder)
    assert data["network"]["config"]["channels"] == 8
    assert (data["predicted"], data["interval"], data["weights"]) == (None, None, None)
    assert data["params"] < candidate(NAS, CELL).params


def test_an_earlier_result_is_replaced_whole(tmp_path):
    candidate(NAS, CELL).save(tmp_path / "best")
    place = candidate(NAS, CUT).save(tmp_path / "best").folder
    assert entries(tmp_path) == ["best"] and described(place)["architecture"] == CUT


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
    write = folder.write_file

    def full(path, content):
        if Path(path).name == "drawing.svg":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, content)

    monkeypatch.setattr(folder, "write_file", full)
    with pytest.raises(ArtifactError, match=r"No space left on device.*disk has room"):
        candidate(NAS, CELL).save(tmp_path / "best")
    assert entries(tmp_path) == (["best"] if before else [])
    if before:
        assert described(tmp_path / "best")["architecture"] == CUT


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
    assert described(tmp_path / "best")["architecture"] == CUT and entries(tmp_path) == ["best"]


def test_names_on_the_card_are_shown_as_they_are(tmp_path):
    names = ("<img src=x onerror=a()>", "| *b* [c](d) `e`\n# F")
    saved = candidate(NAS, CELL, names).save(tmp_path / "best")
    text = (saved.folder / "README.md").read_text(encoding="utf-8")
    assert "<img" not in text and "\n# F" not in text
