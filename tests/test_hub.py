"""Models by folder and by Hub id, the latter with the real client against a local server.

The client reads ``HF_ENDPOINT``, ``HF_HOME`` and ``HF_HUB_OFFLINE`` when it is imported, so each
user of it is a process of its own, as in real life.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch

from metad2a.errors import ArtifactError
from metad2a.model.artifact import FILES, Artifact, load_artifact, save_artifact
from metad2a.model.hub import resolve

REPO = "someone/flowers-model"
OLD, NEW = "a" * 40, "b" * 40
CLIENT = """
import sys
from metad2a.errors import ArtifactError
from metad2a.model.hub import resolve
try:
    print(resolve(sys.argv[1]))
except ArtifactError as error:
    sys.exit(str(error))
"""


@dataclass
class Hub:
    """A small Hub: one repository with several commits, and a log of what was asked for."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    requests: list[tuple[str, str]] = field(default_factory=list)
    gated: bool = False
    cut: set[str] = field(default_factory=set)
    """Files whose next full download stops half-way."""
    endpoint: str = ""

    def downloads(self) -> list[str]:
        return [path.rsplit("/", 1)[1] for verb, path in self.requests
                if verb == "GET" and "/resolve/" in path]


def make_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            info = re.fullmatch(rf"/api/models/{REPO}(?:/(revision|tree)/([^/]+))?", path)
            file = re.fullmatch(rf"/{REPO}/resolve/([^/]+)/(.+)", path)
            if info is None and file is None:
                self.answer(404, b"{}", X_Error_Code="RepoNotFound")
                return
            if hub.gated:
                self.answer(403, b"{}", X_Error_Code="GatedRepo")
                return
            revision = (info[2] or "main") if info else file[1]  # type: ignore[index]
            commit = hub.branches.get(revision, revision)
            if commit not in hub.commits:
                self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
            elif info:
                self.describe(commit, tree=info[1] == "tree")
            else:
                self.send_file(commit, file[2])  # type: ignore[index]

        def describe(self, commit: str, tree: bool) -> None:
            files = hub.commits[commit]
            entries = [{"type": "file", "path": name, "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest()}
                       for name, content in files.items()]
            siblings = [{"rfilename": name} for name in files]
            about = {"id": REPO, "sha": commit, "private": False, "siblings": siblings}
            body = json.dumps(entries if tree else about).encode()
            self.answer(200, body, Content_Type="application/json")

        def send_file(self, commit: str, name: str) -> None:
            content = hub.commits[commit][name]
            headers = {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit,
                       "Accept-Ranges": "bytes"}
            span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if span:
                start = int(span[1])
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                self.answer(206, content[start:], **headers)
            elif self.command == "GET" and name in hub.cut:
                hub.cut.remove(name)
                self.send_response(200)
                for key, value in headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            else:
                self.answer(200, content, **headers)

    return Handler


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def model_files(folder: Path, width: int) -> dict[str, bytes]:
    weights = {"w": torch.full((width,), 0.5)}
    save_artifact(folder, Artifact({"width": width}, weights, "# Card", {}))
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    trap = b"cos\nsystem\n(S'touch opened'\ntR."
    extra = {"pytorch_model.bin": trap, ".gitattributes": b"", "deep/config.json": b"{}"}
    new = model_files(tmp_path / "new", 4) | extra
    commits = {OLD: model_files(tmp_path / "old", 3), NEW: new}
    hub = Hub(commits, {"main": NEW, "v1": OLD})
    with serving(hub):
        yield hub


def client(
    hub: Hub, home: Path, model: str, offline: bool = False
) -> subprocess.Popen[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1"}
    if offline:
        settings["HF_HUB_OFFLINE"] = "1"
    return subprocess.Popen([sys.executable, "-c", CLIENT, model], env=kept | settings, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def folder_of(process: subprocess.Popen[str]) -> Path:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return Path(out.strip())


def error_of(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1 and not out, (process.returncode, out, err)
    assert "Traceback" not in err
    return err


def test_download_then_cache_then_offline(hub: Hub, tmp_path: Path) -> None:
    first = folder_of(client(hub, tmp_path / "home", REPO))
    assert load_artifact(first).config == {"width": 4}
    # The pickle and the other files of the repository were not even asked for.
    assert sorted(hub.downloads()) == sorted(FILES)
    assert sorted(str(p.relative_to(first)) for p in first.rglob("*")) == sorted(FILES)

    assert folder_of(client(hub, tmp_path / "home", REPO)) == first
    assert len(hub.downloads()) == len(FILES), "the second time comes from the cache"

    seen = len(hub.requests)
    assert folder_of(client(hub, tmp_path / "home", REPO, offline=True)) == first
    assert len(hub.requests) == seen


def test_suggest_with_a_model_from_the_hub(hub: Hub, tmp_path: Path) -> None:
    packaged = resolve(None)
    hub.commits[NEW] = {name: (packaged / name).read_bytes() for name in FILES}
    command = [sys.executable, "-m", "metad2a", "suggest", "sklearn:digits", "--json"]
    settings = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    answers = [
        json.loads(subprocess.run([*command, *model], env=os.environ | settings, text=True,
                                  capture_output=True, check=True, timeout=120).stdout)
        for model in (["--model", f"{REPO}@{NEW}"], [])
    ]
    assert answers[0]["candidates"] == answers[1]["candidates"]
    assert sorted(hub.downloads()) == sorted(FILES)


def test_cached_model_outlives_the_server(hub: Hub, tmp_path: Path) -> None:
    first = folder_of(client(hub, tmp_path / "home", REPO))
    hub.endpoint = "http://127.0.0.1:9"  # nothing listens on the discard port
    assert folder_of(client(hub, tmp_path / "home", REPO)) == first


def test_pinned_revisions(hub: Hub, tmp_path: Path) -> None:
    by_tag = folder_of(client(hub, tmp_path / "home", f"{REPO}@v1"))
    by_commit = folder_of(client(hub, tmp_path / "home", f"{REPO}@{OLD}"))
    assert by_tag == by_commit
    assert load_artifact(by_tag).config == {"width": 3}


def test_missing_revision(hub: Hub, tmp_path: Path) -> None:
    assert "no revision 'v9'" in error_of(client(hub, tmp_path, f"{REPO}@v9"))


def test_missing_and_gated_repositories(hub: Hub, tmp_path: Path) -> None:
    assert "no model 'someone/else'" in error_of(client(hub, tmp_path, "someone/else"))
    hub.gated = True
    message = error_of(client(hub, tmp_path, REPO))
    assert "gated" in message and "HF_TOKEN" in message


def test_offline_without_cache_lists_three_ways(hub: Hub, tmp_path: Path) -> None:
    message = error_of(client(hub, tmp_path, f"{REPO}@v1", offline=True))
    assert hub.requests == []
    for way in ("model='path/to/folder'", "model=None", f"hf download {REPO} --revision v1"):
        assert way in message


def test_download_cut_half_way_is_resumed(hub: Hub, tmp_path: Path) -> None:
    hub.cut.add("model.safetensors")
    assert load_artifact(folder_of(client(hub, tmp_path, REPO))).config == {"width": 4}
    assert hub.cut == set() and hub.downloads().count("model.safetensors") == 2


def test_processes_that_download_at_once(hub: Hub, tmp_path: Path) -> None:
    processes = [client(hub, tmp_path, REPO) for _ in range(3)]
    folders = {folder_of(process) for process in processes}
    assert len(folders) == 1
    assert load_artifact(folders.pop()).config == {"width": 4}


def test_repository_without_weights(hub: Hub, tmp_path: Path) -> None:
    del hub.commits[NEW]["model.safetensors"]
    folder = folder_of(client(hub, tmp_path, REPO))
    with pytest.raises(ArtifactError, match=r"model\.safetensors is missing"):
        load_artifact(folder)


def test_local_folders_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve("org/name") == Path("org/name")
    assert resolve(tmp_path / "org") == tmp_path / "org"
    (tmp_path / "link").symlink_to(tmp_path / "org", target_is_directory=True)
    assert resolve("link") == Path("link")


def test_none_is_the_model_of_the_package() -> None:
    assert resolve(None).parts[-3:] == ("metad2a", "assets", "model")


@pytest.mark.parametrize(
    "model",
    [
        "../../x", "file:///etc", "https://huggingface.co/org/name", "org", "org/name/deep", "",
        "org/name@", "org/name@../../refs", "org/name@/etc", "org/name@a/..", "/nowhere/at/all",
        "org/na me", "org/name\n", "--x/y", "org/a..b", Path("org/name"),
    ],
    ids=str,
)
def test_what_is_neither_folder_nor_id(model: str | Path) -> None:
    with pytest.raises(ArtifactError, match=r"neither a folder nor a Hub id|is not a Hub id"):
        resolve(model)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match="neither a folder nor a Hub id"):
        resolve(tmp_path / "model.safetensors")
