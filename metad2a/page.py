"""The web page: a zip of labelled images in, suggested networks with their drawings out.

Everything that the page needs comes from this machine: no fonts, scripts or usage statistics of
others. What a zip holds may be anybody's, so all text from it is escaped.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError
from metad2a.settings import LIMITS

if TYPE_CHECKING:
    import gradio as gr

_HEAD = """<h1>metad2a</h1>
<p>Neural networks for your own images, suggested in seconds. Nothing is trained on them, and they
are deleted from this machine within two hours.</p>"""
_HINT = """<div class="hint"><p>Put the images of each class into a folder of their own, zip the
folders, and upload the zip:</p>
<pre>flowers.zip
├─ daisy/  1.jpg  2.jpg  …
├─ rose/   1.jpg  2.jpg  …
└─ tulip/  1.jpg  2.jpg  …</pre>
<p>You get a short list of networks that are predicted to do best on them, each with its expected
test accuracy, its size and a drawing of its cell.</p></div>"""
_COLUMNS = ("Rank", "Accuracy, %", "90 % interval", "Parameters", "MACs", "Cell")
_CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
.head h1 { font-size: 1.7rem; font-weight: 650; letter-spacing: -.01em; margin: .4rem 0 .1rem; }
.head p { margin: 0 0 .6rem; max-width: 70ch; }
.head p, .hint p, .facts span, .read, .cells figcaption { color: var(--body-text-color) !important;
  opacity: .78; }
.hint p { margin: 0 0 .6rem; max-width: 62ch; }
.hint pre { margin: 0 0 .8rem; padding: .7rem .9rem; overflow-x: auto; line-height: 1.5; }
.hint pre, .facts div, .list, .problem { border: 1px solid var(--border-color-primary);
  border-radius: 8px; }
.problem { border-left: 4px solid #c0362c; padding: 10px 14px; overflow-wrap: anywhere;
  white-space: pre-line; }
.problem b { display: block; margin-bottom: 2px; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 10px; }
.facts div { padding: 8px 12px; overflow-wrap: anywhere; }
.facts b { display: block; font-size: 1.25rem; font-weight: 600; }
.facts span, .read, .cells figcaption { font-size: .85rem; }
.read { margin: .7rem 0 1rem; overflow-wrap: anywhere; }
/* Contained, a wide table scrolls in its box and does not widen the page of a phone. */
.list { overflow-x: auto; contain: inline-size; margin-bottom: 1rem; }
.list table { width: 100%; border-collapse: collapse; margin: 0; font-size: .9rem;
  font-variant-numeric: tabular-nums; }
.list table, .list tr { border: 0 !important; }
.list th, .list td { padding: 7px 12px; text-align: right; white-space: nowrap; border: 0; }
.list td { border-top: 1px solid var(--border-color-primary) !important; }
.list th { font-weight: 600; }
.list th:last-child, .list td:last-child { text-align: left; white-space: normal;
  min-width: 300px; overflow-wrap: anywhere; }
.list code { font-size: .78rem; background: none; border: 0; padding: 0; }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 330px), 1fr));
  gap: 14px; }
.cells figure { margin: 0; }
.cells svg { width: 100%; display: block; }
.cells figcaption { margin-top: 4px; }
"""


def build_page(suggest: Callable[..., Any] | None = None) -> gr.Blocks:
    """Return the page; :func:`launch` serves it.

    Args:
        suggest: what answers, called as ``suggest(path, k=, seed=, max_params=)``;
            :func:`metad2a.suggest` by default.
    """
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    import gradio as gr

    def show(file: str | None, k: int, max_params: float) -> str:
        try:
            return _found(_ask(suggest, file, k, max_params))
        except InputError as error:
            return _problem(_without_folder(str(error), file))

    def answer(file: str | None, k: int = 5, max_params: float = 0) -> dict[str, Any]:
        """Suggest networks for a zip of class folders; max_params=0 sets no limit."""
        try:
            result = _ask(suggest, file, k, max_params)
        except InputError as error:
            raise gr.Error(_without_folder(str(error), file), print_exception=False) from error
        return _as_json(result)

    page = gr.Blocks(title="metad2a", analytics_enabled=False, delete_cache=(3600, 3600))
    with page:
        gr.HTML(_HEAD, elem_classes="head")
        with gr.Row():
            with gr.Column(scale=1, min_width=280):
                file = gr.File(label="Zip of class folders", file_types=[".zip"], height=150)
                k = gr.Slider(1, 20, value=5, step=1, label="Networks")
                limit = gr.Number(0, label="Most parameters", info="0 for no limit", precision=0)
                button = gr.Button("Suggest", variant="primary")
            with gr.Column(scale=3, min_width=320):
                told = gr.HTML(_HINT, elem_classes="told")
        button.click(show, [file, k, limit], told, api_visibility="private")
        # Programs get JSON, and an error as an error; an endpoint needs components and a trigger.
        gr.Button(visible=False).click(
            answer, [file, k, limit], gr.JSON(visible=False), api_name="suggest"
        )
    return page


def launch(page: gr.Blocks, **options: Any) -> tuple[Any, str, str]:
    """Serve a page in the project's look.

    Args:
        page: what :func:`build_page` returned.
        **options: of ``gradio.Blocks.launch``, such as ``server_name`` and ``server_port``.

    Returns:
        Gradio's (application, local address, shared address).
    """
    import gradio as gr

    theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", radius_size="md",
        font=[gr.themes.Font("system-ui"), gr.themes.Font("sans-serif")],
        font_mono=[gr.themes.Font("ui-monospace"), gr.themes.Font("monospace")],
    )
    settings: dict[str, Any] = {
        "theme": theme, "css": _CSS, "footer_links": ["api"], "ssr_mode": False,
        "max_file_size": LIMITS.zip_bytes,
    }
    return page.launch(**(settings | options))


def _ask(
    suggest: Callable[..., Any] | None, file: str | None, k: int, max_params: float
) -> Any:
    if file is None:
        raise InputError("No file was given. Upload a zip with one folder of images per class.")
    if max_params < 0:
        raise InputError(f"The most parameters is {max_params:,.0f}. Give a number above 0, or 0 "
                         "for no limit.")
    if suggest is None:
        import metad2a

        suggest = metad2a.suggest
    return suggest(file, k=int(k), seed=0, max_params=int(max_params) or None)


def _without_folder(message: str, file: str | None) -> str:
    """Call the upload by its name: where it lies on the server is nobody's business."""
    if file is None:
        return message
    for folder in {Path(file).parent, Path(file).resolve().parent}:
        message = message.replace(f"{folder}{os.sep}", "").replace(str(folder), "the upload")
    return message


def _found(result: Any) -> str:
    return _facts(result) + _table(result) + _drawings(result)


def _facts(result: Any) -> str:
    report = result.report
    facts = [
        (f"{report.images:,}", "images"),
        (f"{report.classes:,}", "classes"),
        (f"{report.smallest_class[1]:,}", f"in the smallest class, {report.smallest_class[0]}"),
        (f"{report.largest_class[1]:,}", f"in the largest class, {report.largest_class[0]}"),
        (f"{result.seconds:.1f} s", "to read and suggest"),
    ]
    tiles = "".join(
        f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in facts
    )
    return f'<div class="facts">{tiles}</div><p class="read">{escape(str(report))}</p>'


def _table(result: Any) -> str:
    head = "".join(f"<th>{name}</th>" for name in _COLUMNS)
    rows = "".join(
        f"<tr><td>{s.rank}</td><td><b>{s.accuracy:.1f}</b></td>"
        f"<td>{s.interval[0]:.1f} to {s.interval[1]:.1f}</td><td>{s.params:,}</td>"
        f"<td>{s.macs:,}</td><td><code>{escape(s.architecture)}</code></td></tr>"
        for s in _each(result)
    )
    return (
        f'<div class="list"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _drawings(result: Any) -> str:
    figures = "".join(
        f"<figure>{s.draw()}<figcaption>{s.rank}. {s.accuracy:.1f} %, "
        f"{s.params / 1e6:.2f} M parameters, {s.macs / 1e6:.0f} M MACs</figcaption></figure>"
        for s in _each(result)
    )
    return f'<div class="cells">{figures}</div>'


def _problem(message: str) -> str:
    return f'<div class="problem" role="alert"><b>This cannot be used</b>{escape(message)}</div>'


def _as_json(result: Any) -> dict[str, Any]:
    keys = ("rank", "space", "architecture", "accuracy", "interval", "params", "macs")
    return {
        "candidates": [
            {key: getattr(s, key) for key in keys} | {"svg": s.draw()} for s in _each(result)
        ],
        "report": result.report.to_dict(),
        "seconds": result.seconds,
    }


def _each(result: Any) -> list[Any]:
    return [result[i] for i in range(len(result))]
