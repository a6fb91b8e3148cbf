"""The parts of the page, where they stand, and which event of which part asks for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api
from gradio.processing_utils import save_bytes_to_cache

from metad2a.errors import InputError
from metad2a.page import examples, states, values
from metad2a.page.backend import Backend
from metad2a.page.bench import Bench
from metad2a.page.downloads import FILES
from metad2a.page.endpoints import endpoints
from metad2a.page.events import Events, Updates
from metad2a.page.hints import HINTS
from metad2a.page.inputs import only_uploads
from metad2a.page.uploads import Uploads
from metad2a.page.visit import Kind, Visit

QUICK, EXPORT = "quick", "export"
"""Lines of Gradio's queue: short answers, and files. Jobs have a line of their own."""
_AT_ONCE = 2
_HEAD = """<h1>metad2a</h1><p>Small neural networks designed for your own images, in seconds.</p>"""
_IMAGES = "<h2>Your images</h2>"
_EXAMPLES = "<p>Nothing at hand? Try an example:</p>"
_PRIVACY = "<p>Files stay on this server, are seen by nobody else and deleted after an hour.</p>"
_TAKE = (
    "<h2>Take a network along</h2><p>The code needs PyTorch and nothing else; ONNX runs "
    "almost anywhere.</p>"
)
_WORK = (
    "<h2>Try them out here</h2><p>Predictions are quick but not certain. "
    "<b>Check</b> trains each network in the list for a moment; <b>Refine</b> searches on "
    "from them for a better one. Both put measurements in the place of predictions.</p>"
)
_NO_LIMIT = " Far right: no limit."
_PRESS = "() => { document.querySelector('#m2-file a, a#m2-file, #m2-file')?.click(); }"


def lay_out(page: gr.Blocks, uploads: Uploads, bench: Bench, backend: Backend | None) -> None:
    """Put everything on a page that is being built."""
    parts = _parts(backend is not None)
    events = Events(uploads, bench, backend)
    _wire_dataset(parts, events)
    _wire_files(parts, events, uploads.folder)
    if backend is not None:
        _wire_jobs(parts, events)
    for name, function in endpoints(uploads, bench, backend).items():
        job = name in ("check", "refine")
        api(
            function,
            api_name=name,
            concurrency_limit=None if job else _AT_ONCE,
            concurrency_id=None if job else QUICK,
        )
    for question in page.fns.values():
        for component in question.inputs:
            only_uploads(component, uploads)


def _parts(jobs: bool) -> dict[str, Any]:
    """Place the parts and return them by name."""
    parts: dict[str, Any] = {"visit": gr.State(None)}
    gr.HTML(_HEAD, elem_classes="m2-head")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="m2-side"):
            gr.HTML(_IMAGES)
            parts["file"] = gr.File(
                label="Zip or tar, one folder per class",
                height=140,
                file_types=[".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".parquet"],
            )
            gr.HTML(_EXAMPLES)
            with gr.Row():
                for name in examples.names():
                    parts[f"example {name}"] = gr.Button(
                        examples.title(name), size="sm", min_width=120
                    )
            gr.HTML(_PRIVACY)
            with gr.Column(visible=False) as parts["limits"]:
                gr.HTML("<h2>Your limits</h2>")
                parts["k"] = gr.Slider(*values.NETWORKS, value=5, step=1, label="Networks listed")
                parts["params"] = gr.Slider(
                    0.0,
                    2.0,
                    value=2.0,
                    step=0.01,
                    label="Most parameters, millions",
                    info=HINTS["parameters"] + _NO_LIMIT,
                )
                parts["macs"] = gr.Slider(
                    0.0,
                    300.0,
                    value=300.0,
                    step=1.0,
                    label="Most MACs, millions",
                    info=HINTS["MACs"] + _NO_LIMIT,
                )
        with gr.Column(scale=3, min_width=320, elem_classes="m2-main"):
            parts["told"] = gr.HTML(states.EMPTY)
            parts["dataset"] = gr.HTML()
            parts["result"] = gr.HTML()
            with gr.Column(visible=False, elem_classes="m2-work") as parts["tools"]:
                gr.HTML(_TAKE)
                parts["chosen"] = gr.Dropdown([], label="Network", filterable=False)
                with gr.Row():
                    for kind, (word, *_) in FILES.items():
                        parts[f"get {kind}"] = gr.Button(word, size="sm", min_width=90)
                parts["download"] = gr.DownloadButton(elem_id="m2-file", elem_classes="m2-gone")
                parts["failed"] = gr.HTML()
                if jobs:
                    gr.HTML(_WORK)
                    parts["minutes"] = gr.Slider(
                        *values.MINUTES, value=1.0, step=0.1, label="Minutes to spend"
                    )
                    with gr.Row():
                        parts["check"] = gr.Button("Check on this machine", variant="primary")
                        parts["refine"] = gr.Button("Refine")
                        parts["cancel"] = gr.Button("Cancel", variant="stop", visible=False)
            parts["job"] = gr.HTML()
    return parts


def _wire_dataset(parts: dict[str, Any], events: Events) -> None:
    reached = _reached(parts)

    def upload(file: str | None, k: int, request: gr.Request) -> Iterator[dict[Any, Any]]:
        for updates in events.upload(file, k, request.session_hash):
            yield _for(parts, updates)

    def limit(visit: Visit | None, k: int, params: float, macs: float) -> dict[Any, Any]:
        return _for(parts, events.limit(visit, k, params, macs))

    shared: dict[str, Any] = {
        "outputs": reached,
        "api_visibility": "private",
        "show_progress": "minimal",
        "show_progress_on": parts["told"],
        "concurrency_limit": _AT_ONCE,
        "concurrency_id": QUICK,
    }
    gr.on(
        [parts["file"].upload, parts["file"].clear], upload, [parts["file"], parts["k"]], **shared
    )
    for name in examples.names():

        def example(k: int, name: str = name) -> Iterator[dict[Any, Any]]:
            for updates in events.example(name, k):
                yield {**_for(parts, updates), parts["file"]: None}

        parts[f"example {name}"].click(
            example, parts["k"], **{**shared, "outputs": [*reached, parts["file"]]}
        )
    # A slider that is dragged asks often; only the last question is worth an answer.
    gr.on(
        [parts[name].input for name in ("k", "params", "macs")],
        limit,
        [parts["visit"], parts["k"], parts["params"], parts["macs"]],
        **{**shared, "show_progress": "hidden", "show_progress_on": None},
        trigger_mode="always_last",
    )


def _wire_files(parts: dict[str, Any], events: Events, folder: Path) -> None:
    for kind in FILES:

        def make(visit: Visit | None, rank: int | None, kind: str = kind) -> tuple[Any, str]:
            try:
                name, content = events.file(visit, kind, rank)
            except InputError as error:
                return None, states.problem("This file cannot be made", str(error))
            return save_bytes_to_cache(content, name, str(folder)), ""

        made = parts[f"get {kind}"].click(
            make,
            [parts["visit"], parts["chosen"]],
            [parts["download"], parts["failed"]],
            api_visibility="private",
            show_progress="minimal",
            show_progress_on=parts["failed"],
            concurrency_limit=_AT_ONCE,
            concurrency_id=EXPORT,
        )
        made.success(None, None, None, js=_PRESS, api_visibility="private")


def _wire_jobs(parts: dict[str, Any], events: Events) -> None:
    for kind in ("check", "refine"):

        async def run(
            visit: Visit | None,
            minutes: float,
            kind: Kind = kind,
        ) -> AsyncIterator[dict[Any, Any]]:
            async with aclosing(events.run(visit, kind, minutes)) as answers:
                async for updates in answers:
                    yield _for(parts, updates)

        parts[kind].click(
            run,
            [parts["visit"], parts["minutes"]],
            _reached(parts),
            api_visibility="private",
            show_progress="hidden",
            concurrency_limit=None,
        )
    parts["cancel"].click(
        events.cancel, parts["visit"], None, api_visibility="private", queue=False
    )


def _reached(parts: dict[str, Any]) -> list[Any]:
    """Return the parts that updates speak of."""
    names = (
        "visit",
        "told",
        "dataset",
        "result",
        "tools",
        "chosen",
        "limits",
        "params",
        "macs",
        "job",
        "check",
        "refine",
        "cancel",
    )
    return [parts[name] for name in names if name in parts]


def _for(parts: dict[str, Any], updates: Updates) -> dict[Any, Any]:
    """Return updates by name as updates by component."""
    return {
        parts[name]: gr.update(**value) if isinstance(value, dict) else value
        for name, value in updates.items()
        if name in parts
    }
