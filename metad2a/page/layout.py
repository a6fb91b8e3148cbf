"""The parts of the page, where they stand, and which event of which part asks for what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
from metad2a.page.jobs import LOOK_SECONDS
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
_TAKE = (
    "<h2>Take it along</h2><p>The report is one HTML file that can be sent. Code and drawing are of "
    "one network, untrained.</p>"
)
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
_TIME = "Of one picture on this server, as measured, which takes some seconds. Empty: no limit."
_PRESS = "() => { document.querySelector('#m2-file a, a#m2-file, #m2-file')?.click(); }"
_REMEMBER = """(key) => {
  sessionStorage.setItem('metad2a', key);
  history.replaceState(null, '', location.pathname + location.search + (key && '#' + key));
  if (key && innerWidth < 769) document.getElementById('m2-answer')?.scrollIntoView();
  return key;
}"""
"""The key goes into the part of the address that no browser sends to a server."""
_RECALL = "() => location.hash.slice(1) || sessionStorage.getItem('metad2a') || ''"
_CHOOSE = """element.addEventListener('click', (event) => {
  const chosen = event.target.closest('button[data-rank], details[data-rank] > summary');
  if (!chosen) return;
  const rank = (chosen.dataset.rank ?? chosen.parentElement.dataset.rank);
  trigger('click', {rank: Number(rank)});
  if (chosen.tagName === 'BUTTON')
    document.getElementById('m2-train')?.scrollIntoView({behavior: 'smooth', block: 'center'});
});"""
"""A row that is opened, or a button, chooses its network; the button leads to the training."""
_LOOK = f"""const clock = setInterval(() => {{
  if (!element.isConnected) clearInterval(clock);
  else if (element.querySelector('.{states.GOES_ON}')) trigger('tick');
}}, {1000 * LOOK_SECONDS:.0f});"""
"""A job that is shown is looked at again, also by a page behind others, where a ``Timer`` rests."""


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
    with gr.Row(equal_height=False, elem_classes="m2-all"):
        with gr.Column(scale=1, min_width=280, elem_classes="m2-side"):
            _place_side(parts)
        with gr.Column(scale=3, min_width=320, elem_classes="m2-main"):
            parts["told"] = gr.HTML(states.EMPTY, elem_classes="m2-told")
            parts["result"] = gr.HTML(js_on_load=_CHOOSE, elem_classes="m2-result")
            with gr.Row(visible=False, equal_height=False, elem_classes="m2-tools") as tools:
                _place_tools(parts, jobs)
            parts["tools"] = tools
            if jobs:
                _place_trained(parts)
            parts["list"] = gr.HTML(js_on_load=_CHOOSE, elem_classes="m2-listed")
            parts["dataset"] = gr.HTML(elem_classes="m2-dataset")
            parts["mark"] = gr.HTML(elem_classes="m2-mark")
    return parts


def _place_side(parts: dict[str, Any]) -> None:
    """Place what a visitor gives: images, limits, the search space."""
    with gr.Column(elem_classes="m2-give"):
        gr.HTML(_IMAGES)
        parts["file"] = gr.File(
            label="Zip or tar, one folder per class",
            height=140,
            file_types=[".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".parquet"],
        )
        with gr.Column(elem_classes="m2-about") as parts["about"]:
            gr.HTML(states.may_be_given())
        gr.HTML(_EXAMPLES)
        with gr.Row():
            for name in examples.names():
                parts[f"example {name}"] = gr.Button(examples.title(name), size="sm", min_width=120)
    with gr.Column(visible=False, elem_classes="m2-limits") as parts["limits"]:
        gr.HTML("<h2>Your limits</h2>")
        parts["size"] = gr.Slider(
            0.0,
            8.0,
            value=8.0,
            step=0.1,
            label="Largest file, MB",
            info=HINTS["file"] + _NO_LIMIT,
        )
        parts["time"] = gr.Number(
            value=None, minimum=0, maximum=values.LONGEST_MS, label="Longest time, ms", info=_TIME
        )
        parts["macs"] = gr.Slider(
            0.0,
            300.0,
            value=300.0,
            step=1.0,
            label="Most MACs, millions",
            info=HINTS["MACs"] + _NO_LIMIT,
        )
        parts["k"] = gr.Slider(*values.NETWORKS, value=5, step=1, label="Networks listed")
    with gr.Accordion("Advanced", open=False, elem_classes="m2-advanced"):
        parts["space"] = gr.Dropdown(
            [(title, name) for name, title in values.SPACES.items()],
            value=values.SPACE,
            label="Search space",
            info="The family that networks are from.",
            filterable=False,
        )


def _place_tools(parts: dict[str, Any], jobs: bool) -> None:
    """Place what can be done with the list: train a network, take it along."""
    if jobs:
        with gr.Column(min_width=300, elem_classes="m2-work", elem_id="m2-train"):
            gr.HTML(_TRAIN)
            parts["network"] = gr.Dropdown([], label="Network to train", filterable=False)
            parts["minutes"] = gr.Slider(
                *values.MINUTES, value=values.TRAINING, step=0.1, label="Minutes"
            )
            parts["train"] = gr.Button("Start training", variant="primary")
            parts["job"] = gr.HTML(js_on_load=_LOOK)
            parts["cancel"] = gr.Button("Cancel", variant="stop", visible=False)
            with gr.Accordion("Compare several", open=False):
                gr.HTML(_WORK)
                with gr.Row():
                    parts["check"] = gr.Button("Check", min_width=100)
                    parts["refine"] = gr.Button("Refine", min_width=100)
    with gr.Column(min_width=300, elem_classes="m2-work"):
        gr.HTML(_TAKE)
        parts["chosen"] = gr.Dropdown([], label="Network", filterable=False)
        with gr.Row():
            for kind, (word, *_) in FILES.items():
                parts[f"get {kind}"] = gr.Button(word, size="sm", min_width=90)
        parts["download"] = gr.DownloadButton(elem_id="m2-file", elem_classes="m2-gone")
        parts["failed"] = gr.HTML()


def _place_trained(parts: dict[str, Any]) -> None:
    """Place the network that was trained, and what can be done with it."""
    parts["trained"] = gr.HTML(elem_classes="m2-trained")
    with gr.Column(visible=False, elem_classes="m2-work m2-using") as parts["using"]:
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
        visit: Visit | None, file: str | None, k: int, space: str, request: gr.Request
    ) -> Iterator[dict[Any, Any]]:
        for updates in events.upload(visit, file, k, space, request.session_hash):
            yield _for(parts, updates)

    def other_space(visit: Visit | None, k: int, space: str) -> Iterator[dict[Any, Any]]:
        for updates in events.other_space(visit, k, space):
            yield _for(parts, updates)

    def limit(
        visit: Visit | None, k: int, size: float, macs: float, time: float | None
    ) -> dict[Any, Any]:
        return _for(parts, events.limit(visit, k, size, macs, time))

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
            [parts["visit"], parts["file"], parts["k"], parts["space"]],
            **shared,
        ),
        parts["space"].input(other_space, [parts["visit"], parts["k"], parts["space"]], **shared),
    ]
    for name in examples.names():

        def example(
            visit: Visit | None, k: int, space: str, name: str = name
        ) -> Iterator[dict[Any, Any]]:
            for updates in events.example(visit, name, k, space):
                yield {**_for(parts, updates), parts["file"]: None}

        read.append(
            parts[f"example {name}"].click(
                example,
                [parts["visit"], parts["k"], parts["space"]],
                **{**shared, "outputs": [*reached, parts["file"]]},
            )
        )
    for one in read:
        one.then(None, parts["key"], parts["key"], js=_REMEMBER, api_visibility="private")
    page.load(lambda key: _for(parts, events.again(key)), parts["key"], **{**quiet, "js": _RECALL})
    # A slider that is dragged asks often; only the last question is worth an answer.
    limits = [parts[name] for name in ("visit", "k", "size", "macs", "time")]
    gr.on(
        [parts[name].input for name in ("k", "size", "macs")],
        limit,
        limits,
        **quiet,
        trigger_mode="always_last",
    )
    # Networks are timed for it, so a number is to be complete.
    gr.on(
        [parts["time"].submit, parts["time"].blur],
        limit,
        limits,
        **{**shared, "show_progress_on": parts["time"]},
        trigger_mode="always_last",
    )
    parts["chosen"].input(choose, [parts["visit"], parts["chosen"]], **quiet)
    for name in ("result", "list"):
        parts[name].click(choose_row, parts["visit"], **quiet)


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

        async def search(visit: Visit | None, minutes: float, kind: Kind = kind) -> dict[Any, Any]:
            return _for(parts, await events.search(visit, kind, minutes))

        parts[kind].click(search, [parts["visit"], parts["minutes"]], **shared)

    async def train(visit: Visit | None, number: int | None, minutes: float) -> dict[Any, Any]:
        return _for(parts, await events.train(visit, number, minutes))

    async def look(visit: Visit | None) -> dict[Any, Any]:
        return _for(parts, events.look(visit))

    parts["train"].click(train, [parts["visit"], parts["network"], parts["minutes"]], **shared)
    # A look is a short question of its own and needs no connection that stays.
    parts["job"].tick(look, parts["visit"], **shared, queue=False)
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
        "about",
        "result",
        "list",
        "mark",
        "dataset",
        "tools",
        "chosen",
        "limits",
        "k",
        "size",
        "macs",
        "time",
        "space",
        "network",
        "minutes",
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
