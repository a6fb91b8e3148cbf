"""The web cases W: too much, too many, gone in the middle, no room, and nothing left behind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import resource
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import page_watched
import pytest
from page_server import serving, write_zip
from starlette.formparsers import MultiPartException
from test_page_endpoints import FILE, until

from metad2a.page import arrival
from metad2a.page.values import SPACE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]
UPLOAD = "/gradio_api/upload"


class Server:
    """The page of a process of its own, as its visitors see it and from within."""

    def __init__(self, address: str, process: subprocess.Popen[str]) -> None:
        self.address, self.process = address.rstrip("/"), process

    def kept(self) -> dict[str, int]:
        """Return what the process keeps."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return dict(json.loads(next(self.process.stdout)))

    def files(self) -> int:
        return self.kept()["files"]

    def send(self, *contents: bytes) -> httpx.Response:
        """Upload files in one request."""
        named = [("files", (f"{i}.zip", content)) for i, content in enumerate(contents)]
        return httpx.post(self.address + UPLOAD, files=named, timeout=180)

    def ask(self, name: str, *data: Any, session: str | None = None) -> httpx.Response:
        """Put a question in the line, as a session of its own."""
        body = {"data": list(data), "session_hash": session or secrets.token_hex(6)}
        return httpx.post(f"{self.address}/gradio_api/call/{name}", json=body, timeout=180)

    def answer(self, name: str, asked: httpx.Response) -> str:
        """Wait for the answer to a question."""
        event = asked.json()["event_id"]
        return httpx.get(f"{self.address}/gradio_api/call/{name}/{event}", timeout=180).text

    def join(self, name: str, data: list[Any], session: str) -> str:
        """Put a question in the line as the page does; return where its session's answers come."""
        known = httpx.get(f"{self.address}/config", timeout=180).json()["dependencies"]
        number = next(one["id"] for one in known if one["api_name"] == name)
        body = {"data": data, "fn_index": number, "session_hash": session}
        httpx.post(
            f"{self.address}/gradio_api/queue/join", json=body, timeout=180
        ).raise_for_status()
        return f"/gradio_api/queue/data?session_hash={session}"

    def suggest(self, file: Any, session: str | None = None) -> str:
        return self.answer(
            "suggest", self.ask("suggest", file, "", 1, 0, 0, SPACE, session=session)
        )


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(script=page_watched.__file__) as (address, process):
        yield Server(address, process)


@pytest.fixture(scope="module")
def flowers(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("data") / "flowers.zip"
    return write_zip(path, {"daisy": 3, "tulip": 3}).read_bytes()


@pytest.mark.parametrize(
    ("contents", "status", "words"),
    [
        ([bytes(page_watched.UPLOAD_BYTES + 1)], 413, "maximum allowed size of 200000 bytes"),
        ([bytes(page_watched.UPLOAD_BYTES // 2)] * 3, 413, "All files together"),
        ([b"x"] * 1_001, 400, "Too many files. Maximum number of files is 1000"),
    ],
    ids=["over the limit", "over the limit together", "1,001 files"],
)
def test_w_too_much_is_refused_and_nothing_of_it_stays(
    server: Server, contents: list[bytes], status: int, words: str
) -> None:
    before = server.files()
    refused = server.send(*contents)
    assert (refused.status_code, words in refused.text) == (status, True), refused.text
    assert server.files() == before


@pytest.mark.parametrize("question", ["", "?upload_id=x"])
def test_w_a_form_without_a_file_is_refused(server: Server, question: str) -> None:
    answer = httpx.post(server.address + UPLOAD + question, files={"files": (None, b"a text")})
    assert answer.status_code == 400 and "no file" in answer.text


def test_w_a_sender_gone_in_the_middle_leaves_nothing(server: Server, flowers: bytes) -> None:
    before = server.files()
    at = urlsplit(server.address)
    with socket.create_connection((at.hostname, at.port)) as connection:
        connection.sendall(
            f"POST {UPLOAD} HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: 100000\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\nContent-Disposition: "
            'form-data; name="files"; filename="a.zip"\r\n\r\n'.encode()
            + bytes(20_000)
        )
        until(lambda: server.files() == before + 1)
    until(lambda: server.files() == before)
    assert server.send(flowers).status_code == 200


def test_w_a_slow_sender_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def drip() -> dict[str, Any]:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def take() -> None:
        receive = arrival.Arrival(drip)
        while True:
            assert (await receive())["body"] == b"x"

    monkeypatch.setattr(arrival, "_SECONDS", 0.1)
    with pytest.raises(MultiPartException, match="The upload took longer"):
        asyncio.run(take())


@pytest.mark.parametrize("protocol", ["program", "page reloaded"])
def test_w_a_visitor_gone_in_the_middle_of_a_job_ends_it(server: Server, protocol: str) -> None:
    data = [None, "shapes", 1, 0, 0, 5, SPACE]
    if protocol == "program":
        event = server.ask("refine", *data).json()["event_id"]
        stream = f"/gradio_api/call/refine/{event}"
    else:
        stream = server.join("refine", data, "gone")
    with httpx.stream("GET", server.address + stream, timeout=180) as answers:
        next(line for line in answers.iter_lines() if "running" in line)
        assert server.kept()["child processes"] == 1
    until(lambda: server.kept()["child processes"] == 0)
    # The seat is free: the next one's job does not wait.
    assert '"done"' in server.answer(
        "check", server.ask("check", None, "shapes", 1, 0, 0, 0.1, SPACE)
    )


def test_w_fifty_sessions_at_once_are_answered_or_told_that_the_line_is_full(
    server: Server,
) -> None:
    with ThreadPoolExecutor(50) as pool:
        asked = list(
            pool.map(lambda _: server.ask("suggest", None, "shapes", 1, 0, 0, SPACE), range(50))
        )
        taken = [one for one in asked if one.status_code == 200]
        full = [one for one in asked if one.status_code == 503]
        assert taken and full and len(taken) + len(full) == 50
        assert all("full" in one.text for one in full)
        for text in pool.map(lambda one: server.answer("suggest", one), taken):
            assert "event: complete" in text


def test_w_the_same_question_twice_at_once_is_answered_twice(
    server: Server, flowers: bytes
) -> None:
    data = [{"path": server.send(flowers).json()[0], "meta": FILE}, "", 1, 0, 0, SPACE]
    with ThreadPoolExecutor(2) as pool:
        streams = set(pool.map(lambda _: server.join("suggest", data, "twice"), range(2)))
    answers = httpx.get(server.address + streams.pop(), timeout=180).text
    done = [line for line in answers.splitlines() if "process_completed" in line]
    assert len(done) == 2 and all('"success":true' in line for line in done)


def test_w_a_full_disk_is_told_in_words(server: Server, flowers: bytes) -> None:
    def limit(most: int) -> None:
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (most, hard))

    soft, hard = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    given = f"data:application/zip;base64,{base64.b64encode(flowers).decode()}"
    limit(1_000)
    try:
        refused = server.send(flowers)
        answer = server.suggest(given)
    finally:
        limit(soft)
    assert refused.status_code == 507 and "no room for the file" in refused.text
    assert "event: error" in answer and "no room for the file" in answer
    assert "event: complete" in server.suggest(given)


def test_w_no_address_is_opened_in_the_place_of_a_file(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        listening = [stack.enter_context(socket.create_server(("127.0.0.1", 0)))]
        port = listening[0].getsockname()[1]
        hosts = ["127.0.0.1", "localhost", "2130706433", "127.1"]
        with contextlib.suppress(OSError):
            listening.append(
                stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6))
            )
        for url in (f"http://{host}:{port}/x.zip" for host in [*hosts, "[::1]", "[::ffff:7f00:1]"]):
            for route in ("file", "proxy"):
                got = httpx.get(f"{server.address}/gradio_api/{route}={url}", timeout=180)
                assert 400 <= got.status_code < 500, (route, url, got.status_code)
            for file in (
                {"path": url, "meta": FILE},
                {"url": url, "meta": FILE},
                {"path": "x.zip", "url": url, "meta": FILE},
                url,
            ):
                answer = server.suggest(file)
                assert "event: error" in answer and "Traceback" not in answer
        for one in listening:
            one.setblocking(False)
            with pytest.raises(BlockingIOError):
                one.accept()


def test_w_two_identical_batches_leave_no_growth(server: Server, flowers: bytes) -> None:
    path = server.send(flowers).json()[0]

    def batch() -> dict[str, int]:
        file = {"path": path, "meta": FILE}
        for session in ("owner", "owner", "stranger"):
            server.suggest(file, session)
        server.answer("check_dataset", server.ask("check_dataset", file, "", session="owner"))
        server.answer(
            "check", server.ask("check", None, "shapes", 1, 0, 0, 0.1, SPACE, session="owner")
        )
        server.suggest({"path": "/etc/passwd", "meta": FILE}, "stranger")
        server.send(bytes(page_watched.UPLOAD_BYTES + 1))
        until(lambda: server.kept()["child processes"] == 0)
        return server.kept()

    batch()
    before = batch()

    def grown(now: dict[str, int]) -> dict[str, tuple[int, int]]:
        return {
            name: (before.get(name, 0), size)
            for name, size in now.items()
            if size > before.get(name, 0)
        }

    batch()
    # A connection that is just being closed is no growth.
    until(lambda: not grown(server.kept()), seconds=30)
