"""Pushing a model and using it by name and revision, with the real client over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import TOKEN, Hub, commands, environment, serving

from metad2a import suggest
from metad2a.errors import ArtifactError, InputError
from metad2a.model.artifact import FILES, KNOWN
from metad2a.model.hub import push, resolve
from metad2a.model.metad2a import packaged

REPO = "someone/flowers-model"
USER = """
import json, sys
from metad2a import MetaD2A, suggest
repo, token = sys.argv[1:]
model = MetaD2A.from_pretrained()
first = model.push_to_hub(repo, private=True, token=token, message="The first")
again = model.push_to_hub(repo, token=token, revision="next/small")
model.card += "Edited."
branch = model.push_to_hub(repo, token=token, revision="next/small")
def asked(which):
    return [one.to_dict() for one in suggest("sklearn:digits", k=3, model=which)]
print(json.dumps({
    "pinned": [first, again, branch], "answers": [asked(first), asked(repo)],
    "cards": [MetaD2A.from_pretrained(f"{repo}@{name}").card[-7:]
              for name in ("main", "next/small", branch.partition("@")[2])]}))
"""
PUSH = """
import sys
from metad2a.errors import ArtifactError
from metad2a.model.hub import push
try:
    push(*sys.argv[1:])
except ArtifactError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(REPO)) as hub:
        yield hub


def answer_of(k: int) -> list[dict]:
    """Return what the packaged model suggests."""
    found = [one.to_dict() for one in suggest("sklearn:digits", k=k, model=packaged())]
    return json.loads(json.dumps(found))


@pytest.mark.slow
def test_what_is_pushed_is_what_loads(hub: Hub, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", USER, REPO, TOKEN],
        text=True,
        timeout=120,
        env=environment(hub, tmp_path),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    files = {name: (resolve(None) / name).read_bytes() for name in FILES}
    known = {KNOWN} & {path.name for path in resolve(None).iterdir()}

    assert hub.created["name"] == "flowers-model" and hub.private
    assert set(hub.files) == {".gitattributes", *FILES, *known}
    assert {name: hub.files[name] for name in FILES} == files, "the same on disk and on the Hub"
    assert hub.cards[0] == packaged().card, "the client had its head checked"
    assert hub.messages[0] == "The first"
    assert len(hub.uploads) == 1, "the weights went as a large file"

    first, again, branch = (name.partition("@")[2] for name in found["pinned"])
    assert hub.branches == {"main": first, "next/small": branch}
    assert hub.commits[again].keys() == hub.commits[first].keys()
    assert hub.commits[branch]["README.md"] == files["README.md"] + b"Edited."
    assert found["answers"] == [answer_of(3)] * 2
    assert [card == "Edited." for card in found["cards"]] == [False, True, True]


@pytest.mark.slow
def test_the_command_line_end_to_end(hub: Hub, tmp_path: Path) -> None:
    folder = str(resolve(None))
    settings = {"HF_TOKEN": TOKEN}
    pushed, pulled, listed, verified, suggested = answers = commands(
        hub,
        tmp_path / "home",
        ["models", "push", folder, REPO, "--revision", "v1"],
        ["models", "pull", f"{REPO}@v1"],
        ["models", "list"],
        ["models", "verify", f"{REPO}@v1"],
        ["suggest", "sklearn:digits", "--k", "2", "--model", f"{REPO}@v1"],
        **settings,
    )
    assert [code for code, _ in answers] == [0] * 5
    assert not hub.private
    assert pushed[1] == {"model": f"{REPO}@{hub.branches['v1']}"}
    assert Path(pulled[1]["folder"]).name == hub.branches["v1"]
    assert [(one["model"], one["refs"]) for one in listed[1]["models"]] == [
        (None, []),
        (f"{REPO}@{hub.branches['v1']}", ["v1"]),
    ]
    assert verified[1]["ok"] is True
    assert suggested[1]["candidates"] == answer_of(2)


@pytest.mark.slow
def test_a_hub_that_refuses_or_may_not_be_asked(hub: Hub, tmp_path: Path) -> None:
    for settings, part in (
        ({}, "HTTP 401"),
        ({"HF_TOKEN": "hf_secret"}, "HF_TOKEN"),
        ({"HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE is set"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", PUSH, str(resolve(None)), REPO],
            text=True,
            timeout=60,
            env=environment(hub, tmp_path, **settings),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert part in done.stderr and "hf_secret" not in done.stderr
    assert hub.commits == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"repo_id": "flowers"}, "no place for a model"),
        ({"repo_id": "a/b/c"}, "no place for a model"),
        ({"repo_id": "someone/x@v1"}, "no place for a model"),
        ({"revision": "../main"}, "no place for a model"),
        ({"revision": ""}, "no place for a model"),
        ({"token": "hf_x\nHost: elsewhere"}, "no token has"),
        ({"token": ""}, "no token has"),
        ({"message": "  "}, "message of the commit is empty"),
    ],
    ids=str,
)
def test_arguments_of_a_push_that_are_none(arguments, message):
    with pytest.raises(InputError, match=message) as caught:
        packaged().push_to_hub(**{"repo_id": REPO, **arguments})
    assert "hf_x" not in str(caught.value)


def test_a9_a_link_out_of_the_folder_is_not_uploaded(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("{}")
    packaged().save_pretrained(tmp_path / "model")
    for name in ("README.md", "golden.json"):
        (tmp_path / "model" / name).unlink()
        (tmp_path / "model" / name).symlink_to(secret)
        with pytest.raises(InputError, match=f"{name} is a link"):
            push(tmp_path / "model", REPO)
        (tmp_path / "model" / name).unlink()
        (tmp_path / "model" / name).write_text("{}")


def test_nothing_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that fails in a way that no client names, its words quoting the token."""
    import huggingface_hub

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("Illegal header value b'Bearer hf_ secret'")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", fail)
    with pytest.raises(ArtifactError, match=r"Cannot push.*RuntimeError.*Bearer \.\.\.") as caught:
        packaged().push_to_hub(REPO)
    assert "secret" not in str(caught.value)
