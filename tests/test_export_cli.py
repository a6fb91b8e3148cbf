"""``metad2a export``: a string, a description or a folder in, one file or text out."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import onnxruntime
import pytest
import torch
from test_export_code import CELL, DARTS, GENOTYPE, NAS, WIDE, delivery, randomised
from test_export_saving import candidate

from metad2a.cli import main
from metad2a.draw import mermaid, svg
from metad2a.export import code, description, save
from metad2a.prediction import load
from metad2a.spaces import SPACES


def run(capsys, *arguments):
    """Return the exit code, and what went to standard output and error."""
    found = main(["export", *map(str, arguments)])
    return found, *capsys.readouterr()


def saved(folder):
    """Save a small trained network and return its folder."""
    one = delivery(NAS, CELL, 4, {"channels": 3, "cells": 1}, names=("a", "b", "c", "d"))
    one = replace(one, network=randomised(one.network), resolution=9, mean=(0.1, 0.5, 0.7))
    return save(replace(one, trained=True), folder, onnx=False).folder


def test_text_goes_to_standard_output(capsys):
    made = delivery(NAS, CELL, 7)
    assert run(capsys, CELL, "--classes", 7, "--to", "py", "--space", "nasbench201") == (
        0,
        code(made),
        "",
    )
    text = description(made)
    assert run(capsys, CELL, "--classes", 7, "--to", "json") == (0, text, "")
    assert json.loads(text)["architecture"] == CELL
    assert run(capsys, CELL, "--to", "svg") == (0, svg(NAS, CELL) + "\n", "")
    assert run(capsys, WIDE, "--space", "darts", "--to", "mmd") == (0, mermaid(DARTS, WIDE), "")


@pytest.mark.parametrize("name", ["a.py", "a.svg", "a.png", "a.mmd", "a.json"])
def test_the_files_ending_says_the_format(capsys, tmp_path, name):
    found = run(capsys, CELL, "--classes", 7, "--out", tmp_path / name)
    assert found == (0, f"Wrote {tmp_path / name}.\n", "")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    content = (tmp_path / name).read_bytes()
    starts = {
        "a.py": b'"""',
        "a.svg": b"<svg",
        "a.png": b"\x89PNG",
        "a.mmd": b"flowchart",
        "a.json": b"{",
    }
    assert content.startswith(starts[name])


@pytest.mark.parametrize("name", ["efficientnet_lite", "mobilenetv3"])
def test_networks_of_blocks_leave_too(capsys, tmp_path, name):
    space = SPACES.get(name)
    text = space.format((0,) * space.slots)
    status, out, _ = run(
        capsys, text, "--space", name, "--classes", 3, "--out", tmp_path / "a.onnx", "--json"
    )
    told = json.loads(out)
    cost = space.cost((0,) * space.slots, 3)
    assert (status, told["params"], told["macs"]) == (0, cost.params, cost.macs)
    assert (told["resolution"], told["trained"]) == (32, False)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape[1:] == [3, 32, 32]
    status, _, error = run(
        capsys, text, "--space", name, "--classes", 3, "--cells", 2, "--to", "py"
    )
    assert status == 3 and "has no size 'cells': it has none" in error


def test_sizes_and_classes(capsys, tmp_path):
    status, out, _ = run(
        capsys,
        GENOTYPE,
        *("--space", "darts", "--classes", 5, "--channels", 2, "--cells", 3),
        *("--to", "py", "--out", tmp_path / "a.txt", "--json"),
    )
    told = json.loads(out)
    assert (status, told["classes"]) == (0, 5)
    assert told["params"] == sum(
        p.numel() for p in DARTS.build(DARTS.parse(GENOTYPE), 5, channels=2, cells=3).parameters()
    )
    assert (told["out"], told["text"], told["trained"]) == (str(tmp_path / "a.txt"), None, False)
    assert "'channels': 2" in (tmp_path / "a.txt").read_text()


def test_a_saved_folder_leaves_with_its_weights(capsys, tmp_path):
    folder = saved(tmp_path / "best")
    for given in (folder, folder / "architecture.json"):
        status, out, _ = run(capsys, given, "--to", "py", "--json")
        told = json.loads(out)
        assert (status, told["trained"], told["classes"]) == (0, True, 4)
        assert "CLASSES = ['a', 'b', 'c', 'd']" in told["text"]
    status, out, error = run(capsys, folder, "--out", tmp_path / "a.onnx", "--json")
    assert (status, error, json.loads(out)["trained"]) == (0, "", True)
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx", providers=["CPUExecutionProvider"])
    images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    [logits] = session.run(["logits"], {"images": images.numpy()})
    with torch.no_grad():
        assert (torch.from_numpy(logits) - load(folder).network(images)).abs().max() <= 1e-4


def test_a_folder_with_other_sizes_is_a_new_network(capsys, tmp_path):
    folder = saved(tmp_path / "best")
    status, out, _ = run(capsys, folder, "--to", "json", "--classes", 9, "--cells", 2, "--json")
    told = json.loads(out)
    assert (status, told["classes"], told["trained"]) == (0, 9, False)
    again = json.loads(told["text"])
    assert (again["network"]["config"]["channels"], again["network"]["config"]["cells"]) == (3, 2)
    (tmp_path / "again.json").write_text(told["text"], encoding="utf-8")
    status, out, _ = run(capsys, tmp_path / "again.json", "--to", "json")
    assert (status, json.loads(out)) == (0, again)


def test_what_suggest_prints_of_a_candidate_can_be_exported(capsys, tmp_path):
    one = candidate(NAS, CELL, ("cat", "dog", "bird"))
    (tmp_path / "a.json").write_text(json.dumps(one.to_dict()), encoding="utf-8")
    status, text, _ = run(capsys, tmp_path / "a.json", "--to", "py")
    assert status == 0 and "CLASSES = ['cat', 'dog', 'bird']" in text


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([CELL], 2, "--to py|onnx"),
        ([CELL, "--out", "a.exe"], 2, "--to py|onnx"),
        ([CELL, "--to", "onnx", "--classes", "3"], 2, "needs --out"),
        ([CELL, "--to", "png"], 2, "needs --out"),
        ([CELL, "--to", "h5"], 2, "invalid choice"),
        ([CELL, "--to", "py"], 3, "give --classes N"),
        ([CELL, "--to", "py", "--classes", "1"], 3, "classes=1 "),
        ([CELL, "--to", "svg", "--classes", "0"], 3, "classes=0 "),
        ([CELL, "--to", "py", "--classes", "3", "--channels", "0"], 3, "channels=0 "),
        ([CELL, "--to", "py", "--classes", "3", "--cells", "1e9"], 3, "cells=1000000000"),
        ([CELL, "--to", "svg", "--space", "darts"], 3, "not a DARTS genotype"),
        ([CELL, "--to", "svg", "--space", "nasbench"], 3, "Did you mean"),
        (["|none|", "--to", "svg"], 3, "not a NAS-Bench-201 cell"),
        (["\0" + "x" * 5000, "--to", "svg"], 3, "not a NAS-Bench-201 cell"),
        (["nowhere.json", "--to", "svg"], 3, "cannot be read"),
        ([".", "--to", "svg"], 3, "cannot be read"),
        ([CELL, "--out", "no/such/folder/a.svg"], 1, "No such file or directory"),
    ],
    ids=lambda value: None if isinstance(value, int) else str(value)[-40:],
)
def test_errors_are_named(capsys, tmp_path, monkeypatch, arguments, status, words):
    monkeypatch.chdir(tmp_path)
    found, out, error = run(capsys, *arguments, "--json")
    assert found == status and words in error
    assert json.loads(out)["error"]["message"] in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"\xff", b"[" * 100_000, b" " * 2**25, b"{}"], ids=range(7)
)
def test_what_is_no_description(capsys, tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    found, _, error = run(capsys, tmp_path / "a.json", "--to", "svg")
    assert found == 3 and ("description" in error or "needs the keys" in error)
    assert len(error) < 600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"space": "nasbench"}, "Did you mean 'nasbench201'"),
        ({"architecture": 7}, "'7' is not"),
        ({"classes": None}, "give --classes N"),
        ({"classes": "9"}, "'9' for classes"),
        ({"classes": 10**9}, "classes=1000000000"),
        ({"network": {"config": {"channels": 10**9}}}, "channels="),
        ({"network": {"config": {"cells": [1]}}}, "cells="),
    ],
    ids=str,
)
def test_a_strangers_description_is_checked(capsys, tmp_path, change, words):
    data = json.loads(description(delivery(NAS, CELL, 3)))
    (tmp_path / "a.json").write_text(json.dumps({**data, **change}), encoding="utf-8")
    found, _, error = run(capsys, tmp_path / "a.json", "--to", "py")
    assert found == 3 and words in error


def test_another_space_than_the_files_is_refused(capsys, tmp_path):
    folder = saved(tmp_path / "best")
    found, _, error = run(capsys, folder, "--to", "svg", "--space", "darts")
    assert found == 3 and "of the space 'nasbench201'; leave --space out" in error


def test_a_missing_extra_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    found, _, error = run(capsys, CELL, "--out", tmp_path / "a.png")
    assert found == 3 and "pip install 'metad2a[png]'" in error
    assert not list(tmp_path.iterdir())


def test_help_and_drawings_need_no_torch(tmp_path):
    script = (
        "import sys\nfrom metad2a.cli import main\n"
        f"main(['export', {CELL!r}, '--out', {str(tmp_path / 'a.svg')!r}])\n"
        "try:\n    main(['export', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    ElementTree.parse(tmp_path / "a.svg")
