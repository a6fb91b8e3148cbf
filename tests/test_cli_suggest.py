"""``metad2a suggest`` and ``metad2a check`` on a small drawn dataset."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from metad2a.cli import main
from metad2a.spaces import SPACES

CELLS = ("--space", "nasbench201")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three classes of eight striped images: the stripes' direction and colour tell the class."""
    root = tmp_path_factory.mktemp("stripes")
    rng = np.random.default_rng(0)
    for number in range(3):
        folder = root / f"class {number}"
        folder.mkdir()
        for index in range(8):
            image = rng.integers(0, 80, (24, 24, 3), dtype=np.uint8)
            image[:: 2 + number, :, number] += 150
            Image.fromarray(image if index % 2 else image.swapaxes(0, 1)).save(
                folder / f"{index}.png"
            )
    return root


@pytest.fixture(scope="module")
def answers(data):
    """The same command here and in a process with another hash seed, and limits that bind."""
    command = [
        "suggest",
        str(data),
        "--k",
        "4",
        "--seed",
        "7",
        "--max-params",
        "0.5M",
        "--max-macs",
        "60e6",
        "--space",
        "nasbench201",
        "--json",
    ]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main(command) == 0
    done = subprocess.run(
        [sys.executable, "-m", "metad2a", *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ
        | {"PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
    )
    assert done.returncode == 0, done.stderr
    found = [printed.getvalue(), done.stdout]
    assert [text.count("\n") for text in found] == [1, 1]
    return [json.loads(text) for text in found]


def test_the_json_has_what_programs_rely_on(answers):
    answer = answers[0]
    assert [one["rank"] for one in answer["candidates"]] == [1, 2, 3, 4]
    assert len({one["architecture"] for one in answer["candidates"]}) == 4
    assert (answer["report"]["images"], answer["report"]["classes"]) == (24, 3)
    assert answer["report"]["skipped"] == []
    assert answer["seconds"] > 0
    for one in answer["candidates"]:
        space = SPACES.get(one["space"])
        cost = space.cost(space.parse(one["architecture"]), classes=3)
        assert (one["params"], one["macs"]) == (cost.params, cost.macs)
        assert one["params"] <= 500_000
        assert one["macs"] <= 60_000_000
        low, high = one["interval"]
        assert 0 <= low <= one["accuracy"] <= high <= 100
        assert one["resolution"] == 32
        assert one["bytes"] == 4 * one["params"]
        assert one["classes"] == answer["classes"] == ["class 0", "class 1", "class 2"]


def test_another_process_gives_the_same_answer(answers):
    first, second = ({**answer, "seconds": None} for answer in answers)
    assert first == second


def test_people_get_the_report_and_the_table(data, capsys):
    assert main(["suggest", str(data), "--k", "2", *CELLS]) == 0
    shown = capsys.readouterr().out
    assert "24 images, 3 classes" in shown
    assert shown.count("|nor_conv") + shown.count("|skip") + shown.count("|none") > 0


@pytest.mark.parametrize("command", ["suggest", "check"])
def test_data_that_cannot_be_used_is_3(command, tmp_path, capsys):
    assert main([command, str(tmp_path), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "InputError"
    (tmp_path / "only").mkdir()
    for index in range(3):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "only" / f"{index}.png")
    assert main([command, str(tmp_path), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "Unsure"


def test_an_impossible_limit_names_the_least(data, capsys):
    assert main(["suggest", str(data), "--max-params", "1", "--json", *CELLS]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "BudgetError"
    least = SPACES.get("nasbench201").smallest(classes=3).params
    assert str(least) in error["message"].replace(",", "")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([*CELLS, "--k", "0"], 3),
        ([*CELLS, "--seed", "-1"], 3),
        (["--space", "nasbench"], 3),
        ([*CELLS, "--model", "no/such/folder"], 1),
        (["--space", "efficientnet_lite", "--model", "no/such/folder"], 3),
    ],
    ids=str,
)
def test_arguments_out_of_range(data, capsys, arguments, code):
    assert main(["suggest", str(data), *arguments]) == code
    assert capsys.readouterr().err.startswith("Error: ")


def test_check_says_what_was_understood(data, capsys):
    assert main(["check", str(data)]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith(f"{data.name}: 24 images, 3 classes (")
    assert "Classes:\n  class 0        8\n" in shown.out
    assert main(["check", str(data), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["classes"], report["checked"]) == (24, 3, 24)
    assert report["sizes"] == {"least": 24, "median": 24, "greatest": 24}


def test_check_lists_what_it_skipped_whatever_its_name(data, tmp_path, capsysbinary):
    for number in range(2):
        folder = tmp_path / f"class {number}"
        folder.mkdir()
        for index in range(12):
            Image.new("RGB", (9, 9), (index, number, 0)).save(folder / f"{index}.png")
    (tmp_path / "class 1" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"no image")
    assert main(["check", str(tmp_path)]) == 0
    assert b"1 unreadable file skipped" in capsysbinary.readouterr().out
    assert main(["check", str(tmp_path), "--json"]) == 0
    [skipped] = json.loads(capsysbinary.readouterr().out)["skipped"]
    assert skipped["name"].endswith("caf\N{GREEK CAPITAL LETTER THETA}.png")  # as CP437 reads it
