"""Models by folder and by Hub id, the latter with the real client against a local server (A8, A9).

Each user of the client is a process of its own, as in real life.
"""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hub_server import Hub, environment, serving
from test_artifact import Trap

from metad2a.errors import ArtifactError
from metad2a.model.artifact import FILES, Artifact, load_artifact, save_artifact
from metad2a.model.hub import resolve

REPO = "someone/flowers-model"
WEIGHTS = "model.safetensors"
CLIENT = """
import sys
from metad2a.errors import MetaD2AError
from metad2a.model.hub import resolve
try:
    print(resolve(sys.argv[1], anew=len(sys.argv) > 2))
except MetaD2AError as error:
    sys.exit(f"{type(error).__name__}: {error}")
"""
WAYS_OUT = ("model='path/to/folder'", "model=None", f"hf download {REPO}")


def model_files(folder: Path, width: int) -> dict[str, bytes]:
    weights = {"w": torch.full((width,), 0.5)}
    save_artifact(folder, Artifact({"width": width}, weights, "# Card", {}))
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(REPO)
    hub.branches["v1"] = hub.commit(model_files(tmp_path / "old", 3))
    trap = pickle.dumps(Trap(tmp_path / "opened"))
    hub.commit(
        model_files(tmp_path / "new", 4000)
        | {
            "pytorch_model.bin": trap,
            "model.pkl": trap,
            ".gitattributes": b"",
            "deep/config.json": b"{}",
        }
    )
    with serving(hub):
        yield hub
    assert not (tmp_path / "opened").exists(), "A5: a pickle was opened"


def client(hub: Hub, home: Path, *arguments: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CLIENT, *arguments],
        env=environment(hub, home, **settings),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def folder_of(process: subprocess.Popen[str]) -> Path:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return Path(out.strip())


def error_of(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and not out, (process.returncode, out, err)
    assert "Traceback" not in err
    return err


def width_of(folder: Path) -> int:
    return load_artifact(folder).config["width"]


def test_a8_first_download_then_cache_then_offline(hub: Hub, tmp_path: Path) -> None:
    first = folder_of(client(hub, tmp_path / "home", REPO))
    assert width_of(first) == 4000
    # A5: the pickles and the other files of the repository were not even asked for.
    assert sorted(hub.downloads()) == sorted(FILES)
    assert sorted(str(p.relative_to(first)) for p in first.rglob("*")) == sorted(FILES)

    assert folder_of(client(hub, tmp_path / "home", REPO)) == first
    assert len(hub.downloads()) == len(FILES), "the second time comes from the cache"

    seen = len(hub.requests)
    assert folder_of(client(hub, tmp_path / "home", REPO, HF_HUB_OFFLINE="1")) == first
    assert len(hub.requests) == seen
    hub.endpoint = "http://127.0.0.1:9"  # nothing listens on the discard port
    assert folder_of(client(hub, tmp_path / "home", REPO)) == first


@pytest.mark.slow
def test_a8_pinned_revisions(hub: Hub, tmp_path: Path) -> None:
    hub.branches["feature/small"] = hub.branches["v1"]
    names = ["v1", hub.branches["v1"], "feature/small"]
    folders = {folder_of(client(hub, tmp_path / "home", f"{REPO}@{name}")) for name in names}
    assert [width_of(folder) for folder in folders] == [3]


@pytest.mark.slow
def test_a8_what_the_hub_does_not_give(hub: Hub, tmp_path: Path) -> None:
    assert "no revision 'v9'" in error_of(client(hub, tmp_path, f"{REPO}@v9"))
    assert "no model 'someone/else'" in error_of(client(hub, tmp_path, "someone/else"))
    hub.gated = True
    message = error_of(client(hub, tmp_path, REPO))
    assert "gated" in message and "HF_TOKEN" in message
    assert hub.downloads() == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["offline", "no network"])
def test_a8_without_a_cache_the_message_lists_three_ways(
    hub: Hub, tmp_path: Path, way: str
) -> None:
    settings = (
        {"HF_HUB_OFFLINE": "1"} if way == "offline" else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    )
    message = error_of(client(hub, tmp_path, f"{REPO}@v1", **settings))
    assert hub.requests == []
    assert all(words in message for words in (*WAYS_OUT, "--revision v1"))


@pytest.mark.slow
def test_a8_a_download_cut_half_way_is_made_good(hub: Hub, tmp_path: Path) -> None:
    hub.cut[WEIGHTS] = 1
    first = client(hub, tmp_path, REPO)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0 or "Try again" in err, err  # old clients leave that to the user
    assert width_of(folder_of(client(hub, tmp_path, REPO))) == 4000
    assert hub.cut[WEIGHTS] == 0 and hub.downloads().count(WEIGHTS) == 2


@pytest.mark.slow
def test_a8_a_download_that_stays_cut_leaves_no_broken_file(hub: Hub, tmp_path: Path) -> None:
    hub.short.add(WEIGHTS)
    message = error_of(client(hub, tmp_path / "home", REPO))
    assert "Cannot download" in message and "Try again" in message
    left = [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert WEIGHTS not in left
    # Nor does the cache pass for whole where the Hub cannot be reached.
    message = error_of(client(hub, tmp_path / "home", REPO, HF_HUB_OFFLINE="1"))
    assert all(words in message for words in WAYS_OUT)
    hub.short.clear()
    assert width_of(folder_of(client(hub, tmp_path / "home", REPO))) == 4000


@pytest.mark.slow
def test_a8_five_processes_download_at_once(hub: Hub, tmp_path: Path) -> None:
    processes = [client(hub, tmp_path, REPO) for _ in range(5)]
    folders = {folder_of(process) for process in processes}
    assert [width_of(folder) for folder in folders] == [4000]


@pytest.mark.slow
def test_a6_a_damaged_copy_is_downloaded_again_on_demand(hub: Hub, tmp_path: Path) -> None:
    first = folder_of(client(hub, tmp_path, REPO))
    blob = (first / WEIGHTS).resolve()
    blob.write_bytes(blob.read_bytes()[:-4] + b"\0\0\0\0")
    assert folder_of(client(hub, tmp_path, REPO)) == first
    with pytest.raises(ArtifactError, match=r"SHA-256.*\n.*`metad2a models pull`"):
        load_artifact(first)
    assert width_of(folder_of(client(hub, tmp_path, REPO, "anew"))) == 4000


@pytest.mark.slow
def test_what_is_no_whole_model_of_ours(hub: Hub, tmp_path: Path) -> None:
    newest = hub.files
    files = dict(newest)
    newest["config.json"] = b'{"architectures": ["BertModel"], "hidden_size": 768}'
    message = error_of(client(hub, tmp_path / "1", REPO))
    assert "InputError: " in message and "another library" in message
    assert hub.downloads() == ["config.json"], "weights may be gigabytes"
    newest.update(files)
    del newest["golden.json"]
    assert "golden.json is missing" in error_of(client(hub, tmp_path / "2", REPO))
    newest.clear()
    newest[".gitattributes"] = b""
    assert "config.json, model.safetensors" in error_of(client(hub, tmp_path / "3", REPO))


def test_local_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")
    assert resolve(tmp_path / "org") == tmp_path / "org"
    (tmp_path / "link").symlink_to(tmp_path / "org", target_is_directory=True)
    assert resolve("link") == Path("link"), "A9: a folder may be a link"


def test_none_is_the_model_of_the_package() -> None:
    assert resolve(None).parts[-3:] == ("metad2a", "assets", "model")


@pytest.mark.parametrize(
    "model",
    [
        "../../x",
        "file:///etc",
        "https://huggingface.co/org/name",
        "org",
        "org/name/deep",
        "",
        "org/name@",
        "org/name@../../refs",
        "org/name@/etc",
        "org/name@a/..",
        "/nowhere/at/all",
        "org/na me",
        "org/name\n",
        "--x/y",
        "org/a..b",
        Path("org/name"),
        "a\0b",
        "x" * 5000,
        17,
        True,
        b"org/name",
        ["org/name"],
    ],
    ids=lambda model: str(model)[:30],
)
def test_a9_what_is_neither_folder_nor_id(model: object) -> None:
    with pytest.raises(ArtifactError, match=r"neither a folder nor a Hub id|is not a Hub id") as e:
        resolve(model)  # type: ignore[arg-type]
    assert len(str(e.value)) < 600


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="neither a folder nor a Hub id"):
        resolve(tmp_path / "model.safetensors")
