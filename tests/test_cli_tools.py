"""The commands that show what there is: spaces, methods, models, doctor and the page."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from metad2a.cli import main
from metad2a.model import artifact
from metad2a.spaces import SPACES
from search.engine.method import METHODS, WRAPPERS
from search.labellers.base import LABELLERS
from search.scores.base import EVALUATORS


def asked(capsys, *arguments: str):
    """Return a command's JSON and its text."""
    assert main([*arguments, "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert main([*arguments]) == 0
    return data, capsys.readouterr().out


def test_spaces(capsys):
    data, text = asked(capsys, "spaces")
    assert [one["name"] for one in data["spaces"]] == SPACES.names()
    for one in data["spaces"]:
        space = SPACES.get(one["name"])
        assert one["slots"] == len(one["decisions"]) == space.slots
        assert one["searchable"]
        assert one["smallest_params"] == space.smallest(10).params
        assert f"{one['name']}  " in text


def test_methods_lists_every_plugin_with_a_description(capsys):
    data, text = asked(capsys, "methods")
    for kind, registry in (
        ("methods", METHODS),
        ("wrappers", WRAPPERS),
        ("evaluators", EVALUATORS),
        ("labellers", LABELLERS),
    ):
        assert [one["name"] for one in data[kind]] == registry.names()
        assert all(one["description"] and one["description"] in text for one in data[kind])
    options = {one["name"]: one["options"] for one in data["methods"]}
    assert options["darts"] == {"alpha_lr": 3e-4, "alpha_decay": 1e-3}
    protocols = {one["name"]: one["protocols"] for one in data["labellers"]}
    assert protocols["standalone"][0]["name"] == "standalone-v1"


@pytest.fixture
def folder(tmp_path):
    import torch

    made = artifact.Artifact({"size": 1}, {"w": torch.zeros(2)}, "# A model\n\nIts card.\n", {})
    artifact.save_artifact(tmp_path / "model", made)
    return tmp_path / "model"


def test_the_card_and_the_folder_of_a_model(folder, capsys):
    data, text = asked(capsys, "models", "card", str(folder))
    assert data == {"folder": str(folder), "card": "# A model\n\nIts card.\n"}
    assert text == "# A model\n\nIts card.\n"
    data, text = asked(capsys, "models", "pull", str(folder))
    assert (data, text) == ({"folder": str(folder)}, f"{folder}\n")


def test_a_damaged_model_is_refused(folder, capsys):
    (folder / "model.safetensors").write_bytes(b"cut")
    assert main(["models", "card", str(folder), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "ArtifactError"


def test_doctor(capsys, monkeypatch, tmp_path):
    import torch

    monkeypatch.setenv("METAD2A_CACHE", str(tmp_path / "here"))
    data, text = asked(capsys, "doctor")
    assert data["python"] == ".".join(map(str, sys.version_info[:3]))
    assert data["packages"]["torch"] == torch.__version__
    assert data["devices"][0].startswith("cpu")
    assert data["threads"] == torch.get_num_threads()
    assert data["cache"] == str(tmp_path / "here")
    assert data["model"]["present"] == (not data["model"]["missing"])
    for word in ("torchvision", data["torchvision"], data["cache"], data["model"]["folder"]):
        assert word in text


def test_doctor_finds_a_model_that_is_not_there(capsys, monkeypatch, tmp_path):
    from metad2a.model import hub

    monkeypatch.setattr(hub, "resolve", lambda: tmp_path)
    data, text = asked(capsys, "doctor")
    assert data["model"] == {
        "folder": str(tmp_path),
        "present": False,
        "missing": list(artifact.FILES),
    }
    assert f"{tmp_path}: lacks {artifact.CONFIG}" in text


def test_the_app_says_what_is_wrong(capsys, monkeypatch):
    assert main(["app", "--port", "70000"]) == 3
    assert "use 1 to 65535" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 1
    assert "pip install 'metad2a[app]'" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("gradio") is None, reason="needs gradio")
def test_the_app_serves_where_it_is_told(capsys, monkeypatch):
    from metad2a import page

    served = []
    monkeypatch.setattr(page, "build_page", lambda backend: "page")
    monkeypatch.setattr(page, "launch", lambda *page, **options: served.append((page, options)))
    assert main(["app", "--host", "127.0.0.2", "--port", "8000"]) == 0
    assert served == [
        (("page",), {"server_name": "127.0.0.2", "server_port": 8000, "mcp_server": False})
    ]

    def refuse(*rest, **options):
        raise OSError("Cannot find empty port.")

    monkeypatch.setattr(page, "launch", refuse)
    assert main(["app"]) == 3
    assert "port 7860: Cannot find empty port." in capsys.readouterr().err
