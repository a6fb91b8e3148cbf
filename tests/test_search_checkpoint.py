"""Checkpoint files: whole or not at all, of one format, and of one run only."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from searching import task

from metad2a.errors import ArtifactError, InputError
from search.engine import loop
from search.engine.checkpoint import read_checkpoint, write_checkpoint
from search.searching import Search


def short(path, **arguments):
    return Search(
        task(),
        "nasbench201",
        "darts",
        **{"images": 320, "channels": 2, "cells": 1, "checkpoint": path, **arguments},
    ).conduct()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A search that nothing happened to, and the checkpoint that it left."""
    path = tmp_path_factory.mktemp("finished") / "run"
    return short(path), path


def test_what_was_written_is_read_and_another_run_refused(tmp_path):
    path = tmp_path / "new" / "run"
    tensors = {"a": torch.randn(2, 3).to(memory_format=torch.contiguous_format).T}
    write_checkpoint(path, tensors, {"kind": "x", "pair": (1, 2)}, {"step": 1})
    read, facts = read_checkpoint(path, {"kind": "x", "pair": (1, 2)})
    assert torch.equal(read["a"], tensors["a"])
    assert facts == {"step": 1}
    assert [p.name for p in path.parent.iterdir()] == ["run"]
    with pytest.raises(InputError, match="kind='x' there, 'y' here"):
        read_checkpoint(path, {"kind": "y", "pair": (1, 2)})


def test_one_that_cannot_be_written_is_an_error_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "run"
    write_checkpoint(path, {"a": torch.ones(2)}, {"kind": "x"}, {"step": 1})
    with pytest.raises(ArtifactError, match="writable"):
        write_checkpoint(path / "below", {"a": torch.ones(2)}, {}, {})
    assert read_checkpoint(path, {"kind": "x"})[1] == {"step": 1}


def test_a_crash_loses_no_more_than_the_steps_since_the_last_save(tmp_path, finished, monkeypatch):
    monkeypatch.setattr(loop, "_SAVE_SECONDS", -1.0)
    path = tmp_path / "run"

    def crash(progress):
        if progress.images > 150:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        short(path, progress=crash)
    seen = []
    resumed = short(path, progress=seen.append)
    assert seen[0].images > 75
    assert resumed.ranking == finished[0].ranking


def test_a_finished_search_is_read_without_training_again(finished):
    (first, path), seen = finished, []
    again = short(path, progress=seen.append)
    assert [p.stage for p in seen] == ["judging"]
    assert again.ranking == first.ranking
    assert again.result().images == first.result().images


def test_a_file_without_a_tensor_or_without_a_note_is_refused(finished, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = Path(shutil.copy(finished[1], tmp_path))
    with safe_open(path, "pt") as file:
        note = json.loads(file.metadata()["metad2a-checkpoint"])
    tensors, facts = read_checkpoint(path, note["identity"])
    lost = {n: t for n, t in tensors.items() if n != "network.classifier.weight"}
    write_checkpoint(path, lost, note["identity"], facts)
    with pytest.raises(ArtifactError, match=r"classifier\.weight"):
        short(path)
    write_checkpoint(
        path, tensors, note["identity"], {n: f for n, f in facts.items() if n != "mask"}
    )
    with pytest.raises(ArtifactError, match="mask"):
        short(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="not a readable checkpoint"):
        short(path)
