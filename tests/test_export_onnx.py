"""``model.onnx``: the same logits in ONNX Runtime for any batch, and no noise on the way."""

from __future__ import annotations

import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
import torch
from test_export_code import CELL, DARTS, NAS, SKIP, WIDE, candidate, trained

from metad2a.errors import ArtifactError, InputError
from metad2a.export import Design, onnx, onnx_file

CASES = {
    "nasbench201": trained(NAS, CELL, 4, side=15, channels=4, cells=1),
    "darts": trained(DARTS, WIDE, 3, side=18, channels=2, cells=3),
}


def test_save_writes_it_without_a_word(tmp_path, capfd):
    """First of all tests here, so that what comes once only is heard; warnings are errors."""
    folder = candidate(NAS, SKIP).save(tmp_path / "best", onnx=True, channels=2, cells=1)
    assert capfd.readouterr() == ("", "")
    onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module", params=CASES)
def made(request, tmp_path_factory):
    one = CASES[request.param]
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    before = torch.random.get_rng_state()
    onnx(one, path)
    assert torch.equal(before, torch.random.get_rng_state())
    return one, path


def test_logits_equal_for_any_batch(made):
    one, path = made
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = one.network.side
    for batch in (1, 2, 7):
        images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(batch))
        [logits] = session.run(["logits"], {"images": images.numpy()})
        with torch.no_grad():
            wanted = one.build()(images).numpy()
        assert logits.shape == wanted.shape and wanted.std() > 0.05
        assert np.abs(logits - wanted).max() <= 1e-4


def test_one_whole_file_says_what_it_takes(made):
    one, path = made
    model = onnx_package.load(path, load_external_data=False)
    onnx_package.checker.check_model(model, full_check=True)
    assert [entry.name for entry in path.parent.iterdir()] == ["model.onnx"]
    [images], [logits] = model.graph.input, model.graph.output
    shapes = [
        [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (images, logits)
    ]
    side = one.network.side
    assert shapes == [["batch", 3, side, side], ["batch", one.classes]]
    assert (images.name, logits.name) == ("images", "logits")


def test_missing_packages_are_named_with_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"onnx and onnxscript.*pip install 'metad2a\[onnx\]'"):
        onnx(candidate(NAS, CELL), tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"metad2a\[onnx\]"):
        candidate(NAS, CELL).save(tmp_path / "best", onnx=True)
    assert not list(tmp_path.iterdir())


def test_what_no_file_can_hold_is_refused_before_it_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, "_MOST_BYTES", 4 * candidate(NAS, CELL).params)
    with pytest.raises(InputError, match="does not fit into one ONNX file"):
        onnx(candidate(NAS, CELL), tmp_path / "a.onnx")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(ArtifactError, match="No such file or directory"):
        onnx(Design.of(candidate(NAS, CELL), channels=1, cells=1), tmp_path / "no" / "a.onnx")
