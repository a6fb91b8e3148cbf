"""The page in a process of its own, and users who ask it over HTTP."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from _report import ROOT

from metad2a.errors import MetaD2AError

_START_SECONDS, _END_SECONDS, _ANSWER_SECONDS = 300.0, 30.0, 300.0


@dataclass(frozen=True)
class Answer:
    """What a user asked for, what came of it ("answered", "refused", "error") and in what time."""

    kind: str
    outcome: str
    seconds: float
    detail: str = ""


class Page:
    """A server that was started here; use :meth:`started`."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, folder: Path) -> None:
        self.address, self._process, self._folder = address, process, folder
        self._log = folder / "page.log"

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path) -> Iterator[Page]:
        """Start the page on a free port, wait until it answers, and end it.

        Raises:
            MetaD2AError: it does not answer.
        """
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with (
            (folder / "page.log").open("wb") as out,
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "metad2a",
                    "app",
                    "--host",
                    "127.0.0.1",
                    "--port",
                    str(port),
                ],
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "GRADIO_TEMP_DIR": str(folder)},
            ) as process,
        ):
            page = cls(process, f"http://127.0.0.1:{port}", folder)

            def end(number: int, _: object) -> None:
                page.stop()  # first: users who still wait for an answer would hold up the end
                raise SystemExit(128 + number)

            for one in (signal.SIGINT, signal.SIGTERM):
                signal.signal(one, end)
            try:
                page._wait()
                yield page
            finally:
                page.stop()

    def _wait(self) -> None:
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self.runs():
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.address, timeout=30).status_code == 200:
                    return
            time.sleep(0.2)
        raise MetaD2AError(f"The page did not start. It said: {self.log()[-2000:]}")

    def runs(self) -> bool:
        """Return whether the server still runs."""
        return self._process.poll() is None

    def log(self) -> str:
        """Return what the server printed."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> float:
        """End the server if it runs, and return the seconds that this took."""
        began = time.monotonic()
        if self.runs():
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return time.monotonic() - began

    def keeps(self) -> dict[str, float]:
        """Return the server's memory, threads, children and files once it has calmed down.

        Raises:
            MetaD2AError: it has ended.
        """
        time.sleep(2)
        if not self.runs():
            raise MetaD2AError(f"The page has ended by itself. It said: {self.log()[-2000:]}")
        place = Path(f"/proc/{self._process.pid}")
        lines = (place / "status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        children = [
            pid
            for task in (place / "task").iterdir()
            for pid in (task / "children").read_text(encoding="utf-8").split()
        ]
        return {
            "memory, MB": int(status["VmRSS"].split()[0]) / 1024,
            "threads": float(status["Threads"]),
            "children": float(len(children)),
            "open files": float(len(list((place / "fd").iterdir()))),
            "files on disk": float(sum(one.is_file() for one in self._folder.rglob("*"))),
        }


class User:
    """One session with the page, and its upload."""

    def __init__(self, page: Page, number: int) -> None:
        self.number, self.page = number, page
        self._session = secrets.token_hex(8)
        self._file: dict[str, Any] | None = None

    def upload(self, path: Path) -> Answer:
        """Upload a file, which all later questions are about."""

        def send(end: float) -> str:
            with path.open("rb") as content:
                answer = httpx.post(
                    f"{self.page.address}/gradio_api/upload",
                    files={"files": (path.name, content)},
                    timeout=120,
                )
            answer.raise_for_status()
            self._file = {"path": answer.json()[0], "meta": {"_type": "gradio.FileData"}}
            return ""

        return _timed("upload", send)

    def look(self) -> Answer:
        """Open the page."""

        def get(end: float) -> str:
            httpx.get(self.page.address, timeout=120).raise_for_status()
            return ""

        return _timed("the page", get)

    def suggest(self) -> Answer:
        """Ask for suggestions for the upload."""
        return self._ask("suggestion, upload", "suggest", [self._file, "", 5, 0, 0])

    def example(self) -> Answer:
        """Ask for suggestions for an example."""
        return self._ask("suggestion, example", "suggest", [None, "shapes", 5, 0, 0])

    def check_dataset(self) -> Answer:
        """Have every image of an example looked at."""
        return self._ask("dataset checked", "check_dataset", [None, "shapes"])

    def refine(
        self,
        minutes: float = 0.1,
        begun: threading.Event | None = None,
        leave: threading.Event | None = None,
    ) -> Answer:
        """Have networks for an example refined; tell when it runs, and leave when told."""
        return self._ask(
            "refinement, example", "refine", [None, "shapes", 3, 0, 0, minutes], begun, leave
        )

    def train(self, minutes: float = 0.2) -> Answer:
        """Have a network for an example trained."""
        return self._ask("training, example", "train", [None, "shapes", minutes])

    def _ask(
        self,
        kind: str,
        name: str,
        data: list[Any],
        begun: threading.Event | None = None,
        leave: threading.Event | None = None,
    ) -> Answer:
        address = f"{self.page.address}/gradio_api/call/{name}"

        def ask(end: float) -> str:
            asked = httpx.post(
                address, timeout=120, json={"data": data, "session_hash": self._session}
            )
            asked.raise_for_status()
            event = ""
            with httpx.stream("GET", f"{address}/{asked.json()['event_id']}", timeout=60) as stream:
                stream.raise_for_status()
                for line in stream.iter_lines():
                    # The server's heartbeats keep the connection alive for ever.
                    if time.monotonic() > end:
                        return f"no answer in {_ANSWER_SECONDS:.0f} s"
                    if line.startswith("event:"):
                        event = line.removeprefix("event:").strip()
                    elif event == "complete":
                        return ""
                    elif event == "error":
                        return line or "error"
                    elif begun is not None and '"running"' in line:
                        begun.set()
                    if leave is not None and leave.is_set():
                        return ""
            return "the answer was cut off"

        return _timed(kind, ask)


def _timed(kind: str, do: Callable[[float], str]) -> Answer:
    """Do something that returns what went wrong, if anything did."""
    began = time.monotonic()
    try:
        detail = do(began + _ANSWER_SECONDS)
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        detail = f"HTTP {code}"
    except (httpx.HTTPError, json.JSONDecodeError) as error:
        detail = type(error).__name__
    refused = detail == "HTTP 503" or "jobs are waiting already" in detail
    outcome = "refused" if refused else "error" if detail else "answered"
    return Answer(kind, outcome, time.monotonic() - began, detail[:200])
