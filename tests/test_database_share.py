"""Push and pull with the real client against a local server that speaks as the Hub does.

The client reads its environment when it is imported, so each user of it is a process of its own.
"""

from __future__ import annotations

import base64
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

from database import Store
from database._rows import TABLES, Sources, rows
from database.importers import import_published
from database.share import FILES, pull, push
from metad2a.errors import InputError

REPO = "someone/cells"
TOKEN = "hf_test"
CLIENT = """
import json
import sys
from metad2a.cli import _db_exchange
from metad2a.cli.common import Parser
from metad2a.errors import MetaD2AError
parser = Parser()
_db_exchange.configure(parser.add_subparsers(dest="action"))
for words in " ".join(sys.argv[1:]).split(" then "):
    args = parser.parse_args([*words.split(), "--json"])
    try:
        _db_exchange.RUN[args.action](args)
    except MetaD2AError as error:
        print(json.dumps({"error": str(error)}))
"""


@dataclass
class Hub:
    """One repository of datasets: its commits in order, and what was asked for."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    created: dict[str, object] = field(default_factory=dict)
    cards: list[str] = field(default_factory=list)
    endpoint: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[list(self.commits)[-1]]


def make_handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def answer(self, status: int, body: object, **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            if not isinstance(body, bytes):
                self.send_header("Content-Type", "application/json")
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def do_POST(self) -> None:
            path, body = unquote(urlsplit(self.path).path), self.body()
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                self.answer(401, {"error": "Invalid credentials"})
            elif path == "/api/repos/create":
                asked = json.loads(body)
                url = f"{hub.endpoint}/datasets/{REPO}"
                self.answer(409 if hub.created else 200, {"url": url, "error": "exists"})
                hub.created = hub.created or asked
            elif path == "/api/validate-yaml":
                hub.cards.append(json.loads(body)["content"])
                self.answer(200, {"errors": [], "warnings": []})
            elif path == f"/api/datasets/{REPO}/preupload/main":
                self.answer(200, {"files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]]})
            elif path == f"/api/datasets/{REPO}/commit/main":
                lines = [json.loads(line) for line in body.splitlines()]
                new = {line["value"]["path"]: base64.b64decode(line["value"]["content"])
                       for line in lines if line["key"] == "file"}
                commit = hashlib.sha1(body).hexdigest()
                hub.commits[commit] = {**(hub.files if hub.commits else {}), **new}
                url = f"{hub.endpoint}/datasets/{REPO}/commit/{commit}"
                self.answer(200, {"commitOid": commit, "commitUrl": url})
            else:
                self.answer(404, {}, X_Error_Code="RepoNotFound")

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            info = re.fullmatch(rf"/api/datasets/{REPO}(?:/(revision|tree)/([^/]+))?", path)
            file = re.fullmatch(rf"/datasets/{REPO}/resolve/([^/]+)/(.+)", path)
            if not hub.commits or (info is None and file is None):
                self.answer(404, {}, X_Error_Code="RepoNotFound")
                return
            revision = (info[2] or "main") if info else file[1]  # type: ignore[index]
            commit = list(hub.commits)[-1] if revision == "main" else revision
            if commit not in hub.commits:
                self.answer(404, {}, X_Error_Code="RevisionNotFound")
                return
            files = hub.commits[commit]
            if file:
                content = files[file[2]]
                self.answer(200, content, X_Repo_Commit=commit,
                            ETag=f'"{hashlib.sha1(content).hexdigest()}"')
            elif info and info[1] == "tree":
                self.answer(200, [
                    {"type": "file", "path": name, "size": len(content),
                     "oid": hashlib.sha1(content).hexdigest()} for name, content in files.items()])
            else:
                self.answer(200, {"id": REPO, "sha": commit, "private": False,
                                  "siblings": [{"rfilename": name} for name in files]})

    return Handler


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(hub))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def client(hub: Hub, home: Path, *commands: str, **settings: str) -> list[dict[str, object]]:
    """Run commands in a process of their own; return their answers and errors."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    kept |= {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1",
             "HF_TOKEN": TOKEN, **settings}
    done = subprocess.run([sys.executable, "-c", CLIENT, " then ".join(commands)], env=kept,
                          text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with four evaluations from a published table."""
    table = tmp_path / "table.csv"
    table.write_text("idx,arch,c10_val12,c10_test12\n" + "".join(
        f"{i},|{op}~0|+|none~0|none~1|+|none~0|none~1|{op}~2|,{50 + i},{60 + i}\n"
        for i, op in enumerate(("nor_conv_3x3", "avg_pool_3x3"))))
    with contextlib.closing(Store(tmp_path / "store.sqlite")) as store:
        import_published(store, "nasbench201", table)
    return tmp_path / "store.sqlite"


def everything(path: Path) -> dict[str, list[dict[str, object]]]:
    with Store(path, create=False) as store:
        return {table: [dict(row) for row in rows(store, table, Sources())] for table in TABLES}


def test_what_is_pushed_can_be_pulled_by_name_and_revision(hub, database, tmp_path):
    copy, old = tmp_path / "copy.sqlite", tmp_path / "old.sqlite"
    pushed, again, pulled, twice = client(
        hub, tmp_path / "home", f"push {database} {REPO} --private", f"push {database} {REPO}",
        f"pull {copy} {REPO}", f"pull {copy} {REPO}")
    assert pushed["rows"] == again["rows"] == {
        "evaluations": 4, "tasks": 1, "latencies": 0, "distances": 0}
    assert hub.created["type"] == "dataset" and hub.created["name"] == "cells"
    assert pulled["evaluations"] == {"new": 4, "known": 0, "conflicts": []}
    assert twice["evaluations"] == {"new": 0, "known": 4, "conflicts": []}
    assert everything(copy) == everything(database)
    assert set(hub.files) == {"README.md", *FILES.values()}

    # A push without the source empties the newest revision; the first one is still there.
    first = next(iter(hub.commits))
    empty, newest, pinned = client(
        hub, tmp_path / "home", f"push {database} {REPO} --exclude-source nasbench201",
        f"pull {tmp_path / 'none.sqlite'} {REPO}", f"pull {old} {REPO}@{first}")
    assert empty["rows"]["evaluations"] == newest["evaluations"]["new"] == 0
    assert pinned["evaluations"]["new"] == 4
    assert everything(old) == everything(database)


def test_the_page_shows_licences_and_a_damaged_file_is_refused(hub, database, tmp_path):
    client(hub, tmp_path / "home", f"push {database} {REPO}")
    card = hub.files["README.md"].decode()
    assert hub.cards == [card]  # the client had its head checked
    assert "config_name: evaluations\n  data_files: data/evaluations.parquet" in card
    assert "config_name: latencies" not in card  # an empty table cannot be viewed
    assert "| nasbench201 | MIT | https://github.com/D-X-Y/NAS-Bench-201 |" in card
    assert "| evaluations | 4 |" in card

    content = hub.files[FILES["evaluations"]]
    hub.files[FILES["evaluations"]] = content[: len(content) // 2]
    copy = tmp_path / "copy.sqlite"
    (answer,) = client(hub, tmp_path / "home", f"pull {copy} {REPO}")
    assert "cut off" in answer["error"]
    assert everything(copy) == {table: [] for table in TABLES}


def test_what_the_hub_refuses_is_explained(hub, database, tmp_path):
    home, copy = tmp_path / "home", tmp_path / "copy.sqlite"
    missing, stranger = client(hub, home, f"pull {copy} {REPO}", f"push {database} {REPO}",
                               HF_TOKEN="hf_wrong")
    assert "no such dataset" in missing["error"]
    assert f"Cannot push to the dataset '{REPO}'" in stranger["error"]
    assert "HF_TOKEN" in stranger["error"]
    assert hub.commits == {}
    (offline,) = client(hub, home, f"pull {copy} {REPO}", HF_HUB_OFFLINE="1")
    assert "not in the local cache" in offline["error"]
    assert "metad2a db import" in offline["error"]
    hub.commits["a" * 40] = {"README.md": b"# Another dataset"}
    other, revision = client(hub, home, f"pull {copy} {REPO}", f"pull {copy} {REPO}@v9")
    assert "holds no database" in other["error"]
    assert "no such revision" in revision["error"]
    assert everything(copy) == {table: [] for table in TABLES}


@pytest.mark.parametrize("repo", [
    "cells", "../../x", "someone/cells/deep", "https://huggingface.co/someone/cells", "",
    "someone/cells@../../refs", "someone/ce lls",
])
def test_what_is_no_id_is_refused(database, repo):
    with Store(database) as store:
        for action in (push, pull):
            with pytest.raises(InputError, match="is not the id of a dataset"):
                action(store, repo)


def test_a_push_names_no_revision(database):
    with Store(database) as store, pytest.raises(InputError, match="a push makes a new one"):
        push(store, f"{REPO}@v1")
