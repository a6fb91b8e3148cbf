"""A request with an upload, while it comes in: not too much of it and not for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.formparsers import MultiPartException

from metad2a.settings import LIMITS

_SECONDS = 1800.0
"""How long a request may take to come in: 200 MB at 1 Mbit/s."""
_FORM_BYTES = 10**6
"""What the form around the files may take: 1,000 names of files."""


class Arrival:
    """The ``receive`` of an ASGI application that reads an upload.

    Gradio limits each of up to 1,000 files, and leaves the beginning of a file behind where its
    sender goes away. Of this exception it removes what it has, and answers with the message.

    Args:
        receive: the server's own.
    """

    def __init__(self, receive: Any) -> None:
        self._receive = receive
        self._end = asyncio.get_running_loop().time() + _SECONDS
        self._bytes = 0
        self._whole = False

    async def __call__(self) -> dict[str, Any]:
        """Return the next message.

        Raises:
            MultiPartException: the upload is too large or too slow, or its sender is gone.
        """
        if self._whole:
            return dict(await self._receive())
        try:
            async with asyncio.timeout_at(self._end):
                message: dict[str, Any] = await self._receive()
        except TimeoutError as error:
            raise MultiPartException(
                f"The upload took longer than {_SECONDS / 60:.0f} minutes."
            ) from error
        if message["type"] == "http.disconnect":
            raise MultiPartException("The sender has gone.")
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > LIMITS.upload_bytes + _FORM_BYTES:
            # Gradio knows an upload that is too large, HTTP 413, by these words.
            raise MultiPartException(
                "All files together exceeded the maximum allowed size of "
                f"{LIMITS.upload_bytes} bytes."
            )
        return message
