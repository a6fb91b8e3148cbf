"""The parts of the page, where they stand, and which event of which part asks for what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
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
from metad2a.page.searching import Kind
from metad2a.page.uploads import Uploads
from metad2a.page.visit import Visit

QUICK, EXPORT = "quick", "export"
"""Lines of Gradio's queue: short answers, and files. Jobs have a line of their own."""
_AT_ONCE = 2
_JOBS = ("check", "refine", "train")
_HEAD = """<h1>metad2a</h1><p>Neural networks for your own images: suggested in seconds, trained in
minutes.</p>"""
_IMAGES = "<h2>Your images</h2>"
_EXAMPLES = "<p>Nothing at hand? Try an example:</p>"
_PRIVACY = "<p>Files stay on this server, are seen by nobody else and deleted after an hour.</p>"
_LOOK = "<h2>Look at one</h2><p>Its design, untrained. Choose it here or in the table.</p>"
_TRAIN = (
    "<h2>Train</h2><p>The time is for everything, from reading to judging. A fifth of the images is "
    "held out and tells what was reached.</p>"
)
_USE = (
    "<h2>Use it</h2><p>The folder has the weights, code that needs PyTorch alone, ONNX, the names of "
    "the classes, and a card.</p>"
)
_WORK = (
    "<p><b>Check</b> trains every network of the list for an equal part of the time; <b>Refine</b> "
    "looks on from them for a better one. Both put measurements beside the predictions and end with "
    "a trained network.</p>"
)
_NO_LIMIT = " Far right: no limit."
_PRESS = "() => { document.querySelector('#m2-file a, a#m2-file, #m2-file')?.click(); }"
_REMEMBER = "(key) => { sessionStorage.setItem('metad2a', key); return key; }"
_RECALL = "() => sessionStorage.getItem('metad2a') ?? ''"
_ROWS = """element.addEventListener('click', (event) => {
  const row = event.target.closest('tr[data-rank]');
  if (row) trigger('click', {rank: Number(row.dataset.rank)});
});"""
"""A click on a row of the table chooses its network."""


def lay_out(page: gr.Blocks, uploads: Uploads, bench: Bench, backend: Backend | None) -> None:
    """Put everything on a page that is being built."""
    parts = _parts(backend is not None)
    events = Events(uploads, bench, backend)
    _wire_dataset(page, parts, events)
    _wire_files(parts, events, uploads.folder)
    if backend is not None:
        _wire_jobs(parts, events)
        _wire_use(parts, events, uploads.folder)
    for name, function in endpoints(uploads, bench, backend).items():
        job = name in _JOBS
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
    parts["key"] = gr.Textbox(visible="hidden", label="key")
    gr.HTML(_HEAD, elem_classes="m2-head")
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280, elem_classes="m2-side"):
            _place_side(parts)
        with gr.Column(scale=3, min_width=320, elem_classes="m2-main"):
            parts["told"] = gr.HTML(states.EMPTY)
            parts["dataset"] = gr.HTML()
            parts["result"] = gr.HTML(js_on_load=_ROWS)
            with gr.Row(visible=False, equal_height=False) as parts["tools"]:
                _place_tools(parts, jobs)
            if jobs:
                _place_trained(parts)
    return parts


def _place_side(parts: dict[str, Any]) -> None:
    """Place what a visitor gives: images, limits, the search space."""
    gr.HTML(_IMAGES)
    parts["file"] = gr.File(
        label="Zip or tar, one folder per class",
        height=140,
        file_types=[".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".parquet"],
    )
    gr.HTML(_EXAMPLES)
    with gr.Row():
        for name in examples.names():
            parts[f"example {name}"] = gr.Button(examples.title(name), size="sm", min_width=120)
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
    with gr.Accordion("Advanced", open=False):
        parts["space"] = gr.Dropdown(
            [(title, name) for name, title in values.SPACES.items()],
            value=values.SPACE,
            label="Search space",
            info="The family that networks are from.",
            filterable=False,
        )


def _place_tools(parts: dict[str, Any], jobs: bool) -> None:
    """Place what can be done with the list: look at a network, take it along, train."""
    with gr.Column(min_width=320, elem_classes="m2-work"):
        gr.HTML(_LOOK)
        parts["chosen"] = gr.Dropdown([], label="Network", filterable=False)
        parts["drawing"] = gr.HTML()
        with gr.Row():
            for kind, (word, *_) in FILES.items():
                parts[f"get {kind}"] = gr.Button(word, size="sm", min_width=60)
        parts["download"] = gr.DownloadButton(elem_id="m2-file", elem_classes="m2-gone")
        parts["failed"] = gr.HTML()
    if jobs:
        with gr.Column(min_width=320, elem_classes="m2-work"):
            gr.HTML(_TRAIN)
            parts["network"] = gr.Dropdown([], label="Network to train", filterable=False)
            parts["minutes"] = gr.Slider(*values.MINUTES, value=2.0, step=0.1, label="Minutes")
            parts["train"] = gr.Button("Start training", variant="primary")
            parts["job"] = gr.HTML()
            parts["cancel"] = gr.Button("Cancel", variant="stop", visible=False)
            with gr.Accordion("Compare several", open=False):
                gr.HTML(_WORK)
                with gr.Row():
                    parts["check"] = gr.Button("Check", min_width=100)
                    parts["refine"] = gr.Button("Refine", min_width=100)


def _place_trained(parts: dict[str, Any]) -> None:
    """Place the network that was trained, and what can be done with it."""
    parts["trained"] = gr.HTML()
    with gr.Column(visible=False, elem_classes="m2-work") as parts["using"]:
        gr.HTML(_USE)
        parts["get network"] = gr.Button("Folder (zip)", variant="primary")
        parts["missing"] = gr.HTML()
        parts["picture"] = gr.File(
            label="Try a picture", height=120, file_types=["image"], elem_id="m2-picture"
        )
        parts["answer"] = gr.HTML()


def _wire_dataset(page: gr.Blocks, parts: dict[str, Any], events: Events) -> None:
    reached = _reached(parts)

    def upload(
        file: str | None, k: int, space: str, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        for updates in events.upload(file, k, space, request.session_hash):
            yield _for(parts, updates)

    def other_space(visit: Visit | None, k: int, space: str) -> Iterator[dict[Any, Any]]:
        for updates in events.other_space(visit, k, space):
            yield _for(parts, updates)

    def limit(visit: Visit | None, k: int, params: float, macs: float) -> dict[Any, Any]:
        return _for(parts, events.limit(visit, k, params, macs))

    def choose(visit: Visit | None, rank: int | None) -> dict[Any, Any]:
        return _for(parts, events.choose(visit, rank))

    def choose_row(visit: Visit | None, event: gr.EventData) -> dict[Any, Any]:
        return _for(parts, events.choose(visit, getattr(event, "rank", None)))

    shared: dict[str, Any] = {
        "outputs": reached,
        "api_visibility": "private",
        "show_progress": "minimal",
        "show_progress_on": parts["told"],
        "concurrency_limit": _AT_ONCE,
        "concurrency_id": QUICK,
    }
    quiet = {**shared, "show_progress": "hidden", "show_progress_on": None}
    read = [
        gr.on(
            [parts["file"].upload, parts["file"].clear],
            upload,
            [parts["file"], parts["k"], parts["space"]],
            **shared,
        ),
        parts["space"].input(other_space, [parts["visit"], parts["k"], parts["space"]], **shared),
    ]
    for name in examples.names():

        def example(k: int, space: str, name: str = name) -> Iterator[dict[Any, Any]]:
            for updates in events.example(name, k, space):
                yield {**_for(parts, updates), parts["file"]: None}

        read.append(
            parts[f"example {name}"].click(
                example,
                [parts["k"], parts["space"]],
                **{**shared, "outputs": [*reached, parts["file"]]},
            )
        )
    for one in read:
        one.then(None, parts["key"], parts["key"], js=_REMEMBER, api_visibility="private")
    page.load(lambda key: _for(parts, events.again(key)), parts["key"], **{**quiet, "js": _RECALL})
    # A slider that is dragged asks often; only the last question is worth an answer.
    gr.on(
        [parts[name].input for name in ("k", "params", "macs")],
        limit,
        [parts["visit"], parts["k"], parts["params"], parts["macs"]],
        **quiet,
        trigger_mode="always_last",
    )
    parts["chosen"].input(choose, [parts["visit"], parts["chosen"]], **quiet)
    parts["result"].click(choose_row, parts["visit"], **quiet)


def _wire_files(parts: dict[str, Any], events: Events, folder: Path) -> None:
    for kind in FILES:

        def make(visit: Visit | None, rank: int | None, kind: str = kind) -> tuple[str, bytes]:
            return events.file(visit, kind, rank)

        _wire_file(parts, f"get {kind}", make, ["visit", "chosen"], "failed", folder)


def _wire_file(
    parts: dict[str, Any],
    button: str,
    make: Callable[..., tuple[str, bytes]],
    asked: list[str],
    failed: str,
    folder: Path,
) -> None:
    """Let a button hand out what ``make`` makes of some parts' values."""

    def hand_out(*given: Any) -> tuple[Any, str]:
        try:
            name, content = make(*given)
        except InputError as error:
            return None, states.problem("This file cannot be made", str(error))
        return save_bytes_to_cache(content, name, str(folder)), ""

    made = parts[button].click(
        hand_out,
        [parts[name] for name in asked],
        [parts["download"], parts[failed]],
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=parts[failed],
        concurrency_limit=_AT_ONCE,
        concurrency_id=EXPORT,
    )
    made.success(None, None, None, js=_PRESS, api_visibility="private")


def _wire_jobs(parts: dict[str, Any], events: Events) -> None:
    shared: dict[str, Any] = {
        "outputs": _reached(parts),
        "api_visibility": "private",
        "show_progress": "hidden",
        "concurrency_limit": None,
    }
    for kind in ("check", "refine"):

        async def search(
            visit: Visit | None, minutes: float, kind: Kind = kind
        ) -> AsyncIterator[dict[Any, Any]]:
            async with aclosing(events.search(visit, kind, minutes)) as answers:
                async for updates in answers:
                    yield _for(parts, updates)

        parts[kind].click(search, [parts["visit"], parts["minutes"]], **shared)

    async def train(
        visit: Visit | None, number: int | None, minutes: float
    ) -> AsyncIterator[dict[Any, Any]]:
        async with aclosing(events.train(visit, number, minutes)) as answers:
            async for updates in answers:
                yield _for(parts, updates)

    parts["train"].click(train, [parts["visit"], parts["network"], parts["minutes"]], **shared)
    parts["cancel"].click(
        events.cancel, parts["visit"], None, api_visibility="private", queue=False
    )


def _wire_use(parts: dict[str, Any], events: Events, folder: Path) -> None:
    _wire_file(parts, "get network", events.network, ["visit"], "missing", folder)

    def picture(visit: Visit | None, file: str | None, request: gr.Request) -> dict[Any, Any]:
        return _for(parts, events.picture(visit, file, request.session_hash))

    gr.on(
        [parts["picture"].upload, parts["picture"].clear],
        picture,
        [parts["visit"], parts["picture"]],
        parts["answer"],
        api_visibility="private",
        show_progress="minimal",
        concurrency_limit=_AT_ONCE,
        concurrency_id=QUICK,
    )


def _reached(parts: dict[str, Any]) -> list[Any]:
    """Return the parts that updates speak of."""
    names = (
        "visit",
        "key",
        "told",
        "dataset",
        "result",
        "drawing",
        "tools",
        "chosen",
        "limits",
        "k",
        "params",
        "macs",
        "space",
        "network",
        "train",
        "check",
        "refine",
        "job",
        "cancel",
        "trained",
        "using",
        "picture",
        "answer",
    )
    return [parts[name] for name in names if name in parts]


def _for(parts: dict[str, Any], updates: Updates) -> dict[Any, Any]:
    """Return updates by name as updates by component; one at least, as Gradio wants it."""
    found = {
        parts[name]: gr.update(**value) if isinstance(value, dict) else value
        for name, value in updates.items()
        if name in parts
    }
    return found or {parts["told"]: gr.skip()}
