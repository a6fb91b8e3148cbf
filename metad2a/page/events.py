"""What the page does when someone uploads, moves a slider, asks for a file or starts a job.

Every function returns updates by name of a part of the page; :mod:`metad2a.page.layout` knows the
parts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metad2a.errors import InputError, MetaD2AError
from metad2a.page import examples, states, values
from metad2a.page.bench import Bench
from metad2a.page.choices import choices as suggested
from metad2a.page.dataset_view import dataset_view
from metad2a.page.described import describe_source
from metad2a.page.downloads import FILES
from metad2a.page.jobs import Job
from metad2a.page.orders import Order, Outcome
from metad2a.page.result_view import (
    accuracy,
    chosen_style,
    list_view,
    megabytes,
    offered,
    suggestion_view,
)
from metad2a.page.searching import Found, Kind, SearchOrder, work_of
from metad2a.page.trained_view import answer_view, trained_view
from metad2a.page.training import ZIP, TrainedHere, TrainOrder
from metad2a.page.uploads import Uploads
from metad2a.page.visit import Visit
from metad2a.result import CostLimits

if TYPE_CHECKING:
    from metad2a.page.backend import Backend

Updates = dict[str, Any]
AUTOMATIC = 0
"""The number that stands for the network that is best in the time."""
_BYTES = 4
"""Of a parameter in a file."""
_LATENCY = re.compile(r"max_latency_ms=(\d+(?:\.\d+)?)")
"""How a refusal names a limit that visitors know by another name."""
_LOST = "Your dataset is no longer kept here: after an hour everything is deleted. Upload it again."
_NO_ROOM = "This server has no room for a network now. Try again later."


class Events:
    """The page's answers; one for all visitors, whose own things are in their visits."""

    def __init__(self, uploads: Uploads, bench: Bench, backend: Backend | None) -> None:
        self._uploads, self._bench, self._backend = uploads, bench, backend

    # -- the dataset and the list ------------------------------------------------------------

    def upload(
        self, visit: Visit | None, file: str | None, k: int, space: str, session: str | None
    ) -> Iterator[Updates]:
        """Read an upload and suggest; without one, go back to the beginning."""
        if file is None:
            yield from _left(visit, states.EMPTY)
            return
        try:
            path = str(self._uploads.claim(file, session))
        except InputError as error:
            yield from _left(visit, states.problem("This file cannot be used", str(error)))
            return
        yield from self._read(visit, path, True, k, space)

    def example(self, visit: Visit | None, name: str, k: int, space: str) -> Iterator[Updates]:
        """Read an example and suggest."""
        yield from self._read(visit, name, False, k, space)

    def other_space(self, visit: Visit | None, k: int, space: str) -> Iterator[Updates]:
        """Suggest anew in another space; what was trained stays."""
        if visit is None:  # The choice is for what will be uploaded.
            yield {}
            return
        described = visit.described
        yield from self._read(visit, described.source, described.uploaded, k, space, visit.trained)

    def _read(
        self,
        before: Visit | None,
        source: str,
        uploaded: bool,
        k: int,
        space: str,
        trained: TrainedHere | None = None,
    ) -> Iterator[Updates]:
        name = Path(source).name if uploaded else examples.title(source)
        yield from _left(before, states.reading(name))
        try:
            described = describe_source(source, uploaded, values.space(space))
            visit = Visit(described, int(k), trained=trained)
        except MetaD2AError as error:
            yield _beginning(
                states.problem("This cannot be used", self._uploads.scrub(str(error)))
                + states.EMPTY
            )
            return
        key = self._uploads.visits.keep(visit)
        yield {**_whole(visit), "key": key}

    def again(self, key: str) -> Updates:
        """Show what a visitor saw before their page was loaded again."""
        visit = self._uploads.visits.find(key)
        if visit is None:
            return {}
        shown = _whole(visit)
        space = {**shown["space"], "value": visit.space}
        return {**shown, "space": space, "k": {"value": visit.wanted}}

    def limit(
        self, visit: Visit | None, k: int, size: float, macs: float, time: float | None
    ) -> Updates:
        """Make the list anew under other limits: megabytes, millions of MACs, milliseconds."""
        if visit is None:
            return _beginning(states.note(_LOST))
        ends = _ranges(visit)
        most = _most(size, ends["size"])
        try:
            limits = CostLimits(
                None if most is None else most // _BYTES,
                _most(macs, ends["macs"]),
                values.milliseconds(time),
            )
            if limits == visit.result.limits and int(k) == visit.wanted and not visit.refused:
                return {}
            visit.limit(int(k), limits)
        except InputError as error:
            visit.refused = True
            words = _LATENCY.sub(r"\1 ms", str(error))
            return {
                "result": states.problem("No network fits these limits", words),
                "list": "",
                "tools": _shown(False),
            }
        visit.refused = False
        return {**_listed(visit), **({} if visit.job else _job(visit))}

    def choose(self, visit: Visit | None, rank: int | None) -> Updates:
        """Choose a network of the list, to be trained or taken along."""
        if visit is None or rank not in _ranks(visit):
            return {}
        return {
            "chosen": {"value": rank},
            "network": {"value": rank},
            "mark": chosen_style(rank),
        }

    # -- jobs --------------------------------------------------------------------------------

    async def search(self, visit: Visit | None, kind: Kind, minutes: float) -> Updates:
        """Begin to check or refine, which puts measurements beside the predictions."""
        if visit is None or self._backend is None:
            return _beginning(states.note(_LOST))
        work, k = work_of(self._backend, kind, visit.wanted), visit.wanted
        return self._begin(visit, lambda about: SearchOrder(work=work, k=k, **about), minutes)

    async def train(self, visit: Visit | None, number: int | None, minutes: float) -> Updates:
        """Begin to train a network."""
        if visit is None or self._backend is None:
            return _beginning(states.note(_LOST))
        work = self._backend.train
        return self._begin(
            visit,
            lambda about: TrainOrder(work=work, network=_named(visit, number), **about),
            minutes,
        )

    def _begin(self, visit: Visit, make: Callable[[Updates], Order], minutes: float) -> Updates:
        """Begin the job that ``make`` makes of what all jobs have in common.

        A visitor has one at a time: where one was begun in another tab, it is shown.
        """
        if visit.job is None:
            try:
                place = self._uploads.place()
            except OSError:
                return {"job": states.problem("This cannot be started", _NO_ROOM)}
            try:
                about = {**_about(visit), "minutes": values.minutes(minutes), "place": place}
                over = partial(self._over, visit, place)
                visit.job = Job(self._bench, make(about), over)
            except InputError as error:
                self._uploads.discard(place)
                return {"job": states.problem("This cannot be started", str(error))}
            self._uploads.visits.keep(visit)
        return _job(visit)

    def look(self, visit: Visit | None) -> Updates:
        """Show how a visitor's job stands, or what it brought."""
        if visit is None:
            return {}
        if visit.job is None:
            return {**_listed(visit), **_shown_training(visit), **_job(visit)}
        return {"job": _standing(visit.job)}

    def _over(
        self,
        visit: Visit,
        place: Path,
        outcome: Outcome | InputError | OSError | None,
        early: bool,
    ) -> None:
        """Keep what a job brought, and tell how it ended; until then pages see the job."""
        try:
            before = None
            if isinstance(outcome, OSError):
                visit.ended = states.problem("This cannot be started", _NO_ROOM)
            elif isinstance(outcome, InputError):
                words = self._uploads.scrub(str(outcome))
                visit.ended = states.problem("The job could not be done", words)
            elif isinstance(outcome, TrainedHere):
                visit.ended, before = "", visit.learnt(outcome)
            elif isinstance(outcome, Found) and any(one.measured for one in outcome.candidates):
                stopped = "Stopped early; these are the results until then."
                visit.ended, before = states.note(stopped) if early else "", visit.found(outcome)
            else:
                why = "Stopped" if early else "The time was too short to finish a network"
                visit.ended = states.note(f"{why}. Nothing was measured, so the predictions stand.")
            if before is not None:
                self._uploads.discard(before.folder.parent)
            if visit.trained is None or visit.trained.folder.parent != place:
                self._uploads.discard(place)
            self._uploads.visits.keep(visit)
        finally:
            visit.job = None

    def cancel(self, visit: Visit | None) -> None:
        """End a visitor's job, wherever it is."""
        if visit is not None and visit.job is not None:
            visit.job.cancel()

    # -- files and pictures ------------------------------------------------------------------

    def file(self, visit: Visit | None, kind: str, rank: int | None) -> tuple[str, bytes]:
        """Return the name and the content of a file to take along.

        Raises:
            InputError: there is nothing to take, or it cannot be made.
        """
        if visit is None or rank is None or rank not in _ranks(visit):
            raise InputError(_LOST)
        _, name, make = FILES[kind]
        try:
            return name, make(visit, visit.result[rank - 1])
        except MetaD2AError as error:
            raise InputError(self._uploads.scrub(str(error))) from error

    def network(self, visit: Visit | None) -> tuple[str, bytes]:
        """Return the name and the content of the trained network's folder as one file.

        Raises:
            InputError: there is none, or it is no longer there.
        """
        if visit is None or visit.trained is None:
            raise InputError(_LOST)
        return ZIP, visit.trained.zipped()

    def picture(self, visit: Visit | None, file: str | None, session: str | None) -> Updates:
        """Name what a picture shows."""
        from metad2a.page.attempt import attempt

        if file is None:
            return {"answer": ""}
        if visit is None or visit.trained is None:
            return {"answer": states.note(_LOST)}
        try:
            path = self._uploads.claim(file, session)
            return {"answer": answer_view(*attempt(visit.trained, path))}
        except MetaD2AError as error:
            words = self._uploads.scrub(str(error))
            return {"answer": states.problem("This picture cannot be named", words)}


def _left(visit: Visit | None, told: str) -> Iterator[Updates]:
    """Show the page without any dataset, and let go of what was there."""
    yield _beginning(told)
    # Only now has the page stopped looking.
    if visit is not None and visit.job is not None:
        visit.job.leave()


def _beginning(told: str) -> Updates:
    """Return the page without any dataset."""
    return {
        "told": {"value": told, **_shown(True)},
        "about": _shown(True),
        "result": "",
        "list": "",
        "mark": "",
        "dataset": "",
        "job": "",
        "trained": "",
        "answer": "",
        "picture": {"value": None},
        "tools": _shown(False),
        "limits": _shown(False),
        "using": _shown(False),
        "visit": None,
        "key": "",
        **_busy(False),
    }


def _whole(visit: Visit) -> Updates:
    """Return the page with all that is known in a visit."""
    sizes = _ranges(visit)
    limits = visit.result.limits
    size = None if limits.max_params is None else _BYTES * limits.max_params
    now = {"size": size, "macs": limits.max_macs}
    return {
        "visit": visit,
        "told": _shown(False),
        "about": _shown(False),
        "dataset": dataset_view(visit.described),
        **_listed(visit),
        **_shown_training(visit),
        "limits": _shown(True),
        **_job(visit),
        "time": {"value": limits.max_latency_ms},
        **{
            name: {
                "minimum": low,
                "maximum": high,
                "value": high if (limit := now[name]) is None else limit / 1e6,
            }
            for name, (low, high) in sizes.items()
        },
    }


def _listed(visit: Visit) -> Updates:
    choices = [
        (
            f"{one.rank}. {accuracy(one):.0f} %, {megabytes(one.bytes)}, {one.resolution} px",
            one.rank,
        )
        for one in offered(visit.result, visit.k, visit.searched)
    ]
    best = suggested(visit.result, visit.searched).best.rank
    by_time = [("The best for the time", AUTOMATIC)] if _by_time(visit) else []
    return {
        "result": suggestion_view(visit.result, visit.searched),
        "list": list_view(visit.result, visit.k, visit.searched),
        "mark": "",
        "tools": _shown(True),
        "chosen": {"choices": choices, "value": best},
        "network": {
            "choices": [*by_time, *choices],
            "value": AUTOMATIC if by_time else best,
        },
    }


def _ranks(visit: Visit) -> list[int]:
    """Return the ranks of the networks that can be chosen."""
    return [one.rank for one in offered(visit.result, visit.k, visit.searched)]


def _by_time(visit: Visit) -> bool:
    """Whether a training may choose its network by the time, which knows no time of a picture."""
    return visit.pretrained and visit.result.limits.max_latency_ms is None


def _shown_training(visit: Visit) -> Updates:
    """Return the part of the page about the network that was trained, if one was."""
    trained = visit.trained
    return {
        "trained": "" if trained is None else trained_view(trained),
        "using": _shown(trained is not None),
        "picture": {"value": None},
        "answer": "",
    }


def _about(visit: Visit) -> dict[str, Any]:
    """Return what all orders of a visit have in common."""
    limits = visit.result.limits
    return {
        "source": visit.described.source,
        "uploaded": visit.described.uploaded,
        "space": visit.space,
        "max_params": limits.max_params,
        "max_macs": limits.max_macs,
        "max_latency_ms": limits.max_latency_ms,
    }


def _named(visit: Visit, number: int | None) -> str | None:
    """Return the string of a network by its number in the list; None: chosen for the time.

    Raises:
        InputError: there is none of this number.
    """
    if number == AUTOMATIC and _by_time(visit):
        return None
    if number is None or number not in _ranks(visit):
        known = ", ".join(str(rank) for rank in _ranks(visit))
        raise InputError(f"There is no network {number} in the list; choose one of {known}.")
    return visit.result[number - 1].architecture


def _job(visit: Visit) -> Updates:
    """Return the part of the page about jobs: the one that runs, or how the last one ended."""
    if visit.job is None:
        return {"job": visit.ended + states.learnt(visit.lines), **_busy(False)}
    minutes = {"minutes": {"value": visit.job.order.minutes}}
    return {"job": _standing(visit.job), **minutes, **_busy(True)}


def _standing(job: Job) -> str:
    """Return how a job stands, for a page that will look again."""
    return states.going_on(job.look())


def _busy(busy: bool) -> Updates:
    return {
        "space": {"interactive": not busy},
        "train": {"interactive": not busy},
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
    smallest = SPACES.get(visit.space).smallest(len(visit.described.counts))
    return {
        "size": _ends(_BYTES * smallest.params, max(one.bytes for one in first), 1e5),
        "macs": _ends(smallest.macs, max(one.macs for one in first), 1e6),
    }


def _ends(low: float, high: float, step: float) -> tuple[float, float]:
    """Round a slider's ends up to its steps, one of which it has at least; say them in millions."""
    first = math.ceil(low / step)
    last = max(math.ceil(high / step), first + 1)
    return round(first * step / 1e6, 2), round(last * step / 1e6, 2)


def _most(value: float, ends: tuple[float, float]) -> int | None:
    """Return a slider's limit; its upper end stands for none."""
    return None if value >= ends[1] else int(max(value, ends[0]) * 1e6)
