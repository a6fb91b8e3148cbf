"""Serving the page: limits on what comes in, nothing to outsiders, and a quick end."""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from metad2a.errors import MetaD2AError
from metad2a.page.backend import Backend
from metad2a.page.bench import Bench
from metad2a.page.described import describe_source
from metad2a.page.look import PAGE
from metad2a.page.uploads import KEPT_SECONDS, OwnFolders, Uploads
from metad2a.page.values import SPACE
from metad2a.page.visits import MOST
from metad2a.settings import LIMITS

if TYPE_CHECKING:
    import gradio as gr

_QUEUED = 60
"""Questions that may wait; more are turned away with a word."""
_WARM_SECONDS = 1.0
"""Until the model is loaded in advance."""
_END_SECONDS = 4.0
"""How long open connections may hold up the end."""

_UPLOADS: WeakKeyDictionary[gr.Blocks, Uploads] = WeakKeyDictionary()
"""The uploads of each page that was built."""


def build_page(backend: Backend | None = None) -> gr.Blocks:
    """Return the page; :func:`launch` serves it.

    Args:
        backend: what trains, checks and refines; None leaves all three out.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    folder = _folder()
    import gradio as gr

    from metad2a.page.layout import lay_out

    page = gr.Blocks(
        title="metad2a",
        analytics_enabled=False,
        fill_width=True,
        delete_cache=(KEPT_SECONDS // 10, KEPT_SECONDS),
    )
    uploads = _UPLOADS[page] = Uploads(folder)
    with page:
        lay_out(page, uploads, Bench(), backend)
    page.queue(max_size=_QUEUED, api_open=False)
    return page


def launch(page: gr.Blocks, **options: Any) -> tuple[Any, str, str]:
    """Serve a page in the project's look, until Ctrl-C or SIGTERM.

    Args:
        page: what :func:`build_page` returned.
        **options: of ``gradio.Blocks.launch``, such as ``server_name``, ``server_port`` and
            ``mcp_server``.

    Returns:
        Gradio's (application, local address, shared address).
    """
    import gradio as gr
    from starlette.middleware import Middleware

    from metad2a.datasets import FORMS
    from metad2a.spaces import SPACES

    uploads = _UPLOADS[page]
    theme = gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        radius_size="lg",
        font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
        font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
    )
    settings: dict[str, Any] = {
        "theme": theme,
        "css": PAGE,
        "footer_links": ["api"],
        "ssr_mode": False,
        "max_file_size": LIMITS.upload_bytes,
        "state_session_capacity": MOST,
        "share": False,
        "enable_monitoring": False,
        "run_history": False,
        "app_kwargs": {
            "middleware": [Middleware(OwnFolders, uploads=uploads)],
            "lifespan": uploads.swept,
        },
    }
    if threading.current_thread() is threading.main_thread():
        _end_on_sigterm()
    for registry in (FORMS, SPACES):
        registry.names()  # a registry must not be loaded by two threads at once
    # The model loads while the first visitor still looks around, once the page is there.
    warming = threading.Timer(_WARM_SECONDS, _warm)
    warming.daemon = True
    warming.start()
    return page.launch(**(settings | options))


def _warm() -> None:
    """Suggest once; what goes wrong is told to the visitor for whom it does again."""
    with contextlib.suppress(MetaD2AError):
        describe_source("shapes", False, SPACE)


def _end_on_sigterm() -> None:
    """Let SIGTERM end the process in seconds: by Ctrl-C's way if that is quick, else without it."""

    def end(number: int, _: FrameType | None) -> None:
        watch = threading.Timer(_END_SECONDS, _leave)
        watch.daemon = True
        watch.start()
        atexit.register(_leave)  # taking a process with torch to pieces takes seconds
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


def _leave() -> None:
    """End at once, with all jobs and files."""
    for job in multiprocessing.active_children():
        job.kill()
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)
    os._exit(128 + signal.SIGTERM)


def _folder() -> Path:
    """Return this server's own folder for uploads and downloads, which goes when it ends."""
    # Gradio's own folder is one for all servers of a machine.
    folder = Path(tempfile.mkdtemp(prefix="metad2a-", dir=os.environ.get("GRADIO_TEMP_DIR")))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_TEMP_DIR"] = str(folder.resolve())
    return folder.resolve()
