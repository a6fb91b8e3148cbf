"""One heavy job at a time: a line with room for a few, in which everyone sees their place."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from metad2a.errors import InputError
from metad2a.page.worker import Order, Outcome, Point, Worker

SEATS = 8
"""Jobs that may wait; more are turned away with a word."""
_LOOK_SECONDS = 0.3
_STOP_SECONDS = 5.0
"""How long a cancelled job may take to end with what it has, before it is ended without."""
_CURVE = 300
"""Points of the loss curve; where there are more, every other one goes."""
_GRACE_SECONDS = 90.0
"""What a job may take beside its budget, to start and to judge."""
_START_SECONDS = 10.0
"""What a job usually takes beside its budget, for the waiting time that is shown."""


@dataclass(frozen=True)
class Waiting:
    """A place in the line."""

    place: int
    """1 is next."""
    seconds: float
    """Until the job begins, about."""


@dataclass(frozen=True)
class Running:
    """How far a job is."""

    fraction: float
    stage: str
    seconds: float
    losses: tuple[tuple[float, float], ...]
    """(share of the job, loss) so far, where the job has losses."""


@dataclass(eq=False)
class Ticket:
    """A visitor's job, from the line to its end."""

    order: Order
    cancelled: bool = False
    began: float | None = None
    losses: list[tuple[float, float]] = field(default_factory=list)

    def cancel(self) -> None:
        """Ask for the end, wherever the job is."""
        self.cancelled = True


class Bench:
    """The line of jobs of one server, in the order of asking."""

    def __init__(self) -> None:
        self._line: list[Ticket] = []

    async def run(self, ticket: Ticket) -> AsyncGenerator[Waiting | Running | Outcome | None, None]:
        """Wait for the turn and do the job; closed early, it leaves the line and ends the job.

        Yields:
            Places in the line, then progress, last the outcome; None in its place where the job
            was cancelled before it had one.

        Raises:
            InputError: the line is full, or the job cannot be done.
        """
        if len(self._line) > SEATS:
            raise InputError(
                f"{SEATS} jobs are waiting already, which is all that this server "
                "takes. Try again in some minutes."
            )
        self._line.append(ticket)
        try:
            while self._line[0] is not ticket and not ticket.cancelled:
                yield Waiting(self._line.index(ticket), self._wait(ticket))
                await asyncio.sleep(_LOOK_SECONDS)
            if ticket.cancelled:
                yield None
                return
            async with aclosing(self._work(ticket)) as answers:
                async for one in answers:
                    yield one
        finally:
            self._line.remove(ticket)

    def _wait(self, ticket: Ticket) -> float:
        """Return about how many seconds the jobs ahead still take."""
        ahead = self._line[: self._line.index(ticket)]
        spent = time.monotonic() - (ahead[0].began or time.monotonic())
        return max(1.0, sum(60 * one.order.minutes + _START_SECONDS for one in ahead) - spent)

    async def _work(self, ticket: Ticket) -> AsyncGenerator[Running | Outcome | None, None]:
        began = ticket.began = time.monotonic()
        deadline = began + 60 * ticket.order.minutes + _GRACE_SECONDS
        asked = False
        worker = Worker(ticket.order)
        last = Point(0.0, "starting", float("nan"))
        first: float | None = None
        try:
            while True:
                for one in worker.news():
                    if isinstance(one, Outcome):
                        yield one
                        return
                    # Searches look ahead by their pace, so that a slow step can set them back.
                    last = replace(one, fraction=max(one.fraction, last.fraction))
                    if one.fraction > 0 and first is None:
                        first = time.monotonic()
                    if not math.isnan(one.loss):
                        ticket.losses.append((last.fraction, one.loss))
                if len(ticket.losses) > _CURVE:
                    del ticket.losses[::2]
                if ticket.cancelled and not asked:
                    asked, deadline = True, time.monotonic() + _STOP_SECONDS
                    worker.stop()
                if time.monotonic() > deadline:
                    if asked:
                        yield None
                        return
                    raise InputError(
                        "The job took far longer than its time and was ended. Try "
                        "again with more time, or fewer networks."
                    )
                # Both jobs spend a time; training that will not be finished in it is no progress.
                spent = 0.0 if first is None else time.monotonic() - first
                share = min(max(last.fraction, spent / (60 * ticket.order.minutes)), 1.0)
                yield Running(
                    share,
                    "stopping" if asked else last.stage,
                    time.monotonic() - began,
                    tuple(ticket.losses),
                )
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            worker.close()
