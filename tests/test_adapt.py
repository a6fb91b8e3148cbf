"""Adapted weights: a step teaches, a stop changes nothing, and only cut networks inherit them."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from metad2a.cli import main
from metad2a.datasets import load_dataset
from metad2a.errors import ArtifactError, InputError
from metad2a.meta_training import adapt as adapting
from metad2a.meta_training.adapt import (
    Adaptation,
    Reweighted,
    adapt,
    adapted,
    is_cut,
    squares,
    write_adapted,
)
from metad2a.spaces.efficientnet_lite import SPACE

SIDE = 32
CUT = ("r32-s4-d112-e2346-k3", "r32-s7-d11111-e666666-k355", "r32-s5-d2233-e3666666666-k55555")
UNCUT = ("r32-s7-d22334-e666666666666666-k555555555", "r32-s4-d111-e666-k5")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(adapting, "SIDES", (SIDE,))
    monkeypatch.setattr(adapting, "STATISTICS", 2)


def drawn(count=6, seed=0):
    """Return labelled images of coloured noise, coarse and fine."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (count, 4, 4, 3)).repeat(SIDE // 4, 1).repeat(SIDE // 4, 2)
    fine = rng.integers(0, 56, (count, SIDE, SIDE, 3))
    return load_dataset(((coarse + fine).astype(np.uint8), [0, 1] * (count // 2)))


@pytest.fixture(scope="module")
def stepped():
    """An adaptation before and after some steps: the losses of each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapting, "SIDES", (SIDE,))
        patch.setattr(adapting, "STATISTICS", 2)
        work = Adaptation(squares([drawn()]), 8, device="cpu")
        losses = [work.step() for _ in range(8)]
        return work, losses, work.weights()


def test_steps_lower_the_loss(stepped):
    _, losses, _ = stepped
    assert np.mean(losses[-3:]) < 0.9 * np.mean(losses[:2])


def test_the_parent_is_left_as_it_was(stepped):
    work, _, _ = stepped
    begun = SPACE.build(SPACE.whole(), 1, pretrained=True).state_dict()
    for name, tensor in work.parent.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, begun[name]), name


@pytest.mark.parametrize("text", UNCUT)
def test_networks_of_full_width_inherit_from_the_parent(stepped, text):
    *_, weights = stepped
    architecture = SPACE.parse(text)
    network = Reweighted(weights).build(architecture, 3, pretrained=True)
    parent = SPACE.build(architecture, 3, pretrained=True)
    assert not is_cut(network)
    for name, tensor in network.state_dict().items():
        if not name.startswith("classifier."):
            assert torch.equal(tensor, parent.state_dict()[name]), name


@pytest.mark.parametrize("text", CUT)
@torch.no_grad()
def test_cut_networks_are_slices_of_what_was_trained(stepped, text):
    work, _, weights = stepped
    space, x = Reweighted(weights), torch.randn(4, 3, SIDE, SIDE)
    network = space.build(space.parse(text), 1, pretrained=True).eval()
    expected = work.network.plain(work.chain.parse(text)).eval().features(x)
    assert is_cut(network)
    torch.testing.assert_close(network.features(x), expected, rtol=1e-3, atol=1e-4)
    before = SPACE.build(space.parse(text), 1, pretrained=True).eval().features(x)
    assert (before - expected).abs().mean() > 0.02 * expected.std()


def test_a_file_keeps_what_differs_from_the_parent(stepped, tmp_path):
    *_, weights = stepped
    write_adapted(tmp_path / "weights", weights)
    found = adapted(tmp_path / "weights")
    assert (tmp_path / "weights").stat().st_size < 10e6
    for part in ("tensors", "kernels", "norms"):
        assert getattr(found, part).keys() == getattr(weights, part).keys()
    for name, tensor in found.tensors.items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, weights.tensors[name], rtol=1e-3, atol=1e-6)
    for key, kernel in found.kernels.items():
        torch.testing.assert_close(kernel, weights.kernels[key].detach(), rtol=1e-3, atol=1e-6)
    for key, norm in found.norms.items():
        for leaf, tensor in norm.items():
            assert torch.equal(tensor, weights.norms[key][leaf])


def test_a_stop_changes_nothing(tmp_path):
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    assert adapt([drawn()], whole, 3)
    asked = iter([False, True])
    assert not adapt([drawn()], parted, 3, should_stop=lambda: next(asked))
    assert not parted.exists()
    with pytest.raises(InputError, match="begun with steps '3', not '4'"):
        adapt([drawn()], parted, 4)
    with pytest.raises(InputError, match="begun with images"):
        adapt([drawn(seed=1)], parted, 3)
    seen = []
    assert adapt([drawn()], parted, 3, progress=lambda done, total, text: seen.append(done))
    assert seen == [3]
    assert parted.read_bytes() == whole.read_bytes()
    assert not list(tmp_path.glob("*.adapting"))


def test_a_command_adapts_by_a_folder_of_datasets(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for name in ("ponds", "rocks", "cifar10"):
        for number in range(4):
            folder = tmp_path / "data" / name / f"class {number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    command = ["meta", "adapt", "--data", str(tmp_path / "data"), "--steps", "1", "--json"]
    out = ["--out", str(tmp_path / "out")]
    assert main([*command, *out, "--without", "rocks"]) == 0
    assert json.loads(capsys.readouterr().out)["datasets"] == ["ponds"]
    assert adapted(tmp_path / "out").norms

    for wrong, told in (
        ([*out, "--without", "birds"], ("'birds'", "natural, ponds, rocks")),
        ([*out, "--without", "rocks", "--without", "ponds"], ("No dataset is left", "fewer")),
        (["--out", str(tmp_path / "no" / "out")], ("Cannot write", "no/out", "folder is there")),
        (["--out", str(tmp_path)], (str(tmp_path), "is a folder", "name of a file")),
        ([*out, "--steps", "0"], ("0 steps", "1 or more")),
        ([*out, "--data", str(tmp_path / "nowhere")], ("nowhere", "no folder", "--data")),
    ):
        assert main([*command, *wrong]) in (1, 3)
        error = capsys.readouterr().err
        assert all(part in error for part in told), error


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "weights").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError, match="no adapted weights"):
        adapted(tmp_path / "weights")
