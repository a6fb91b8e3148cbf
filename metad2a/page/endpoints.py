"""What programs call: the endpoints of ``gradio_client`` and the tools of MCP.

Each function's docstring is the description that such a program, or the language model behind it,
is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache

from metad2a.errors import InputError, MetaD2AError
from metad2a.page import examples, values
from metad2a.page.bench import Bench, Running, Ticket, Waiting
from metad2a.page.described import open_source
from metad2a.page.orders import Order, Outcome
from metad2a.page.searching import Found, Kind, SearchOrder, work_of
from metad2a.page.training import ZIP, TrainedHere, TrainOrder
from metad2a.page.uploads import Uploads

if TYPE_CHECKING:
    from metad2a.candidate import Candidate
    from metad2a.page.backend import Backend

_DATA = """
        file: A zip or tar archive with one folder of images per class: uploaded, or as a text
            "data:application/zip;base64,...".
        example: In the place of a file, the name of an example: "digits" or "shapes"."""
_COSTS = """
        max_params: Most trainable parameters; 0 sets no limit.
        max_macs: Most multiply-adds for one image; 0 sets no limit."""
_LIMITS = f"""
        k: How many networks, 1 to 20.{_COSTS}"""
_SPACE = f"""
        space: The search space: {", ".join(values.SPACES)}."""
_MINUTES = f"""
        minutes: Time to spend, {values.MINUTES[0]:g} to {values.MINUTES[1]:g} minutes."""
_CHECK_DATASET = f"""Say what is understood of a labelled image dataset; every image is looked at.

    Args:{_DATA}

    Returns:
        Numbers of images and classes, sizes, and every file skipped with the reason.
    """
_SUGGEST = f"""Suggest small neural networks predicted to do best on a labelled image dataset.

    It takes seconds and trains nothing. Accuracies are for a training of {values.TRAINING:g}
    minutes on this server.

    Args:{_DATA}{_LIMITS}{_SPACE}

    Returns:
        The networks, best first, each with architecture, predicted accuracy in percent, its 90 %
        interval, parameters, MACs, resolution, class names and a drawing (SVG); what was read; in
        spaces of cells, the nearest known datasets.
    """
_JOB = f"""

    Args:{_DATA}{_LIMITS}{_MINUTES}{_SPACE}

    Returns:
        The networks, those measured on images held out first; and the best, trained, as "train"
        returns it.
    """
_CHECK = f"Train several suggested networks on a labelled image dataset, to compare them.{_JOB}"
_REFINE = f"Look on from suggested networks for a better one on a labelled image dataset.{_JOB}"
_TRAIN = f"""Train one image classifier on a labelled image dataset, ready to use.

    Args:{_DATA}{_MINUTES}
        network: The number of a suggestion ("1" is the first), the string of a network, or empty
            for what is best in the time.{_COSTS}{_SPACE}

    Returns:
        The network, accuracy and balanced accuracy in percent on images held out, beside what was
        predicted; and a zip with weights, code, ONNX, class names and a card.
    """


def endpoints(
    uploads: Uploads, bench: Bench, backend: Backend | None
) -> dict[str, Callable[..., Any]]:
    """Return the functions by name of their endpoint."""

    def check_dataset(
        request: gr.Request, file: gr.FileData | None = None, example: str = ""
    ) -> dict[str, Any]:
        from metad2a.datasets import check

        with _plainly(uploads), open_source(*_source(uploads, file, example, request)) as dataset:
            return check(dataset, quality=True).to_dict()

    def suggest(
        request: gr.Request,
        file: gr.FileData | None = None,
        example: str = "",
        k: int = 5,
        max_params: int = 0,
        max_macs: int = 0,
        space: str = values.SPACE,
    ) -> dict[str, Any]:
        from metad2a.suggestion import suggest as suggest_networks

        with _plainly(uploads):
            limits = {
                "k": _networks(k),
                **_limits(max_params, max_macs),
                "minutes": values.TRAINING,
                "space": values.space(space),
            }
            with open_source(*_source(uploads, file, example, request)) as dataset:
                result = suggest_networks(dataset, **limits)
            return {**result.to_dict(), "candidates": [_drawn(one) for one in result]}

    found = {
        "suggest": _described(suggest, "suggest", _SUGGEST),
        "check_dataset": _described(check_dataset, "check_dataset", _CHECK_DATASET),
    }
    if backend is not None:
        check = _search(uploads, bench, backend, "check")
        refine = _search(uploads, bench, backend, "refine")
        found["check"] = _described(check, "check", _CHECK)
        found["refine"] = _described(refine, "refine", _REFINE)
        found["train"] = _described(_train(uploads, bench, backend), "train", _TRAIN)
    return found


def _search(uploads: Uploads, bench: Bench, backend: Backend, kind: Kind) -> Callable[..., Any]:
    async def run(
        request: gr.Request,
        file: gr.FileData | None = None,
        example: str = "",
        k: int = 5,
        max_params: int = 0,
        max_macs: int = 0,
        minutes: float = 1.0,
        space: str = values.SPACE,
    ) -> AsyncGenerator[dict[str, Any], None]:
        with _plainly(uploads):
            k = _networks(k)
            about = _about(uploads, file, example, request, max_params, max_macs, minutes, space)
            with _place(uploads) as place:
                order = SearchOrder(work=work_of(backend, kind, k), k=k, place=place, **about)
                async with contextlib.aclosing(_done(uploads, bench, order)) as answers:
                    async for one in answers:
                        yield one

    return run


def _train(uploads: Uploads, bench: Bench, backend: Backend) -> Callable[..., Any]:
    async def run(
        request: gr.Request,
        file: gr.FileData | None = None,
        example: str = "",
        minutes: float = values.TRAINING,
        network: str = "",
        max_params: int = 0,
        max_macs: int = 0,
        space: str = values.SPACE,
    ) -> AsyncGenerator[dict[str, Any], None]:
        with _plainly(uploads):
            name = values.network(network)
            about = _about(uploads, file, example, request, max_params, max_macs, minutes, space)
            with _place(uploads) as place:
                order = TrainOrder(work=backend.train, network=name, place=place, **about)
                async with contextlib.aclosing(_done(uploads, bench, order)) as answers:
                    async for one in answers:
                        yield one

    return run


@contextlib.contextmanager
def _place(uploads: Uploads) -> Iterator[Path]:
    """Give a job a folder, which goes with it."""
    try:
        place = uploads.place()
    except OSError as error:
        raise InputError("This server has no room for a job now. Try again later.") from error
    try:
        yield place
    finally:
        uploads.discard(place)


def _about(
    uploads: Uploads,
    file: Any,
    example: Any,
    request: gr.Request,
    max_params: Any,
    max_macs: Any,
    minutes: Any,
    space: Any,
) -> dict[str, Any]:
    """Return what all jobs have in common, checked."""
    found = {
        **_limits(max_params, max_macs),
        "minutes": values.minutes(minutes),
        "space": values.space(space),
    }
    source, uploaded = _source(uploads, file, example, request)
    return {**found, "source": source, "uploaded": uploaded}


async def _done(
    uploads: Uploads, bench: Bench, order: Order
) -> AsyncGenerator[dict[str, Any], None]:
    """Do a job; yield where it stands, and its outcome, as plain values."""
    async with contextlib.aclosing(bench.run(Ticket(order))) as answers:
        async for one in answers:
            if isinstance(one, Outcome):
                yield _brought(uploads, one)
            elif one is not None:
                yield _told(one)


def _brought(uploads: Uploads, one: Outcome) -> dict[str, Any]:
    """Return an outcome as plain values."""
    if isinstance(one, Found):
        return {
            "state": "done",
            "seconds": one.seconds,
            "note": one.note,
            "candidates": [_drawn(candidate) for candidate in one.candidates],
            "trained": None if one.trained is None else _trained(uploads, one.trained),
        }
    if isinstance(one, TrainedHere):
        return {"state": "done", **_trained(uploads, one)}
    raise TypeError(f"an outcome of an unknown kind: {type(one).__name__}")


def _told(one: Waiting | Running) -> dict[str, Any]:
    """Return where a job stands as plain values."""
    if isinstance(one, Waiting):
        return {"state": "waiting", "place": one.place, "seconds": one.seconds}
    told = {
        "state": "running",
        "fraction": one.fraction,
        "stage": one.stage,
        "seconds": one.seconds,
        "left": one.left,
    }
    if one.epochs:
        told |= {"epoch": one.epoch, "epochs": one.epochs}
    return told | {"curve": [list(point) for point in one.curve]} if one.curve else told


def _trained(uploads: Uploads, one: TrainedHere) -> dict[str, Any]:
    """Return a trained network as plain values, with its folder as a file."""
    path = save_bytes_to_cache(one.zipped(), ZIP, str(uploads.folder))
    return {
        **one.told,
        "confusion": one.confusion.tolist(),
        "notes": list(one.notes),
        "zip": gr.FileData(path=str(path), orig_name=ZIP, mime_type="application/zip").model_dump(),
    }


def _drawn(one: Candidate) -> dict[str, Any]:
    """Return a candidate as plain values, with its drawing."""
    return {**one.to_dict(), "svg": one.draw()}


def _described(function: Callable[..., Any], name: str, text: str) -> Callable[..., Any]:
    function.__name__, function.__doc__ = name, text
    return function


def _networks(k: Any) -> int:
    return values.whole("k", k, *values.NETWORKS)


def _limits(max_params: Any, max_macs: Any) -> dict[str, Any]:
    return {
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
