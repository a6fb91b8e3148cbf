"""``model.onnx``: the same logits in ONNX Runtime for any batch, in every space."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from test_export_code import CASES, CELL, NAS, delivery, randomised

from metad2a.errors import ArtifactError, InputError
from metad2a.export import onnx_model, write_onnx

MEAN, DEVIATION = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
WRITTEN = ("nasbench201", "cut-cell", "darts", "efficientnet_lite", "mobilenetv3")


@pytest.fixture(scope="module", params=WRITTEN)
def made(request, tmp_path_factory):
    space, architecture, classes, macro, _ = CASES[request.param]
    one = delivery(space, architecture, classes, macro)
    one = replace(one, network=randomised(one.network), mean=MEAN, deviation=DEVIATION)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    before = torch.random.get_rng_state()
    whole = write_onnx(one, path)
    assert torch.equal(before, torch.random.get_rng_state())
    return one, whole, path


def test_logits_equal_for_any_batch(made):
    one, whole, path = made
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = one.resolution
    for batch in (1, 2, 7):
        images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(batch))
        [logits] = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = whole(images).numpy()
        assert logits.shape == wanted.shape and wanted.std() > 0.01
        assert np.abs(logits - wanted).max() <= 1e-4 * max(1.0, np.abs(wanted).max())


def test_one_whole_file_says_what_it_takes(made):
    one, _, path = made
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    [images], [logits] = model.graph.input, model.graph.output
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (images, logits)
    ]
    assert shapes == [["batch", 3, one.resolution, one.resolution], ["batch", len(one.classes)]]
    told = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(told["classes"]) == list(one.classes)
    assert told["architecture"] == one.architecture


def test_a_missing_package_is_named_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r"need the package onnx.*pip install"):
        write_onnx(delivery(NAS, CELL, 2), tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_what_no_file_can_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "_MOST_BYTES", 1000)
    with pytest.raises(InputError, match="an ONNX file holds less than 1,000"):
        write_onnx(delivery(NAS, CELL, 2), tmp_path / "a.onnx")


def test_a_folder_that_is_not_there(tmp_path):
    small = delivery(NAS, CELL, 2, {"channels": 1, "cells": 1})
    with pytest.raises(ArtifactError, match="No such file or directory"):
        write_onnx(small, tmp_path / "no" / "a.onnx")
