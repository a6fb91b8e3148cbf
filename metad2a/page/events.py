"""What the page does when someone uploads, moves a slider, asks for a file or starts a job.

Every function returns updates by name of a part of the page; :mod:`metad2a.page.layout` knows the
parts.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError, MetaD2AError
from metad2a.page import examples, states, values
from metad2a.page.bench import Bench, Running, Waiting
from metad2a.page.dataset_view import dataset_view
from metad2a.page.described import describe_source
from metad2a.page.downloads import FILES
from metad2a.page.result_view import accuracy, result_view
from metad2a.page.uploads import Uploads
from metad2a.page.visit import Kind, Visit
from metad2a.page.worker import Outcome

if TYPE_CHECKING:
    from metad2a.page.backend import Backend

Updates = dict[str, Any]
_LOST = "Your dataset is no longer kept here: after an hour everything is deleted. Upload it again."


class Events:
    """The page's answers; one for all visitors, whose own things are in their visits."""

    def __init__(self, uploads: Uploads, bench: Bench, backend: Backend | None) -> None:
        self._uploads, self._bench, self._backend = uploads, bench, backend

    def upload(self, file: str | None, k: int, session: str | None) -> Iterator[Updates]:
        """Read an upload and suggest; without one, go back to the beginning."""
        if file is None:
            yield _beginning(states.EMPTY)
            return
        try:
            path = str(self._uploads.claim(file, session))
        except InputError as error:
            yield _beginning(states.problem("This file cannot be used", str(error)))
            return
        yield from self._read(path, True, k)

    def example(self, name: str, k: int) -> Iterator[Updates]:
        """Read an example and suggest."""
        yield from self._read(name, False, k)

    def _read(self, source: str, uploaded: bool, k: int) -> Iterator[Updates]:
        name = Path(source).name if uploaded else examples.title(source)
        yield _beginning(states.reading(name))
        try:
            described = describe_source(source, uploaded)
            visit = Visit(described, described.first, int(k))
            visit.limit(int(k), None, None)
        except InputError as error:
            yield _beginning(
                states.problem("This cannot be used", self._uploads.scrub(str(error)))
                + states.EMPTY
            )
            return
        sizes = _ranges(visit)
        yield {
            "visit": visit,
            "told": _shown(False),
            "dataset": dataset_view(described),
            **_listed(visit),
            "limits": _shown(True),
            "job": "",
            **{
                name: {"minimum": low, "maximum": high, "value": high}
                for name, (low, high) in sizes.items()
            },
        }

    def limit(self, visit: Visit | None, k: int, params: float, macs: float) -> Updates:
        """Make the list anew under other limits."""
        if visit is None:
            return _beginning(states.note(_LOST))
        space = _ranges(visit)
        try:
            visit.limit(int(k), _most(params, space["params"]), _most(macs, space["macs"]))
        except InputError as error:
            return {
                "result": states.problem("No network fits these limits", str(error)),
                "tools": _shown(False),
            }
        return {**_listed(visit), "job": ""}

    async def run(
        self, visit: Visit | None, kind: Kind, minutes: float
    ) -> AsyncGenerator[Updates, None]:
        """Wait in line, do a job, and put its measurements in the place of the predictions."""
        if visit is None or self._backend is None:
            yield _beginning(states.note(_LOST))
            return
        try:
            ticket = visit.order(self._backend, kind, values.minutes(minutes))
        except InputError as error:
            yield {"job": states.problem("This cannot be started", str(error))}
            return
        outcome: Outcome | None = None
        try:
            yield {**_busy(True), "job": states.note("Starting.")}
            # Where the visitor leaves, the job must end now and not when memory is tidied up.
            async with aclosing(self._bench.run(ticket)) as answers:
                async for one in answers:
                    if isinstance(one, Waiting):
                        yield {"job": states.waiting(one)}
                    elif isinstance(one, Running):
                        yield {"job": states.running(one, ticket.order.minutes)}
                    else:
                        outcome = one
        except InputError as error:
            yield {
                **_busy(False),
                "job": states.problem("The job could not be done", self._uploads.scrub(str(error))),
            }
            return
        finally:
            visit.ticket = None
        if outcome is None or not any(one.measured for one in outcome.candidates):
            why = "Stopped" if ticket.cancelled else "The time was too short to finish a network"
            yield {
                **_busy(False),
                "job": states.note(f"{why}. Nothing was measured, so the predictions stand."),
            }
            return
        visit.found(outcome)
        stopped = (
            states.note("Stopped early; these are the results until then.")
            if ticket.cancelled
            else ""
        )
        lines = [(str(one.rank), one.measured.curve) for one in visit.result if one.measured]
        yield {**_busy(False), **_listed(visit), "job": stopped + states.learnt(lines)}

    def cancel(self, visit: Visit | None) -> None:
        """End a visitor's job, wherever it is."""
        if visit is not None and visit.ticket is not None:
            visit.ticket.cancel()

    def file(self, visit: Visit | None, kind: str, rank: int | None) -> tuple[str, bytes]:
        """Return the name and the content of a file to take along.

        Raises:
            InputError: there is nothing to take, or it cannot be made.
        """
        if visit is None or rank is None or not 1 <= rank <= visit.k:
            raise InputError(_LOST)
        _, name, make = FILES[kind]
        try:
            return name, make(visit.described, visit.result, visit.k, visit.result[rank - 1])
        except MetaD2AError as error:
            raise InputError(self._uploads.scrub(str(error))) from error


def _beginning(told: str) -> Updates:
    """Return the page without any dataset."""
    return {
        "told": {"value": told, **_shown(True)},
        "dataset": "",
        "result": "",
        "job": "",
        "tools": _shown(False),
        "limits": _shown(False),
        "visit": None,
        **_busy(False),
    }


def _listed(visit: Visit) -> Updates:
    choices = [
        (f"{one.rank}. {accuracy(one):.1f} %, {one.params / 1e6:.2f} M parameters", one.rank)
        for one in visit.result[: visit.k]
    ]
    return {
        "result": result_view(visit.result, visit.k),
        "tools": _shown(True),
        "chosen": {"choices": choices, "value": 1},
    }


def _busy(busy: bool) -> Updates:
    return {
        "check": {"interactive": not busy},
        "refine": {"interactive": not busy},
        "cancel": _shown(busy),
    }


def _shown(shown: bool) -> dict[str, bool]:
    return {"visible": shown}


def _ranges(visit: Visit) -> dict[str, tuple[float, float]]:
    """Return the sliders' ends, in millions: the smallest network, and the largest compared."""
    from metad2a.spaces import SPACES

    first = visit.described.first
    smallest = SPACES.get(first[0].space).smallest(len(visit.described.counts))
    return {
        "params": _ends(smallest.params, max(one.params for one in first), 1e4),
        "macs": _ends(smallest.macs, max(one.macs for one in first), 1e6),
    }


def _ends(low: float, high: float, step: float) -> tuple[float, float]:
    """Round a slider's ends up to its steps, and say them in millions."""
    return (
        round(math.ceil(low / step) * step / 1e6, 2),
        round(math.ceil(high / step) * step / 1e6, 2),
    )


def _most(value: float, ends: tuple[float, float]) -> int | None:
    """Return a slider's limit; its upper end stands for none."""
    return None if value >= ends[1] else int(max(value, ends[0]) * 1e6)
