"""The command line's frame: help without heavy imports, exit codes, errors, kinds of arguments."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys

import pytest

from metad2a.cli import COMMANDS, check, main
from metad2a.cli.common import columns, integer
from metad2a.errors import ArtifactError, BudgetError, DatabaseError, InputError, MetaD2AError

HEAVY = ("torch", "numpy", "PIL", "pyarrow", "sqlalchemy", "torchvision", "gradio", "tqdm")


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metad2a", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | environment,
    )


@pytest.fixture
def failing(monkeypatch):
    """Return a function that makes ``metad2a check DATA`` raise."""

    def fail_with(error):
        def run(args):
            raise error

        monkeypatch.setattr(check, "run", run)

    return fail_with


@pytest.mark.parametrize(
    "arguments", [["--help"], ["suggest", "--help"], ["db", "build", "-h"]], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments):
    script = (
        "import sys\nfrom metad2a.cli import main\n"
        f"try:\n    main({arguments})\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print('heavy:', [name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("usage: metad2a")
    assert done.stdout.endswith("heavy: []\n")


def test_every_command_is_listed_and_explained(capsys):
    with pytest.raises(SystemExit) as done:
        main([])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    assert all(f"    {name} " in shown and text in shown for name, (_, text) in COMMANDS.items())


def test_version_is_the_installed_one(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"metad2a {version('metad2a')}\n"


def test_module_and_process_exit_codes(tmp_path):
    done = run("check", str(tmp_path / "nothing"), "--json", METAD2A_DEBUG="0")
    assert done.returncode == 3
    error = json.loads(done.stdout)["error"]
    assert error["type"] == "InputError"
    assert str(tmp_path / "nothing") in error["message"]
    assert "folder" in error["message"]
    assert "zip" in error["message"]
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_enough_is_no_error():
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "metad2a", "spaces"],
            stdout=writer,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["frobnicate"],
        ["check"],
        ["check", "a", "b"],
        ["suggest", "x", "--k", "many"],
        ["suggest", "x", "--max-p", "1"],
        ["db"],
        ["db", "status"],
        ["db", "build", "--data", "x", "--database", "y", "--tasks", "1", "--plan", "standalone"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_2(arguments, capsys):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("Error: ")
    assert "usage: metad2a" in shown.err
    assert main([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "UsageError"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("bad"), 3),
        (BudgetError("bad"), 3),
        (ArtifactError("bad"), 1),
        (DatabaseError("bad"), 1),
        (MetaD2AError("bad"), 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_errors_have_their_exit_code_and_no_traceback(failing, capsys, monkeypatch, error, code):
    monkeypatch.delenv("METAD2A_DEBUG", raising=False)
    failing(error)
    assert main(["check", "x"]) == code
    assert capsys.readouterr() == ("", "Error: bad\n")
    assert main(["check", "x", "--json"]) == code
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"error": {"type": type(error).__name__, "message": "bad"}}
    assert shown.err == "Error: bad\n"


def test_debug_shows_the_traceback(failing, capsys, monkeypatch):
    monkeypatch.setenv("METAD2A_DEBUG", "1")
    failing(InputError("bad"))
    assert main(["check", "x"]) == 3
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_130(failing, capsys):
    failing(KeyboardInterrupt())
    assert main(["check", "x"]) == 130
    assert capsys.readouterr() == ("", "Error: Interrupted.\n")


def test_a_fault_of_the_program_is_not_hidden(failing):
    failing(ZeroDivisionError("bug"))
    with pytest.raises(ZeroDivisionError):
        main(["check", "x"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("2_000_000", 2_000_000),
        ("2e6", 2_000_000),
        ("2M", 2_000_000),
        ("2.5M", 2_500_000),
        ("1.5e3", 1500),
        ("10k", 10_000),
        ("3G", 3 * 10**9),
        ("-1", -1),
        ("+7", 7),
        ("123456789012345678901", 123456789012345678901),
    ],
)
def test_integers(text, value):
    assert integer(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "1.5",
        "2e-6",
        "2,000",
        "0x10",
        "1__0",
        "_1",
        "1e999",
        "nan",
        "inf",
        "2 M",
        "2MM",
        "2.0001K",
        "٣.5",
    ],
)
def test_what_is_no_integer(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a whole number"):
        integer(text)


def test_columns_are_aligned():
    assert columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"
