"""``metad2a train`` and what it writes, from the command line to the folder and back."""

import json

import numpy as np
import pytest
from PIL import Image
from training_outlook import Expects

from metad2a.cli import main
from metad2a.model import landmarks, performance
from metad2a.training import plan


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes that a network tells apart at once: stripes down, stripes across."""
    place = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    for name in ("across", "down"):
        (place / name).mkdir()
        for number in range(20):
            stripes = np.tile(np.arange(40) // int(rng.integers(2, 5)) % 2, (40, 1)) * 200
            noisy = np.clip(stripes + rng.normal(20, 20, (40, 40)), 0, 255).astype(np.uint8)
            picture = noisy.T if name == "across" else noisy
            Image.fromarray(np.repeat(picture[..., None], 3, 2)).save(
                place / name / f"{number}.png"
            )
    return place


@pytest.fixture(scope="module")
def looked(folder):
    from metad2a.datasets import load_dataset

    return landmarks.described(load_dataset(folder), np.arange(40))


@pytest.fixture(autouse=True)
def short(looked, monkeypatch):
    monkeypatch.setattr(landmarks, "described", lambda *_, **__: looked)
    monkeypatch.setattr(plan, "EPOCHS", (0.5, 2.0))
    monkeypatch.setattr(performance, "packaged", lambda: Expects(rate=1e-3))


def test_train_writes_a_folder_that_predict_reads(folder, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["train", str(folder), "--out", str(out), "--minutes", "1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["accuracy"] >= 75
    assert answer["classes"] == ["across", "down"]
    assert {
        "model.safetensors",
        "model.py",
        "model.onnx",
        "labels.json",
        "README.md",
        "preprocessing.json",
    } <= set(answer["files"])
    assert sorted(answer["files"]) == sorted(
        str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()
    )
    assert not (tmp_path / "model.training").exists()
    picture = folder / "down" / "3.png"
    assert main(["predict", str(out), str(picture), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["label"] in answer["classes"]
    assert 0 <= one["probability"] <= 1
    assert (
        main(
            [
                "train",
                str(folder),
                "--out",
                str(out),
                "--minutes",
                "1",
                "--no-onnx",
                "--network",
                answer["network"]["architecture"],
            ]
        )
        == 0
    )
    assert not (out / "model.onnx").exists()
    assert "right on 8 test images (held out)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--minutes", "0"], 2, "no number of minutes"),
        (["--minutes", "soon"], 2, "no number of minutes"),
        (["--network", "r96-s9"], 3, "'efficientnet_lite'"),
        (["--space", "resnet"], 3, "resnet"),
        (["--max-params", "10"], 3, "smallest network"),
        (["--resume"], 1, "no stopped training"),
        (["--device", "tpu"], 3, "no device"),
    ],
)
def test_what_cannot_be_done_is_said(folder, tmp_path, capsys, arguments, code, told):
    assert main(["train", str(folder), "--out", str(tmp_path / "m"), *arguments]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_a_folder_of_somebody_else_is_not_touched(folder, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["train", str(folder), "--out", str(tmp_path)]) == 3
    assert "notes.txt" in capsys.readouterr().err
    assert (tmp_path / "notes.txt").read_text() == "mine"
