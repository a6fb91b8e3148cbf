"""What programs call: the endpoints of ``gradio_client`` and the tools of MCP.

Each function's docstring is the description that such a program, or the language model behind it,
is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any

import gradio as gr

from metad2a.errors import InputError, MetaD2AError
from metad2a.page import examples, values
from metad2a.page.bench import Bench, Running, Ticket, Waiting
from metad2a.page.described import open_source
from metad2a.page.uploads import Uploads
from metad2a.page.worker import Order, Outcome

if TYPE_CHECKING:
    from metad2a.page.backend import Backend, Work

_DATA = """
        file: A zip or tar archive with one folder of images per class: uploaded, or as a text
            "data:application/zip;base64,...".
        example: In the place of a file, the name of an example: "digits" or "shapes"."""
_LIMITS = """
        k: How many networks, 1 to 20.
        max_params: Most trainable parameters; 0 sets no limit.
        max_macs: Most multiply-adds for one image; 0 sets no limit."""
_CHECK_DATASET = f"""Say what is understood of a labelled image dataset; every image is looked at.

    Args:{_DATA}

    Returns:
        Numbers of images and classes, sizes, and every file skipped with the reason.
    """
_SUGGEST = f"""Suggest small neural networks predicted to do best on a labelled image dataset.

    It takes seconds and trains nothing.

    Args:{_DATA}{_LIMITS}

    Returns:
        The networks, best first, each with architecture, predicted accuracy in percent, its 90 %
        interval, parameters, MACs and a drawing (SVG); what was read; the nearest known datasets.
    """
_JOB = f"""

    Args:{_DATA}{_LIMITS}
        minutes: Time to spend, {values.MINUTES[0]:g} to {values.MINUTES[1]:g} minutes.

    Returns:
        The networks, best first, with what was measured on images held out.
    """
_CHECK = f"Train suggested networks on a labelled image dataset for a short time; rank them.{_JOB}"
_REFINE = f"Search on from suggested networks for a better one on a labelled image dataset.{_JOB}"


def endpoints(
    uploads: Uploads, bench: Bench, backend: Backend | None
) -> dict[str, Callable[..., Any]]:
    """Return the functions by name of their endpoint."""

    def check_dataset(
        request: gr.Request, file: gr.FileData | None = None, example: str = ""
    ) -> dict[str, Any]:
        from metad2a.datasets import check

        with _plainly(uploads), open_source(*_source(uploads, file, example, request)) as dataset:
            return check(dataset).to_dict()

    def suggest(
        request: gr.Request,
        file: gr.FileData | None = None,
        example: str = "",
        k: int = 5,
        max_params: int = 0,
        max_macs: int = 0,
    ) -> dict[str, Any]:
        from metad2a.suggestion import suggest as suggest_networks

        with _plainly(uploads):
            limits = _limits(k, max_params, max_macs)
            with open_source(*_source(uploads, file, example, request)) as dataset:
                result = suggest_networks(dataset, **limits)
            return {
                **result.to_dict(),
                "candidates": [{**one.to_dict(), "svg": one.draw()} for one in result],
            }

    found = {
        "suggest": _described(suggest, "suggest", _SUGGEST),
        "check_dataset": _described(check_dataset, "check_dataset", _CHECK_DATASET),
    }
    if backend is not None:
        found["check"] = _described(_job(uploads, bench, backend.check), "check", _CHECK)
        found["refine"] = _described(_job(uploads, bench, backend.refine), "refine", _REFINE)
    return found


def _job(uploads: Uploads, bench: Bench, work: Work) -> Callable[..., Any]:
    async def run(
        request: gr.Request,
        file: gr.FileData | None = None,
        example: str = "",
        k: int = 5,
        max_params: int = 0,
        max_macs: int = 0,
        minutes: float = 1.0,
    ) -> AsyncIterator[dict[str, Any]]:
        with _plainly(uploads):
            limits, time = _limits(k, max_params, max_macs), values.minutes(minutes)
            ticket = Ticket(
                Order(work, *_source(uploads, file, example, request), **limits, minutes=time)
            )
            async with contextlib.aclosing(bench.run(ticket)) as answers:
                async for one in answers:
                    if one is not None:
                        yield _told(one)

    return run


def _told(one: Waiting | Running | Outcome) -> dict[str, Any]:
    """Return where a job stands, or what it found, as plain values."""
    if isinstance(one, Waiting):
        return {"state": "waiting", "place": one.place, "seconds": one.seconds}
    if isinstance(one, Running):
        return {
            "state": "running",
            "fraction": one.fraction,
            "stage": one.stage,
            "seconds": one.seconds,
        }
    return {
        "state": "done",
        "seconds": one.seconds,
        "candidates": [{**c.to_dict(), "svg": c.draw()} for c in one.candidates],
    }


def _described(function: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    function.__name__, function.__doc__ = name, text
    return function


def _limits(k: Any, max_params: Any, max_macs: Any) -> dict[str, Any]:
    return {
        "k": values.whole("k", k, *values.NETWORKS),
        "max_params": values.limit("max_params", max_params),
        "max_macs": values.limit("max_macs", max_macs),
    }


def _source(uploads: Uploads, file: Any, example: Any, request: gr.Request) -> tuple[str, bool]:
    """Return the upload's path or the example's name, and which of both it is."""
    known = ", ".join(examples.names())
    if not isinstance(example, str):
        raise InputError(f"example={values.shown(example)} must be a text: one of {known}.")
    if (file is None) == (example == ""):
        raise InputError(f"Give either a file or the name of an example: {known}.")
    if file is None:
        return example, False
    path = file.get("path") if isinstance(file, dict) else None
    if not isinstance(path, str):
        # Tools of MCP hand files over as text.
        path = uploads.take(file if isinstance(file, str) else "")
    return str(uploads.claim(path, request.session_hash)), True


@contextlib.contextmanager
def _plainly(uploads: Uploads) -> Iterator[None]:
    """Hand errors that are the caller's to mend on as they are, without paths of this server."""
    try:
        yield
    except MetaD2AError as error:
        raise gr.Error(uploads.scrub(str(error)), print_exception=False) from error
