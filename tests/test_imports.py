"""Which way the imports point, and what importing the package brings with it."""

import ast
import graphlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOORS = {"app", "metad2a.cli", "metad2a.page"}
FORBIDDEN = {
    "metad2a": {"search", "database"} | DOORS,
    "search": {"database"} | DOORS,
    "database": DOORS,
    # The doors may see everything, and only one another's way in.
    "metad2a/cli": {"app"},
    "metad2a/page": {"app", "metad2a.cli"},
    "metad2a/__main__.py": {"app", "search", "database", "metad2a.page"},
    # It names what users need, and imports it when asked.
    "metad2a/__init__.py": {"database"} | DOORS,
}
FILES = sorted(
    path.relative_to(ROOT)
    for name in ("metad2a", "search", "database")
    for path in (ROOT / name).rglob("*.py")
)
MODULES = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in FILES}


@cache
def imports(path: Path) -> list[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Return the imports anywhere in a file, each with whether it is for types alone."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    for_types = {
        inner
        for node in nodes
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    return [
        (node, node in for_types) for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def imported(path: Path, typing: bool = True) -> set[str]:
    """Return every dotted name that a file imports, anywhere in it, or not for types alone."""
    names = set()
    for node, for_types in imports(ROOT / path):
        if for_types and not typing:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        else:
            package = ".".join(path.parts[: -node.level]) if node.level else ""
            module = ".".join(filter(None, (package, node.module)))
            inner = {f"{module}.{alias.name}" for alias in node.names}
            # What a package's own files take from one another is not what it offers.
            names |= inner if inner <= MODULES else inner | {module}
    return names


def forbidden(path: Path) -> set[str]:
    """Return the rule of the file itself, or of the nearest folder that has one."""
    return next(FORBIDDEN[str(place)] for place in (path, *path.parents) if str(place) in FORBIDDEN)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_one_way(path):
    wrong = {
        name
        for name in imported(path)
        for top in forbidden(path)
        if name == top or name.startswith(f"{top}.")
    }
    assert not wrong


def test_the_rules_see_a_wrong_import(tmp_path, monkeypatch):
    (tmp_path / "search").mkdir()
    text = "def f():\n    from metad2a import cli\n    import database.store\n    from . import x\n"
    (tmp_path / "search" / "wrong.py").write_text(text, encoding="utf-8")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    found = imported(Path("search/wrong.py"))
    assert {"metad2a.cli", "database.store", "search.x"} <= found
    assert forbidden(Path("search/wrong.py")) == FORBIDDEN["search"]


def reached(*modules: str) -> dict[str, str]:
    """Return the package's modules that these import, in functions too, each with who does."""
    found: dict[str, str] = {}
    waiting = [(name, "") for name in modules]
    while waiting:
        name, by = waiting.pop()
        place = Path(*name.split("."))
        path = next(
            (p for p in (place.with_suffix(".py"), place / "__init__.py") if p in FILES), None
        )
        if path is not None and name not in found:
            found[name] = by
            waiting += [(other, name) for other in imported(path, typing=False)]
    return found


@pytest.mark.parametrize("package", ["metad2a", "search", "database"])
def test_no_module_leads_back_to_itself(package):
    """Imports in functions count, those for types alone do not."""
    names = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
        if path.parts[0] == package
    }
    graph = {
        name: imported(path, typing=False) & names.keys() - {name} for name, path in names.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_inference_imports_no_training():
    """What answers, and what a trained network is used by, needs nothing that learns."""
    found = reached("metad2a.prediction", "metad2a.suggestion", "metad2a.model.metad2a")
    assert {"metad2a.model.predictor", "metad2a.datasets.decode"} <= found.keys()
    learning = {
        name: by
        for name, by in found.items()
        if name.startswith("metad2a.meta_training")
        or name.endswith("_training")
        or name in ("metad2a.training.train", "metad2a.training.loop")
    }
    assert not learning


def run(script: str, folder: Path) -> str:
    (folder / "script.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        check=True,
        text=True,
        capture_output=True,
        timeout=600,
    ).stdout


def test_no_tracked_link_points_outside_or_nowhere():
    listed = subprocess.run(
        ["git", "ls-files", "-s", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("needs the git repository")
    links = [line.split("\t")[1] for line in listed.stdout.split("\0") if line.startswith("120000")]
    for link in links:
        assert (ROOT / link).resolve(strict=True).is_relative_to(ROOT), link


def test_import_metad2a_brings_nothing_heavy(tmp_path):
    heavy = ("torch", "torchvision", "torch_geometric", "gradio", "numpy", "PIL", "pyarrow")
    script = f"import sys, metad2a\nprint([name for name in {heavy} if name in sys.modules])"
    assert run(script, tmp_path) == "[]\n"


@pytest.mark.slow
def test_a_search_py_of_the_users_own_does_no_harm(tmp_path):
    for name in ("search", "database", "app"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py ran')", encoding="utf-8")
    core = [
        ".".join(path.with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if FORBIDDEN["metad2a"] == forbidden(path)
    ]
    script = (
        "import importlib\nfrom metad2a import suggest\n"
        f"for name in {core}:\n    importlib.import_module(name)\n"
        "print(suggest.__name__)"
    )
    assert run(script, tmp_path) == "suggest\n"
