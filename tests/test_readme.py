"""The README does what it says: its Python runs from top to bottom, and so do its commands."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = [  # (language, line number of the first line, text)
    (match[1], README.count("\n", 0, match.start()) + 2, match[2])
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
]
COMMANDS = [
    line.removeprefix("$ ")
    for language, _, text in BLOCKS
    if language == "console"
    for line in text.splitlines()
    if line.startswith("$ ")
]


def test_no_block_escapes_the_tests():
    assert {language for language, _, _ in BLOCKS} == {"python", "console"}
    assert README.count("```") == 2 * len(BLOCKS)
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for command in COMMANDS:
        program, what = command.split()[:2]
        assert program == "metad2a" or (program == "make" and what in targets), command


@pytest.mark.slow
def test_python(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "readme"}
    for language, line, text in BLOCKS:
        if language == "python":
            # Empty lines before it: a traceback then names the README's own line.
            code = compile("\n" * (line - 1) + text, str(ROOT / "README.md"), "exec")
            exec(code, names)


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("metad2a ")])
def test_command(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command)],
        cwd=tmp_path,
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.parametrize("target", re.findall(r"\]\(([^)#:]+)\)", README))
def test_link_to_a_file(target):
    assert (ROOT / target).exists()
