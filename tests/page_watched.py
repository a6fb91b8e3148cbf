"""The page with low limits, in a process that tells what it keeps when a line is written to it."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sized
from dataclasses import replace
from pathlib import Path
from typing import Any

import page_outlook

UPLOAD_BYTES = 200_000
QUEUED = 4

if __name__ in ("__main__", "__mp_main__"):  # the server, or the process of one of its jobs
    page_outlook.put_in_place()


def kept(page: Any) -> dict[str, int]:
    """Return the sizes of the server's containers, and its files, descriptors and children."""
    import multiprocessing

    from metad2a.page.serve import _UPLOADS

    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    found = {
        "open files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        "child processes": len(multiprocessing.active_children()),
        "files": sum(path.is_file() for path in folder.rglob("*")),
        "folders": sum(path.is_dir() for path in folder.rglob("*")),
    }
    for owner in (page, page.app, page._queue, _UPLOADS[page]):
        for name, value in vars(owner).items():
            if isinstance(value, Sized) and not isinstance(value, (str, bytes)):
                found[f"{type(owner).__name__}.{name}"] = len(value)
    return found


def main() -> None:
    from metad2a import settings

    settings.LIMITS = replace(settings.LIMITS, upload_bytes=UPLOAD_BYTES)
    from metad2a.page import Backend, arrival, build_page, launch, serve

    arrival._FORM_BYTES = 0
    serve._QUEUED = QUEUED
    from page_server import check, refine, train, wait_for_no_one

    wait_for_no_one()

    page = build_page(Backend(check, refine, train))
    page._queue.ANALYTICS_MAX_EVENTS = 5  # Gradio keeps its last 10,000 questions; full at once
    address = launch(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)[1]
    print(address, flush=True)
    for _ in sys.stdin:
        print(json.dumps(kept(page)), flush=True)
    signal.raise_signal(signal.SIGTERM)  # the test has ended, however it did


if __name__ == "__main__":
    main()
