"""The page in a process of its own, as in real life, with jobs that take no time."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import page_outlook
from PIL import Image

from metad2a.candidate import Measured
from metad2a.training.train import train

if __name__ in ("__main__", "__mp_main__"):  # the server, or the process of one of its jobs
    page_outlook.put_in_place()


@dataclass(frozen=True)
class Step:
    fraction: float
    stage: str
    loss: float


def check(
    result: Any, *, minutes: float, progress: Any, should_stop: Any, candidates: int = 1
) -> Any:
    """Turn the list round, and pretend to have measured all but one of it."""
    progress(Step(0.5, "training 1 of 2", float("nan")))
    turned = [
        replace(one, measured=Measured(90.0 - place, "pretended", 1.0, (50.0, 90.0 - place)))
        for place, one in enumerate(reversed(result))
    ]
    return result.revised([*turned[:-1], replace(turned[-1], measured=None)], 1.0)


def refine(result: Any, *, minutes: float, progress: Any, should_stop: Any) -> Any:
    """Go on until someone says stop."""
    for step in range(10_000):
        progress(Step(step / 10_000, "DropNas", 2.0 / (1 + step)))
        if should_stop():
            break
        time.sleep(0.05)
    return check(result, minutes=minutes, progress=progress, should_stop=should_stop)


def write_zip(path: Path, classes: dict[str, int]) -> Path:
    """Write a zip of class folders with noise images, so many of each class."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for name, count in classes.items():
            for i in range(count):
                buffer = io.BytesIO()
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(buffer, "PNG")
                archive.writestr(f"{name}/{i}.png", buffer.getvalue())
    return path


@contextlib.contextmanager
def serving(*options: str, script: str = __file__) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Serve the page on a free port; give its address and its process."""
    # Here and not in the test's process: Gradio leaves event loops and sockets open behind it, and
    # there every such warning is an error.
    with subprocess.Popen(
        [sys.executable, script, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            # Gradio says this and that before.
            yield next(line.strip() for line in server.stdout if line.startswith("http")), server
        finally:
            server.stdin.close()
            server.terminate()
            server.wait(timeout=30)


def wait_for_no_one() -> None:
    """Let Gradio not ask itself whether it is there: a busy machine takes longer than it waits."""
    from gradio import networking

    networking.url_ok = lambda _: True


def main() -> None:
    from metad2a.page import Backend, build_page, launch

    wait_for_no_one()
    page = build_page(Backend(check, refine, train))
    address = launch(
        page,
        server_name="127.0.0.1",
        prevent_thread_lock=True,
        quiet=True,
        mcp_server="mcp" in sys.argv,
    )[1]
    print(address, flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
