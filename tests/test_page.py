"""The page in a real browser: upload, suggestions with drawings, readable errors, no outsiders."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from metad2a import InputError, Suggestions, suggest
from metad2a.page import build_page, launch

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]
NASTY = "rose <b>&${1+1}{{2}}"


def suggest_or_break(path: str, k: int, seed: int, max_params: int | None) -> Suggestions:
    """Suggest in earnest, but break on files of two names."""
    if Path(path).stem == "refused":
        raise InputError(f"{path} is refused: {Path(path).parent} holds it.")
    if Path(path).stem == "crash":
        raise RuntimeError(f"a defect, met in {path}")
    return suggest(path, k=k, seed=seed, max_params=max_params)


def write_zip(path: Path, classes: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        for name, count in classes.items():
            for i in range(count):
                buffer = io.BytesIO()
                pixels = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(buffer, "PNG")
                archive.writestr(f"{name}/{i}.png", buffer.getvalue())
    return path


def serve() -> None:
    """Serve the page on a free port, say where, and stop when standard input closes."""
    page = build_page(suggest_or_break)
    address = launch(page, server_name="127.0.0.1", prevent_thread_lock=True, quiet=True)[1]
    print(address, flush=True)
    sys.stdin.read()
    page.close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    # A process of its own, as in real life: Gradio leaves event loops and sockets open behind it,
    # and here every such warning is an error.
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None and server.stdout is not None
    with server:
        yield server.stdout.readline().strip()
        server.stdin.close()
        server.wait(timeout=30)


@pytest.fixture
def browser_page(address: str) -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(30_000)
        hosts: set[str | None] = set()
        page.on("request", lambda request: hosts.add(urlsplit(request.url).hostname))
        page.goto(address)
        yield page
        browser.close()
    assert hosts - {None, ""} == {"127.0.0.1"}, "the page must not ask any other machine"


def upload(page: Any, path: Path) -> None:
    """Choose a file as a user does, replacing the one that is there."""
    clear = page.locator("button[aria-label='Clear']:visible")
    if clear.count():
        clear.first.click()
    page.set_input_files("input[type=file]", path)
    page.get_by_text(path.stem).first.wait_for()


def test_zip_to_suggestions_and_back_to_an_error(browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    page.get_by_role("heading", name="metad2a").wait_for()
    page.wait_for_function("document.title === 'metad2a'")

    upload(page, write_zip(tmp_path / "flowers.zip", {"daisy": 5, NASTY: 7, "tulip": 4}))
    page.get_by_role("button", name="Suggest").click()
    page.locator(".cells svg").first.wait_for()
    assert page.locator(".cells svg").count() == 5
    body = page.locator("body").inner_text()
    assert "16 images, 3 classes" in body
    assert NASTY in body, "names from the zip are text, neither markup nor a template"
    expected = suggest(tmp_path / "flowers.zip", k=5, seed=0)
    rows = page.locator(".list tbody tr").all()
    assert len(rows) == 5
    for row, wanted in zip(rows, expected, strict=True):
        low, high = wanted.interval
        cells = [str(wanted.rank), f"{wanted.accuracy:.1f}", f"{low:.1f} to {high:.1f}",
                 f"{wanted.params:,}", f"{wanted.macs:,}", wanted.architecture]
        assert row.locator("td").all_inner_texts() == cells

    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 this is no zip")
    upload(page, tmp_path / "broken.zip")
    page.get_by_role("button", name="Suggest").click()
    problem = page.locator("[role=alert]").filter(has_text="broken.zip")
    problem.wait_for()
    assert "This cannot be used" in problem.inner_text()
    body = page.locator("body").inner_text()
    assert "Traceback" not in body and str(tmp_path) not in body and "/gradio/" not in body
    assert page.locator(".cells").count() == 0, "old answers must be gone"


def test_narrow_screens_are_not_overflowed(browser_page: Page, tmp_path: Path) -> None:
    page = browser_page
    page.set_viewport_size({"width": 390, "height": 844})
    upload(page, write_zip(tmp_path / "flowers.zip", {"daisy": 5, "tulip": 4}))
    page.get_by_role("button", name="Suggest").click()
    page.locator(".cells svg").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390


@pytest.fixture
def ask(address: str, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Call the endpoint for programs with a small zip."""
    from gradio_client import Client, handle_file

    client = Client(address, verbose=False, analytics_enabled=False, download_files=False)

    def call(name: str, *arguments: int) -> Any:
        path = write_zip(tmp_path / name, {"daisy": 5, "tulip": 4})
        return client.predict(handle_file(path), *arguments, api_name="/suggest")

    yield call
    client.close()


def test_endpoint_for_programs(ask: Callable[..., Any]) -> None:
    answer = ask("flowers.zip", 3, 0)
    assert [c["rank"] for c in answer["candidates"]] == [1, 2, 3]
    assert all(c["svg"].startswith("<svg ") for c in answer["candidates"])
    assert answer["report"]["images"] == 9 and answer["report"]["classes"] == 2
    with pytest.raises(Exception, match="max_params=1 cannot be met"):
        ask("flowers.zip", 3, 1)
    with pytest.raises(Exception, match="Give a number above 0"):
        ask("flowers.zip", 3, -5)


def test_errors_do_not_tell_where_uploads_lie(ask: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match=r"^refused\.zip is refused: the upload holds it\.$"):
        ask("refused.zip", 3, 0)
    with pytest.raises(Exception, match=r"\w") as caught:
        ask("crash.zip", 3, 0)
    assert "a defect" not in str(caught.value) and "crash.zip" not in str(caught.value)


if __name__ == "__main__":
    serve()
