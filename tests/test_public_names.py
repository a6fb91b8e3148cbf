"""What ``metad2a`` offers by name, and what a user's own ``search.py`` or ``database`` does to it."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

import metad2a
from metad2a._packages import reach
from metad2a.errors import HiddenPackageError, MetaD2AError

SCRIPT = Path(sys.executable).parent / "metad2a"
WANTED = {
    "Candidate",
    "MetaD2A",
    "Suggestions",
    "Trained",
    "check",
    "load_dataset",
    "predict",
    "refine",
    "search",
    "suggest",
    "train",
}


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(folder, sys.executable, *arguments)


@pytest.fixture(params=["search.py", "search/__init__.py"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file or folder of the user's own that hides ours; it must not even run."""
    path = tmp_path / request.param
    path.parent.mkdir(exist_ok=True)
    path.write_text("raise SystemExit('the user\\'s own file ran')\n")
    return tmp_path / Path(request.param).parts[0]


def test_every_public_name_is_there():
    assert WANTED <= set(metad2a.__all__) <= set(dir(metad2a))
    for name in metad2a.__all__:
        found = getattr(metad2a, name)
        assert callable(found)
        assert found.__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        metad2a.serch  # noqa: B018


def test_names_load_when_asked_for_and_each_alone(tmp_path):
    script = (
        "import sys, metad2a, metad2a.cli\n"
        "heavy = {'torch', 'search', 'numpy'}\n"
        "assert set(metad2a.__all__) <= set(dir(metad2a)) and not heavy & set(sys.modules)\n"
        "metad2a.load_dataset\n"
        "print(heavy & set(sys.modules))"
    )
    done = python(tmp_path, "-c", script)
    assert done.stdout == "{'numpy'}\n", done.stderr


def test_a_file_of_the_users_own_is_named_with_the_way_out(own):
    script = (
        "import metad2a\nfrom metad2a.errors import HiddenPackageError\n"
        "metad2a.load_dataset\n"
        "for name in ('search', 'refine', 'check'):\n"
        "    try:\n        getattr(metad2a, name)\n"
        "    except HiddenPackageError as error:\n        print(error)\n"
        "try:\n    from metad2a import search\n"
        "except ImportError as error:\n    print(error)\n"
    )
    done = python(own.parent, "-c", script)
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stderr
    assert len(set(lines)) == 1
    assert lines[0].startswith(f"{str(own)!r} hides the package 'search'")
    assert "Rename it, or run from another folder" in lines[0]


def test_a_script_beside_it_is_told_too_and_p_is_a_way_out(own):
    script = own.parent / "mine.py"
    script.write_text("import metad2a\nprint(metad2a.search.__module__)\n")
    done = run(Path("/"), sys.executable, str(script))
    assert done.returncode == 1
    assert f"HiddenPackageError: {str(own)!r} hides" in done.stderr
    assert "own file ran" not in done.stderr
    script.write_text("from metad2a._packages import reach\nprint(reach('search').__name__)\n")
    assert run(Path("/"), sys.executable, "-P", str(script)).stdout == "search\n"


@pytest.mark.parametrize(
    ("package", "command"),
    [
        ("search", ["methods"]),
        ("search", ["search", "sklearn:digits"]),
        ("search", ["db", "status", "x.sqlite"]),
        ("database", ["db", "status", "x.sqlite"]),
    ],
)
def test_the_command_line_says_the_same(tmp_path, package, command):
    own = tmp_path / f"{package}.py"
    own.write_text("raise SystemExit('the user\\'s own file ran')\n")
    done = python(tmp_path, "-m", "metad2a", *command)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {str(own)!r} hides the package {package!r}")


def test_commands_that_need_no_other_package_do_not_mind(own):
    assert python(own.parent, "-m", "metad2a", "check", "nothing").returncode == 3


def test_json_carries_the_error(tmp_path):
    (tmp_path / "search.py").touch()
    done = python(tmp_path, "-m", "metad2a", "methods", "--json")
    assert json.loads(done.stdout)["error"]["type"] == "HiddenPackageError"


@pytest.mark.skipif(not SCRIPT.exists(), reason="needs the installed command")
def test_the_installed_command_does_not_look_where_it_is_run(own):
    command = (str(SCRIPT), "db", "status", "nothing.sqlite")
    done = run(own.parent, *command)
    assert (done.returncode, "no database" in done.stderr) == (3, True), done.stderr
    # Unless the path says so.
    done = run(own.parent, *command, PYTHONPATH=str(own.parent))
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: {str(own)!r} hides the package 'search'")


def test_what_is_already_imported_counts_too(tmp_path):
    (tmp_path / "search.py").write_text("mine = 1\n")
    script = "import search, metad2a\nassert search.mine\nmetad2a.refine"
    done = python(tmp_path, "-c", script)
    assert done.returncode == 1
    assert "search.py' hides the package" in done.stderr


def test_a_bare_folder_hides_only_what_is_found_another_way(tmp_path, monkeypatch):
    # As with an editable installation, whose packages are looked for after all of the path.
    spec = ModuleSpec("search", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path / "search")]
    monkeypatch.delitem(sys.modules, "search", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(HiddenPackageError, match=r"search' hides the package 'search'"):
        reach("search")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(HiddenPackageError, match="Install metad2a again"):
        reach("search")


def test_the_error_is_ours_and_an_import_error():
    assert issubclass(HiddenPackageError, MetaD2AError)
    assert issubclass(HiddenPackageError, ImportError)
