"""Files of strangers: each in a folder of its own, for one visitor alone, gone an hour later.

Gradio puts an upload into a folder named after its content, so that two visitors with the same file
share it, and takes any path of its folder as an input from anyone. Here every upload gets a folder
with a name that cannot be guessed, and the first visitor to use it is the only one who may.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from metad2a.errors import InputError
from metad2a.page.arrival import Arrival
from metad2a.page.visits import Visits
from metad2a.settings import LIMITS

KEPT_SECONDS = 3600
"""How long an upload, and every file made for a visitor, is kept."""
_SWEEP_SECONDS = 60
_ASIDE = "own"
"""Folder of the uploads' folders, beside those that Gradio makes."""
_GONE = "Your upload is no longer here: files are deleted after an hour. Upload it again."
_NO_ROOM = "This server has no room for the file now. Try again later, or with a smaller one."


class Uploads:
    """The folders of the uploads of one server, and who may use which.

    Args:
        folder: Gradio's folder for uploads and downloads; swept as a whole.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.visits = Visits(KEPT_SECONDS)
        """What is shown to visitors, as long as their files are kept."""
        self._owners: dict[Path, str] = {}
        self._lock = threading.Lock()

    def keep(self, upload: str) -> str:
        """Give an upload that just arrived a folder of its own and return its new path."""
        own = self.place() / Path(upload).name
        # A second name of the same file: another visitor's same upload may be arriving there.
        os.link(upload, own)
        own.touch()
        return str(own)

    def take(self, text: str) -> str:
        """Return the path of a file given as text: the address of an upload, or a data address.

        Raises:
            InputError: it is neither, larger than an upload may be, or the disk is full.
        """
        at = self.at_address(text)
        if at is not None:
            return at
        try:
            if not text.startswith("data:") or len(text) > 1.4 * LIMITS.upload_bytes:
                raise ValueError
            content = base64.b64decode(text.partition(",")[2], validate=True)
        except ValueError as error:
            raise InputError(
                "file must be an uploaded file, as handle_file() of gradio_client makes it, or a "
                f"text data:application/zip;base64,... of at most {LIMITS.upload_bytes:,} bytes. "
                "Other addresses are not opened."
            ) from error
        try:
            own = self.place() / "upload"
            own.write_bytes(content)
        except OSError as error:
            raise InputError(_NO_ROOM) from error
        return str(own)

    def place(self) -> Path:
        """Return a new, empty folder that nobody guesses, no address hands out, and time deletes.

        Raises:
            OSError: the disk is full.
        """
        place = self.folder / _ASIDE / secrets.token_hex(16)
        place.mkdir(parents=True)
        return place

    def discard(self, place: Path) -> None:
        """Delete a folder that :meth:`place` made, before its time."""
        shutil.rmtree(place, ignore_errors=True)

    def claim(self, path: str, visitor: str | None) -> Path:
        """Return an upload's path if it is this visitor's, or nobody's yet.

        Raises:
            InputError: it is another visitor's, no upload at all, or deleted by now.
        """
        given = Path(path)
        inside = given.parent.parent == self.folder / _ASIDE and ".." not in given.parts
        with self._lock:
            if (
                not inside
                or visitor is None
                or (self._owners.setdefault(given, visitor) != visitor)
            ):
                raise InputError("This file was not uploaded by you. Upload it yourself.")
        if not given.is_file():
            raise InputError(_GONE)
        return given

    def at_address(self, address: str) -> str | None:
        """Return the path of an upload that a program names by its address here, else None."""
        path = unquote(address.partition("/file=")[2])
        return path if path.startswith(f"{self.folder / _ASIDE}{os.sep}") else None

    def scrub(self, message: str) -> str:
        """Return a message without folders: where uploads lie is nobody's business."""
        own = rf"({re.escape(os.sep)}{_ASIDE}{re.escape(os.sep)}[0-9a-f]+)?"
        return re.sub(rf"{re.escape(str(self.folder))}{own}{re.escape(os.sep)}?", "", message)

    def sweep(self, now: float | None = None) -> None:
        """Delete what is older than :data:`KEPT_SECONDS`."""
        oldest = (time.time() if now is None else now) - KEPT_SECONDS
        for place in [*self.folder.glob(f"{_ASIDE}/*"), *self.folder.glob("*")]:
            if place.name != _ASIDE and _newest(place) < oldest:
                shutil.rmtree(place, ignore_errors=True)
                with contextlib.suppress(OSError):
                    place.unlink(missing_ok=True)
        with self._lock:
            self._owners = {path: who for path, who in self._owners.items() if path.exists()}
        self.visits.sweep(now)

    @contextlib.asynccontextmanager
    async def swept(self, _: Any) -> AsyncIterator[None]:
        """Sweep now and then while a server runs: its ``lifespan``."""

        async def forever() -> None:
            while True:
                await asyncio.sleep(_SWEEP_SECONDS)
                await asyncio.to_thread(self.sweep)

        task = asyncio.create_task(forever())
        try:
            yield
        finally:
            task.cancel()


def _newest(place: Path) -> float:
    """Return the time of the youngest thing in a folder; endless where it is just going."""
    try:
        return max(one.stat().st_mtime for one in (place, *place.glob("*")))
    except OSError:
        return float("inf")


async def _answer(send: Any, status: int, text: str) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-type", b"text/plain")],
        }
    )
    await send({"type": "http.response.body", "body": text.encode()})


class OwnFolders:
    """ASGI middleware that moves each upload into a folder of its own and serves none of them."""

    def __init__(self, app: Any, uploads: Uploads) -> None:
        self._app, self._uploads = app, uploads

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Let a request through, and rewrite the answer to an upload."""
        path = scope.get("path", "")
        if scope["type"] == "http" and f"/{_ASIDE}/" in path and "/file=" in path:
            await _answer(send, 403, "Uploads are not handed out.")
        elif scope["type"] == "http" and scope["method"] == "POST" and path.endswith("/upload"):
            try:
                await self._app(scope, Arrival(receive), self._rewriting(send))
            except OSError:
                await _answer(send, 507, _NO_ROOM)
            except (AttributeError, TypeError):  # Gradio's, of a form with a text for a file
                await _answer(send, 400, "The form holds something that is no file.")
        else:
            await self._app(scope, receive, send)

    def _rewriting(self, send: Any) -> Any:
        start: dict[str, Any] = {}
        body = bytearray()

        async def held(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            answer = bytes(body)
            if start["status"] == 200:
                paths = [
                    await asyncio.to_thread(self._uploads.keep, one) for one in json.loads(answer)
                ]
                answer = json.dumps(paths).encode()
            headers = [
                (name, value)
                for name, value in start["headers"]
                if name.lower() != b"content-length"
            ]
            length = (b"content-length", str(len(answer)).encode())
            await send({**start, "headers": [*headers, length]})
            await send({"type": "http.response.body", "body": answer})

        return held
