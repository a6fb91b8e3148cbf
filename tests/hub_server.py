"""A server that speaks to ``huggingface_hub`` as the Hub does: reading, and committing.

The client reads its environment when it is imported, so each user of it is a process of its own,
as in real life: :func:`environment` gives it, :func:`commands` runs command lines in one process.
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
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

TOKEN = "hf_test"
COMMANDS = """
import contextlib, io, json, sys
from metad2a.cli import main
for words in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        code = main([*words, "--json"])
    print(json.dumps([code, json.loads(printed.getvalue())]))
"""


@dataclass
class Hub:
    """One repository: its commits in order, its branches, and what was asked for."""

    repo: str
    kind: str = "model"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    created: dict[str, object] = field(default_factory=dict)
    """What the repository was made with; an empty one is not there before."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    cards: list[str] = field(default_factory=list)
    """Cards whose head was to be validated."""
    uploads: dict[str, bytes] = field(default_factory=dict)
    """Large files by SHA-256, uploaded apart."""
    gated: bool = False
    cut: Counter[str] = field(default_factory=Counter)
    """File to how many of its next downloads stop half-way."""
    short: set[str] = field(default_factory=set)
    """Files of which a download that looks whole brings half."""
    endpoint: str = ""

    @property
    def files(self) -> dict[str, bytes]:
        """The newest commit of the main branch."""
        return self.commits[self.branches["main"]]

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.endpoint}/{'' if self.kind == 'model' else f'{self.kind}s/'}{self.repo}"

    @property
    def private(self) -> bool:
        """Whether it was made private, as older and newer clients say it."""
        return self.created.get("private") is True or self.created.get("visibility") == "private"

    def downloads(self) -> list[str]:
        """Files in the order in which they were downloaded."""
        return [
            path.rsplit("/", 1)[1]
            for verb, path in self.requests
            if verb == "GET" and "/resolve/" in path
        ]

    def commit(self, files: dict[str, bytes], branch: str = "main") -> str:
        """Add a commit to a branch; return its name."""
        name = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name


class Handler(BaseHTTPRequestHandler):
    """Answers for the class attribute ``hub``."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""

    def answer(self, status: int, body: object = b"", sent: float = 1.0, **headers: str) -> None:
        """Send ``body``, or the first part of it and a closed connection."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        if not isinstance(body, bytes):
            self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: int(len(content) * sent)])
        self.close_connection = sent < 1

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def path_asked(self) -> str:
        path = urlsplit(self.path).path
        self.hub.requests.append((self.command, path))
        return path

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.hub, self.path_asked()
        info = re.fullmatch(rf"/api/{hub.kind}s/{hub.repo}(?:/(revision|tree)/([^/]+))?", path)
        file = re.fullmatch(rf"{urlsplit(hub.url).path}/resolve/([^/]+)/(.+)", path)
        asked = unquote((info[2] or "main") if info else file[1] if file else "")
        if not hub.commits or not asked:
            self.answer(404, {}, X_Error_Code="RepoNotFound")
        elif hub.gated:
            self.answer(403, {}, X_Error_Code="GatedRepo")
        elif (commit := hub.branches.get(asked, asked)) not in hub.commits:
            self.answer(404, {}, X_Error_Code="RevisionNotFound")
        elif file:
            self.send_file(commit, file[2])
        else:
            files = hub.commits[commit]
            self.answer(
                200,
                [
                    {
                        "type": "file",
                        "path": name,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for name, content in files.items()
                ]
                if info and info[1] == "tree"
                else {
                    "id": hub.repo,
                    "sha": commit,
                    "private": False,
                    "siblings": [{"rfilename": name} for name in files],
                },
            )

    def send_file(self, commit: str, name: str) -> None:
        content = self.hub.commits[commit].get(name)
        if content is None:
            self.answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        headers = {
            "ETag": f'"{hashlib.sha1(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        cut = self.command == "GET" and self.hub.cut[name] > 0
        self.hub.cut[name] -= cut
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(span[1]) if span else 0
        if span:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        end = len(content) // 2 if self.command == "GET" and name in self.hub.short else None
        self.answer(206 if span else 200, content[start:end], 0.5 if cut else 1.0, **headers)

    def do_PUT(self) -> None:
        content, oid = self.body(), self.path_asked().rsplit("/", 1)[1]
        self.hub.uploads[hashlib.sha256(content).hexdigest()] = content
        self.answer(200 if oid in self.hub.uploads else 400)

    def do_POST(self) -> None:
        hub, path, body = self.hub, self.path_asked(), self.body()
        api = rf"/api/{hub.kind}s/{hub.repo}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid credentials"})
        elif path == "/api/repos/create":
            self.answer(409 if hub.commits else 200, {"url": hub.url, "error": "exists"})
            if not hub.commits:
                hub.created = json.loads(body)
                hub.commit({".gitattributes": b""})
        elif path == "/api/validate-yaml":
            hub.cards.append(json.loads(body)["content"])
            self.answer(200, {"errors": [], "warnings": []})
        elif branch := re.fullmatch(f"{api}/branch/(.+)", path):
            self.answer(409 if unquote(branch[1]) in hub.branches else 200, {"error": "exists"})
            hub.branches.setdefault(unquote(branch[1]), hub.branches["main"])
        elif re.fullmatch(f"{api}/preupload/.+", path):
            self.answer(
                200,
                {
                    "files": [
                        {
                            "path": file["path"],
                            "shouldIgnore": False,
                            "uploadMode": "lfs"
                            if file["path"].endswith(".safetensors")
                            else "regular",
                        }
                        for file in json.loads(body)["files"]
                    ]
                },
            )
        elif path == f"/{hub.repo}.git/info/lfs/objects/batch":
            self.answer(
                200,
                {
                    "transfer": "basic",
                    "objects": [
                        one
                        | {"actions": {"upload": {"href": f"{hub.endpoint}/upload/{one['oid']}"}}}
                        for one in json.loads(body)["objects"]
                    ],
                },
            )
        elif branch := re.fullmatch(f"{api}/commit/(.+)", path):
            lines = [json.loads(line) for line in body.splitlines()]
            commit = self.commit(lines, unquote(branch[1]))
            self.answer(200, {"commitOid": commit, "commitUrl": f"{hub.url}/commit/{commit}"})
        else:
            self.answer(404, {}, X_Error_Code="RepoNotFound")

    def commit(self, lines: list[dict], branch: str) -> str:
        files = dict(self.hub.commits[self.hub.branches[branch]])
        for key, value in ((line["key"], line["value"]) for line in lines):
            if key == "header":
                self.hub.messages.append(value["summary"])
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            else:
                files[value["path"]] = self.hub.uploads[value["oid"]]
        return self.hub.commit(files, branch)


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve a hub on a free port of this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": hub}))
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


def environment(hub: Hub, home: Path, **settings: str) -> dict[str, str]:
    """Return the environment of a process whose client speaks to ``hub`` and caches in ``home``."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(home),
        "NO_PROXY": "127.0.0.1",
        "HF_HUB_DISABLE_XET": "1",
        **settings,
    }


def commands(hub: Hub, home: Path, *lines: list[str], **settings: str) -> list[tuple[int, dict]]:
    """Run command lines in one process; return the exit code and the JSON of each."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(lines)],
        text=True,
        capture_output=True,
        env=environment(hub, home, **settings),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]
