"""``metad2a models``: the commands that need no network, and what ``verify`` finds."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from metad2a.cli import main
from metad2a.model.artifact import FILES, load_artifact, save_artifact
from metad2a.model.golden import compare
from metad2a.model.hub import resolve
from metad2a.model.metad2a import MetaD2A, Prediction, packaged
from metad2a.model.verification import verify

COMMIT = "c" * 40


def asked(capsys, *arguments: str) -> tuple[int, dict, str]:
    """Return a command's exit code, its JSON and its text."""
    code = main(["models", *arguments, "--json"])
    data = json.loads(capsys.readouterr().out)
    assert main(["models", *arguments]) == code
    printed = capsys.readouterr()
    return code, data, printed.out + printed.err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the packaged model that a test may change."""
    return Path(shutil.copytree(resolve(None), tmp_path / "model"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# -- list ------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the Hub's client, empty."""
    from huggingface_hub.utils import _cache_manager

    place = tmp_path / "hub"
    monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", str(place))
    return place


def cached(cache: Path, repo: str, files: dict[str, bytes], ref: str = "") -> None:
    """Lay files into the cache as the client does, but for its links."""
    place = cache / f"models--{repo.replace('/', '--')}"
    for folder in ("blobs", "refs"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    snapshot = place / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for name, content in files.items():
        (snapshot / name).write_bytes(content)
    if ref:
        (place / "refs" / ref).write_text(COMMIT)


def test_list_without_a_cache(capsys, cache):
    code, data, text = asked(capsys, "list")
    assert code == 0 and not cache.exists()
    (inside,) = data["models"]
    size = sum(path.stat().st_size for path in resolve(None).iterdir())
    assert inside == {
        "model": None,
        "refs": [],
        "space": "nasbench201",
        "format_version": 2,
        "size": size,
        "missing": [],
        "folder": str(resolve(None)),
    }
    assert "inside the package" in text and "complete" in text
    cache.write_text("a file in its place")
    assert asked(capsys, "list")[1] == data


def test_list_shows_only_models_of_ours(capsys, cache):
    files = {name: (resolve(None) / name).read_bytes() for name in FILES}
    cached(cache, "org/whole", files, ref="v1")
    cached(cache, "org/cut", {"config.json": files["config.json"]})
    config = json.loads(files["config.json"])
    newer = json.dumps(config | {"format_version": 3, "space": "\x1b[2J later"}).encode()
    cached(cache, "org/newer", files | {"config.json": newer})
    for number, other in enumerate(
        (
            b'{"model_type": "bert"}',
            b"[]",
            b"{",
            b"\xff",
            b'{"format_version": 2, "space": "nasbench201"}',
            json.dumps(config | {"format_version": "x"}).encode(),
        )
    ):
        cached(cache, f"org/other{number}", {"config.json": other})
    cached(cache, "org/none", {"README.md": b""})
    code, data, text = asked(capsys, "list")
    assert code == 0
    found = [
        (one["model"], one["refs"], one["format_version"], len(one["missing"]))
        for one in data["models"]
    ]
    assert found == [
        (None, [], 2, 0),
        (f"org/cut@{COMMIT}", [], 2, 3),
        (f"org/newer@{COMMIT}", [], 3, 0),
        (f"org/whole@{COMMIT}", ["v1"], 2, 0),
    ]
    assert data["models"][3]["size"] == sum(map(len, files.values()))
    assert "lacks model.safetensors, README.md, golden.json" in text
    assert "\x1b" not in text


# -- verify ----------------------------------------------------------------------------------


def test_a10_verify_the_packaged_model(capsys):
    code, data, text = asked(capsys, "verify")
    assert code == 0 and data["ok"] is True and data["problems"] == []
    config = json.loads((resolve(None) / "config.json").read_text())
    assert data["weights_sha256"] == config["weights_sha256"]
    assert set(data["gaps"]) == {"stripes mean", "stripes std", "dots mean", "dots std"}
    assert max(data["gaps"].values()) < 0.1
    assert data["figures"]["coverage"] == 90.6 and len(data["figures"]) == 5
    assert text.rstrip().endswith("All agrees.")


def test_a10_verify_says_what_differs(capsys, folder):
    def change(golden: dict) -> None:
        golden["stripes"]["mean"][2] -= 0.7
        golden["stripes"]["generated"].reverse()
        del golden["dots"]
        golden["checks"] = {}

    edit(folder / "golden.json", change)
    card = folder / "README.md"
    card.write_text(card.read_text().replace("**90.6%**", "**99.6%**"))
    code, data, text = asked(capsys, "verify", str(folder))
    assert code == 1 and data["ok"] is False
    for problem, part in zip(
        data["problems"],
        (
            "stripes: mean differs by 0.7",
            "stripes: other architectures",
            "'dots' is missing",
            "'checks' is of an unknown dataset",
            "README.md: the head says",
        ),
        strict=True,
    ):
        assert part in problem and problem in text
    assert data["gaps"]["stripes mean"] == pytest.approx(0.7, abs=0.1)


def test_a6_verify_weights_that_were_changed(capsys, folder):
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, data, text = asked(capsys, "verify", str(folder))
    assert code == 1 and data["weights_sha256"] is None
    assert "its SHA-256 is" in data["problems"][0] and "its SHA-256 is" in text


def test_a10_weights_that_answer_nonsense(capsys, folder):
    artifact = load_artifact(folder)
    artifact.tensors["predictor.noise"].fill_(3e38)  # finite, and its square is not
    save_artifact(folder, artifact)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, data, text = asked(capsys, "verify", str(folder))
    assert code == 1 and not data["ok"]
    assert "Warning: " in text
    assert any("differs by" in problem for problem in data["problems"])


def test_a10_an_answer_that_is_no_number_differs(monkeypatch):
    nothing = Prediction(*(np.full(6, np.nan) for _ in range(4)))
    monkeypatch.setattr(MetaD2A, "predict", lambda *_: nothing)
    found = verify(resolve(None))
    assert sum("differs by nan" in problem for problem in found.problems) == 4
    assert found.to_dict()["gaps"] == dict.fromkeys(found.gaps)
    json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    "answer",
    [
        5,
        [],
        {},
        {"architectures": [], "mean": [], "std": [], "generated": []},
        {"architectures": ["x"], "mean": [1], "std": [1], "generated": ["x"]},
        {"architectures": ["x"], "mean": [1, 2], "std": [1], "generated": ["x"]},
        {"architectures": ["x"], "mean": ["1"], "std": [1], "generated": ["x"]},
        {"architectures": ["x"], "mean": [10**400], "std": [1], "generated": ["x"]},
        {"architectures": ["x"], "mean": [float("nan")], "std": [1], "generated": ["x"]},
        {"architectures": [7], "mean": [1], "std": [1], "generated": ["x"]},
        {"architectures": ["x"] * 1001, "mean": [1] * 1001, "std": [1] * 1001, "generated": ["x"]},
    ],
    ids=range(11),
)
def test_golden_answers_that_are_none(answer):
    model = copy.copy(packaged())
    model.golden = {"dots": answer}
    gaps, problems = compare(model)
    assert gaps == {}
    assert len(problems) == 2 and "stripes" in problems[0] and "dots" in problems[1]


# -- card and pull ---------------------------------------------------------------------------


def test_a_card_cannot_command_the_terminal(capsys, folder):
    (folder / "README.md").write_text("# Card\n\x1b]0;owned\x07\ttext\u202e\n")
    code, data, text = asked(capsys, "card", str(folder))
    assert code == 0 and data["card"].startswith("# Card\n\x1b]0;")
    assert (
        text == "# Card\n\N{REPLACEMENT CHARACTER}]0;owned\N{REPLACEMENT CHARACTER}\ttext"
        "\N{REPLACEMENT CHARACTER}\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (["pull", "../../x"], 1, "neither a folder nor a Hub id"),
        (["verify", "file:///etc"], 1, "neither a folder nor a Hub id"),
        (["push", "nowhere", "org/name"], 3, "There is no folder 'nowhere'"),
        (["push", "{folder}", "org/name@v1"], 3, "a branch apart from it"),
        (["push", "{folder}", "../../x"], 3, "no place for a model"),
        (["push", "{empty}", "org/name"], 1, "config.json is missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_refusals(capsys, folder, tmp_path, arguments, code, part):
    (tmp_path / "empty").mkdir()
    words = [word.format(folder=folder, empty=tmp_path / "empty") for word in arguments]
    found, data, text = asked(capsys, *words)
    assert found == code
    assert part in data["error"]["message"] and part in text


def test_a_model_that_is_no_model_is_not_pushed(capsys, folder):
    artifact = load_artifact(folder)
    artifact.tensors["generator.embed.weight"] = torch.zeros(3)
    save_artifact(folder, artifact)
    code, data, _ = asked(capsys, "push", str(folder), "org/name")
    assert code == 1 and "has shape (3,)" in data["error"]["message"]
