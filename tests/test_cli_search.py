"""``metad2a search`` as a user runs it: output, options, interruption and resuming."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from metad2a.cli import main
from metad2a.spaces import SPACES, WeightSharing

SHORT = ["--channels", "4", "--cells", "1"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    "space", [space.name for space in SPACES if isinstance(space, WeightSharing)]
)
def test_it_answers_in_text_and_json(space, capsys, cache):
    arguments = [
        "search",
        "sklearn:digits",
        "--method",
        "darts",
        "--space",
        space,
        "--images",
        "160",
        "--set",
        "darts.alpha_lr=0.001",
        *SHORT,
    ]
    assert main([*arguments, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)
    assert data["method"] == "darts"
    assert data["complete"]
    SPACES.get(space).parse(data["architecture"])
    assert {"width", "depth", "params", "macs", "seconds", "images", "history"} <= set(data)
    assert "Darts" in captured.err
    assert not list(cache.rglob("*.safetensors"))
    assert main(arguments) == 0
    assert data["architecture"] in capsys.readouterr().out


def test_wrong_options_end_with_a_message(capsys):
    for arguments, code, message in (
        (["--method", "dropnaz"], 3, "Did you mean 'dropnas'"),
        (["--set", "rate"], 2, "PART.OPTION=VALUE"),
        (["--set", "darts.rate=1", "--method", "darts"], 3, "no option 'rate'"),
        (["--minutes", "0"], 3, "minutes=0"),
    ):
        assert main(["search", "sklearn:digits", *arguments]) == code
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_leaves_a_state_that_the_same_command_goes_on_from(cache):
    command = [
        sys.executable,
        "-m",
        "metad2a",
        "search",
        "sklearn:digits",
        "--method",
        "darts",
        "--images",
        "6000",
        *SHORT,
        "--json",
    ]
    environment = {**os.environ, "METAD2A_CACHE": str(cache), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    seen = ""
    while "Darts" not in seen:
        seen += process.stderr.read(1)
        assert process.poll() is None, seen
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not json.loads(out)["complete"]
    assert "The same command goes on" in err
    assert len(list(cache.rglob("*.safetensors"))) == 1
    again = subprocess.run(
        command, capture_output=True, text=True, env=environment, check=True, timeout=120
    )
    result = json.loads(again.stdout)
    assert result["complete"]
    assert result["images"] >= 6000
    assert "Going on from" in again.stderr
    assert not list(cache.rglob("*.safetensors"))


@pytest.mark.slow
def test_past_tasks_of_a_database_narrow_the_space(tmp_path, capsys):
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for dataset in ("first", "second"):
        for label in range(3):
            folder = tmp_path / "data" / dataset / str(label)
            folder.mkdir(parents=True)
            for number in range(16):
                pixels = rng.integers(0, 120, (8, 8, 3)) + 60 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    database = tmp_path / "db.sqlite"
    plan = tmp_path / "plan.toml"
    plan.write_text(
        '[tasks]\ncount = 2\n[[methods]]\nname = "spread"\narchitectures = 2\n'
        'protocols = ["standalone"]\n'
    )
    assert (
        main(
            [
                "db",
                "build",
                str(plan),
                "--data",
                str(tmp_path / "data"),
                "--database",
                str(database),
            ]
        )
        == 0
    )
    capsys.readouterr()
    command = [
        "search",
        "sklearn:digits",
        "--method",
        "darts+fisher",
        "--images",
        "200",
        *SHORT,
        "--set",
        "fisher.seeds=1",
        "--set",
        "fisher.nearest=1",
        "--json",
        "--past",
    ]
    assert main([*command, str(database), str(tmp_path / "data")]) == 0
    data = json.loads(capsys.readouterr().out)
    notes = [point["note"] for point in data["history"] if "note" in point]
    assert any("Fisher distances of past tasks: " in note and "first-000" in note for note in notes)
    assert main([*command, str(database), str(tmp_path)]) == 3
    assert "has its images under" in capsys.readouterr().err
